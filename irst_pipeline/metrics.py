"""What a monitoring system may ask of runs under way: Prometheus metrics and health, over HTTP."""

import json
import logging
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from io import BytesIO
from socket import SHUT_RD, getaddrinfo
from socketserver import ThreadingTCPServer
from threading import Thread
from time import perf_counter
from typing import Any, NamedTuple

import torch
from prometheus_client import CollectorRegistry, MetricsHandler, ProcessCollector
from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

from irst_pipeline.config import MetricsSettings
from irst_pipeline.errors import UsageError
from irst_pipeline.stage import POLL_SECONDS
from irst_pipeline.statistics import Account, LatencyHistogram

log = logging.getLogger("irst")

BOUNDS = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0)  # s, of the histograms
REQUEST_SECONDS = 5.0  # of a client that is slower about its request no more is read
REQUESTS_MAX = 32  # at a time; for one more, no more is read of the oldest one
END_OF_HEAD = b"\r\n\r\n"


class WatchedRun(NamedTuple):
    """A run that may be asked about."""

    name: str
    """Of its source, told apart from its namesakes."""
    account: Callable[[], Account]
    """What it has come to by now."""


class RunCollector(Collector):
    """The account of every run at the time of asking, as Prometheus has it."""

    def __init__(self, runs: Sequence[WatchedRun]) -> None:
        self._runs = runs

    def collect(self) -> Iterator[Metric]:
        of_source, of_stage = ["source"], ["source", "stage"]
        read = CounterMetricFamily("irst_frames_read", "Frames that came and could be read.", labels=of_source)
        processed = CounterMetricFamily("irst_frames_processed", "Frames that came to tracks.", labels=of_source)
        dropped = CounterMetricFamily("irst_frames_dropped", "Frames given up, by cause.", labels=["source", "cause"])
        flying = GaugeMetricFamily("irst_frames_in_flight", "Read, not yet processed or dropped.", labels=of_source)
        failed = CounterMetricFamily("irst_frames_failed", "Frames that could not be read.", labels=of_source)
        reconnects = CounterMetricFamily("irst_reconnects", "Times that frames came again.", labels=of_source)
        lacking = CounterMetricFamily(
            "irst_frames_not_written", "Of the processed frames, those that a file lacks.", labels=["source", "file"]
        )
        detections = CounterMetricFamily("irst_detections", "Detections, weak ones too.", labels=of_source)
        confirmed = CounterMetricFamily("irst_tracks_confirmed", "Tracks confirmed.", labels=of_source)
        memory = GaugeMetricFamily(
            "irst_memory_bytes", "Memory of the process that works on a source.", labels=of_source
        )
        tracks = GaugeMetricFamily("irst_tracks", "Tracks after the last frame.", labels=["source", "status"])
        queues = GaugeMetricFamily("irst_queue_frames", "Frames that wait before a stage.", labels=of_stage)
        stages = HistogramMetricFamily("irst_stage_seconds", "Work of a stage on a frame.", labels=of_stage)
        glass = HistogramMetricFamily(
            "irst_glass_to_track_seconds", "From when a frame came until its tracks were written.", labels=of_source
        )
        for name, account_of in self._runs:
            account = account_of()
            counts = account.counts
            read.add_metric([name], counts.frames_read)
            processed.add_metric([name], counts.frames_processed)
            flying.add_metric([name], counts.frames_in_flight)
            failed.add_metric([name], account.frames_failed)
            reconnects.add_metric([name], account.reconnects)
            memory.add_metric([name], account.memory_bytes)
            detections.add_metric([name], counts.detections)
            confirmed.add_metric([name], counts.tracks_confirmed)
            for cause, frames in counts.frames_dropped._asdict().items():
                dropped.add_metric([name, cause], frames)
            for file, frames in account.frames_not_written.items():
                lacking.add_metric([name, file], frames)
            for status, alive in counts.tracks.items():
                tracks.add_metric([name, status], alive)
            for taker, frames in account.waiting.items():
                queues.add_metric([name, taker], frames)
            glass.add_metric([name], *_histogram(counts.glass_to_track))
            for work, latency in counts.latency.items():
                stages.add_metric([name, work], *_histogram(latency))
        yield from (read, processed, dropped, flying, failed, lacking, reconnects, detections, confirmed)
        yield from (memory, tracks, queues, stages, glass)
        yield from _gpu_memory()


def _histogram(latency: LatencyHistogram) -> tuple[list[tuple[str, float]], float]:
    """Its buckets and its sum, for a family of histograms."""
    bounds = [*map(str, BOUNDS), "+Inf"]
    return list(zip(bounds, latency.below(BOUNDS), strict=True)), latency.seconds


def _gpu_memory() -> Iterator[Metric]:
    if not torch.cuda.is_initialized():
        return
    memory = GaugeMetricFamily("irst_gpu_memory_bytes", "GPU memory of this process.", labels=["device", "kind"])
    for device in range(torch.cuda.device_count()):
        memory.add_metric([str(device), "allocated"], torch.cuda.memory_allocated(device))
        memory.add_metric([str(device), "reserved"], torch.cuda.memory_reserved(device))
    yield memory


def health(runs: Sequence[WatchedRun]) -> dict[str, Any]:
    """`status` ok or unhealthy, and of each source ok or why not; runs of which none is known yet are not healthy."""
    ailments = {run.name: run.account().ailment for run in runs}
    if not ailments:
        return {"status": "unhealthy", "reason": "starting: the sources are being opened", "sources": {}}
    reason = "; ".join(f"{name}: {why}" for name, why in ailments.items() if why)
    found: dict[str, Any] = {"status": "unhealthy", "reason": reason} if reason else {"status": "ok"}
    return found | {"sources": {name: why or "ok" for name, why in ailments.items()}}


class _Server(ThreadingTCPServer):
    allow_reuse_address = True  # of a run that has just ended
    daemon_threads = True
    request_queue_size = 64

    def __init__(self, host: str, port: int, handler: type[MetricsHandler]) -> None:
        self.address_family = getaddrinfo(host, port)[0][0]  # of ::1 another than of 127.0.0.1
        self._since: dict[Any, float] = {}  # when the requests came that are being answered, the oldest first
        super().__init__((host, port), handler)

    def process_request(self, request: Any, client_address: Any) -> None:
        self._since[request] = perf_counter()
        super().process_request(request, client_address)

    def service_actions(self) -> None:
        """Called after each request, and every POLL_SECONDS: those that are to end see an end of what they read."""
        overdue = perf_counter() - REQUEST_SECONDS
        for request, since in list(self._since.items()):
            if since < overdue or len(self._since) > REQUESTS_MAX:
                self._since.pop(request, None)
                with suppress(OSError):  # the client is gone
                    request.shutdown(SHUT_RD)

    def shutdown_request(self, request: Any) -> None:
        self._since.pop(request, None)
        super().shutdown_request(request)

    def handle_error(self, *_: object) -> None:
        error = sys.exc_info()[1]
        if not isinstance(error, OSError):  # that of a client that is gone is its own, however many there are in weeks
            log.warning("metrics: a request was not answered: %s", error)


def _handler_about(runs: Sequence[WatchedRun]) -> type[MetricsHandler]:
    """What answers the requests about `runs`, which may grow."""
    known = CollectorRegistry()
    known.register(RunCollector(runs))
    ProcessCollector(registry=known)

    class Handler(MetricsHandler):
        registry = known
        timeout = REQUEST_SECONDS

        def do_GET(self) -> None:  # noqa: N802 (the name that http.server asks for)
            path = self.path.partition("?")[0]
            if path == "/metrics":
                super().do_GET()
            elif path == "/healthz":
                found = health(runs)
                self._answer(200 if found["status"] == "ok" else 503, found)
            else:
                self._answer(404, {"status": "not found", "known": ["/metrics", "/healthz"]})

        def do_HEAD(self) -> None:  # noqa: N802
            """What GET answers without its body; some monitors ask for no more."""
            client, self.wfile = self.wfile, BytesIO()
            self.do_GET()
            head = self.wfile.getvalue().partition(END_OF_HEAD)[0]
            self.wfile = client
            self.wfile.write(head + END_OF_HEAD)

        def _answer(self, code: int, body: dict[str, Any]) -> None:
            self.send_response(code)
            self.send_header("Content-Type", "application/json")
            self.end_headers()
            self.wfile.write(f"{json.dumps(body)}\n".encode())

    return Handler


@contextmanager
def answering(settings: MetricsSettings, runs: Sequence[WatchedRun]) -> Iterator[None]:
    """Answers about `runs`, which may grow, while the context lasts; does nothing without a port.

    Raises UsageError, one line, for a port that is taken or an address that is not this machine's.
    """
    if settings.port is None:
        yield
        return
    host = f"[{settings.host}]" if ":" in settings.host else settings.host
    place = f"{host}:{settings.port}"
    try:
        server = _Server(settings.host, settings.port, _handler_about(runs))
    except (OSError, UnicodeError) as error:  # the latter of a name that no host can have
        reason = getattr(error, "strerror", None) or error
        why = f"cannot answer there ({reason}); choose another port with --metrics, or another metrics.host"
        raise UsageError(f"metrics at {place}: {why}") from None
    with server:
        thread = Thread(target=server.serve_forever, args=[POLL_SECONDS], daemon=True)
        thread.start()
        log.info("metrics at http://%s/metrics, health at http://%s/healthz", place, place)
        try:
            yield
        finally:
            server.shutdown()
            thread.join()
