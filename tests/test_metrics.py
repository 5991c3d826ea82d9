"""What a monitoring system is told, over real HTTP, of real runs."""

import json
import logging
import os
import signal
import socket
import struct
import threading
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from prometheus_client.parser import text_string_to_metric_families

from irst_pipeline.cli import main
from irst_pipeline.config import LiveSettings, MetricsSettings, RunSettings
from irst_pipeline.engine.cpu import CpuEngine, Ticket
from irst_pipeline.errors import IrstError
from irst_pipeline.lsnet.weights import load_weights
from irst_pipeline.metrics import REQUESTS_MAX, WatchedRun, answering, health
from irst_pipeline.pipeline import run_pipeline
from irst_pipeline.runs import run_recordings
from irst_pipeline.sources import open_source
from irst_pipeline.statistics import LatencyHistogram, RunStatistics
from irst_pipeline.types import FrameResult, TargetPixels
from tests import running
from tests.running import CLOUDS, HORIZON, StubSink, write_images
from tests.sources.servers import camera
from tools.streaming import free_port

pytestmark = pytest.mark.alone

Samples = dict[tuple[str, ...], float]
"""Values by the name of the sample and the values of its labels, source first."""
wait_until = partial(running.wait_until, seconds=240)


def ask(port: int, path: str, host: str = "127.0.0.1") -> tuple[int, str]:
    try:
        with urllib.request.urlopen(f"http://{host}:{port}{path}", timeout=10) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()


def scrape(port: int) -> tuple[Samples, str]:
    code, text = ask(port, "/metrics")
    assert code == 200
    samples: Samples = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            labels = dict(sample.labels)
            key = (sample.name, *([labels.pop("source")] if "source" in labels else []), *labels.values())
            assert key not in samples
            samples[key] = sample.value
    return samples, text


@contextmanager
def working(work: Callable[[], Any], stop: threading.Event) -> Iterator[None]:
    """`work` in a thread of its own, which is stopped in the end and must then come to its own."""
    thread = threading.Thread(target=work)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join(120)
    assert not thread.is_alive()


def without_end(recording: Path, folder: Path) -> Path:
    """Its frames forwards and backwards, for ten minutes and more."""
    folder.mkdir()
    with closing(open_source(str(recording))) as source:
        images = [frame.image for frame in source]
    order = [*range(len(images)), *range(len(images) - 2, 0, -1)]
    for number in range(20_000):
        if number < len(images):
            assert cv2.imwrite(str(folder / f"{number}.png"), images[number])
        else:
            os.link(folder / f"{order[number % len(order)]}.png", folder / f"{number}.png")
    return folder


def accounted(samples: Samples, source: str) -> bool:
    dropped = sum(value for key, value in samples.items() if key[:2] == ("irst_frames_dropped_total", source))
    processed, flying = (samples[name, source] for name in ("irst_frames_processed_total", "irst_frames_in_flight"))
    return samples["irst_frames_read_total", source] == processed + flying + dropped


def test_a_recording_that_cannot_be_opened_is_told_while_the_others_run(tmp_path: Path) -> None:
    port, bad, stop = free_port(), Path(os.fsdecode(os.fsencode(tmp_path) + b"/bad\xff.mp4")), threading.Event()
    bad.write_bytes(bytes(range(256)))
    good = write_images(tmp_path / "good", 20_000)
    settings = RunSettings(device="cpu", sinks=("tracks_jsonl",), metrics=MetricsSettings(port=port))

    def work() -> None:
        with pytest.raises(IrstError, match="1 of 2 sources could not go on"):
            run_recordings([str(bad), str(good)], settings, tmp_path / "out", False, True, stop)

    def told() -> bool:
        try:
            code, body = ask(port, "/healthz")
        except OSError:
            return False  # nobody answers there yet
        sources = json.loads(body)["sources"]
        return code == 503 and sources.get("good") == "ok" and "failed: " in sources.get("bad\ufffd.mp4", "")

    with working(work, stop):
        wait_until(told, "what cannot be opened is told")
        samples, _ = scrape(port)
        assert samples["irst_frames_read_total", "bad\ufffd.mp4"] == 0
        assert samples["irst_memory_bytes", "bad\ufffd.mp4"] == 0, "no process works on it"


def test_a_recording_and_a_camera_that_stops_and_comes_back(tmp_path: Path) -> None:
    port, place = free_port(), free_port()
    uri = f"tcp://admin:s3cret@127.0.0.1:{place}/live?token=s3cret"
    name = f"127-0-0-1-{place}-live"
    settings = RunSettings(
        device="cpu",
        sinks=("tracks_jsonl",),
        live=LiveSettings(read_seconds=0.5, retry_seconds=0.5),
        metrics=MetricsSettings(port=port, stale_seconds=2.0),
    )
    stop, told = threading.Event(), list[str]()

    def healthy() -> bool:
        code, body = ask(port, "/healthz")
        told.append(body)
        found = json.loads(body)
        assert (code == 200) == (found["status"] == "ok")
        assert code in (200, 503)
        return code == 200

    def why(words: str) -> bool:
        return not healthy() and words in json.loads(told[-1])["sources"].get(name, "")

    def up() -> bool:
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", port)) == 0

    with working(lambda: run_recordings([str(CLOUDS), uri], settings, tmp_path, False, False, stop), stop):
        wait_until(up, "the port is answered")
        wait_until(lambda: why("no frame has come yet"), "the camera is waited for")
        with camera(place) as process:
            wait_until(healthy, "all is well")
            for _ in range(20):
                samples, text = scrape(port)
                told.append(text)
                assert 0 <= samples["irst_queue_frames", name, "network"] <= 1
                assert accounted(samples, name)
                assert accounted(samples, CLOUDS.name)
            process.send_signal(signal.SIGSTOP)
            wait_until(lambda: why("no frame for"), "the silence is noticed")
            process.send_signal(signal.SIGCONT)
            wait_until(healthy, "all is well again")
            report = tmp_path / "sequence16" / "run.json"
            wait_until(report.exists, "the recording comes to its end")
            frames = json.loads(report.read_text())["frames_processed"]
            wait_until(
                lambda: scrape(port)[0]["irst_frames_processed_total", CLOUDS.name] == frames,
                "what its process has last counted is told here as well",
            )
            samples, text = scrape(port)
            told.append(text)
    assert not up()
    assert samples["irst_reconnects_total", name] >= 1
    assert samples["irst_tracks_confirmed_total", CLOUDS.name] == json.loads(report.read_text())["tracks_confirmed"] > 0
    assert_equal(samples, CLOUDS.name, json.loads(report.read_text()))
    assert samples[("process_resident_memory_bytes",)] > 1e7
    for text in told:
        assert "s3cret" not in text
        assert "admin" not in text


@pytest.mark.gpu
def test_the_memory_of_a_gpu_is_told() -> None:
    held, port = torch.zeros(1 << 20, device="cuda"), free_port()
    with answering(MetricsSettings(port=port), []):
        samples, _ = scrape(port)
    assert samples["irst_gpu_memory_bytes", "0", "allocated"] >= held.numel() * held.element_size()
    assert samples["irst_gpu_memory_bytes", "0", "reserved"] >= samples["irst_gpu_memory_bytes", "0", "allocated"]


def assert_equal(samples: Samples, name: str, report: dict[str, Any]) -> None:
    """What was scraped after the end of a run is what its report says."""
    for what in ("read", "processed", "failed"):
        assert samples[f"irst_frames_{what}_total", name] == report[f"frames_{what}"]
    for cause, count in report["dropped"].items():
        assert samples["irst_frames_dropped_total", name, cause] == count
    assert samples["irst_frames_in_flight", name] == 0
    assert samples["irst_reconnects_total", name] == report["reconnects"]
    assert samples["irst_glass_to_track_seconds_count", name] == report["frames_processed"]
    for stage in ("read", "network", "detect", "stabilise", "track", "write"):
        assert samples["irst_stage_seconds_count", name, stage] == report["frames_processed"]
        mean = samples["irst_stage_seconds_sum", name, stage] / report["frames_processed"]
        assert 0 < 1e3 * mean < 3 * report["latency_ms"][stage]["p99"]
    buckets = [value for key, value in samples.items() if key[:2] == ("irst_glass_to_track_seconds_bucket", name)]
    assert buckets == sorted(buckets)
    assert buckets[-1] == report["frames_processed"]


def test_what_a_full_disk_takes_is_told_while_it_does_and_in_the_summary(
    small_disk: Path, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    port, stop = free_port(), threading.Event()
    settings = RunSettings(device="cpu", sinks=("tracks_jsonl",), metrics=MetricsSettings(port=port))
    names = "clouds", "horizon"
    pairs = zip((CLOUDS, HORIZON), names, strict=True)
    films = [str(without_end(recording, small_disk.parent / name)) for recording, name in pairs]

    def work() -> None:
        with pytest.raises(IrstError, match="2 of 2 sources could not go on"):
            run_recordings(films, settings, small_disk, False, True, stop)

    def lacking(name: str) -> float:
        try:
            return scrape(port)[0].get(("irst_frames_not_written_total", name, "tracks_jsonl"), -1)
        except OSError:
            return -1  # nobody answers there yet

    def told() -> bool:
        sources = json.loads(ask(port, "/healthz")[1])["sources"]
        return all(sources[name] == "frames cannot be stored in tracks_jsonl" for name in names)

    with working(work, stop):
        wait_until(lambda: [lacking(name) for name in names] == [0, 0], "both run")
        with pytest.raises(OSError, match="No space"):
            (small_disk / "other").write_bytes(bytes(1_000_000))
        wait_until(told, "the full disk is told")
        assert min(map(lacking, names)) > 0
    summary = capsys.readouterr().out
    assert summary.count(" not in tracks_jsonl") == 2
    for folder in names:
        assert f"error: {small_disk / folder / 'run.json'}: cannot write it (No space left on device)" in caplog.text


class HeldEngine(CpuEngine):
    """Stops in the middle of a frame until it is let go."""

    let_go: threading.Event

    def collect(self, ticket: Ticket) -> list[TargetPixels]:
        self.let_go.wait(60)
        return super().collect(ticket)


class HeldSink(StubSink):
    """Takes a frame for ever, until it is let go."""

    def __init__(self, let_go: threading.Event) -> None:
        self._let_go = let_go

    def write(self, _result: FrameResult) -> None:
        self._let_go.wait(60)


@pytest.mark.parametrize("stuck", ["network", "write"])
def test_a_stage_that_is_stuck_is_named(stuck: str) -> None:
    settings, statistics, stop = RunSettings(), RunStatistics(), threading.Event()
    engine = HeldEngine(load_weights("lsnet-nano").network, settings.detection.lowest, newest=False)
    engine.let_go, sink = threading.Event(), HeldSink(threading.Event())
    held, free = (engine.let_go, sink._let_go) if stuck == "network" else (sink._let_go, engine.let_go)
    free.set()
    with closing(open_source(str(CLOUDS))) as source:
        run = [WatchedRun("clouds", partial(statistics.account, source, 0.5))]
        assert health(run)["status"] == "ok"  # it waits for its turn
        with working(lambda: list(run_pipeline(source, engine, settings, [sink], stop, statistics)), stop):
            wait_until(lambda: f"clouds: {stuck} has been at one frame" in health(run).get("reason", ""), stuck)
            held.set()
            wait_until(lambda: health(run)["status"] == "ok", "it goes on")
    assert statistics.reading_ended


def test_only_this_machine_may_ask_unless_told_otherwise() -> None:
    for host, others in (("127.0.0.1", False), ("0.0.0.0", True)):
        port = free_port()
        with answering(MetricsSettings(port=port, host=host), []):
            code, body = ask(port, "/healthz")
            assert (code, json.loads(body)["reason"]) == (503, "starting: the sources are being opened")
            assert ask(port, "/")[0] == 404
            with socket.create_connection(("127.0.0.1", port)) as client:
                client.sendall(b"HEAD /metrics HTTP/1.0\r\n\r\n")
                head, end, after = b"".join(iter(lambda: client.recv(4096), b"")).partition(b"\r\n\r\n")
            assert head.startswith(b"HTTP/1.0 200")
            assert (end, after) == (b"\r\n\r\n", b"")
            with socket.socket() as probe:
                assert (probe.connect_ex(("127.0.0.2", port)) == 0) == others


def test_an_address_of_ipv6_is_answered_at() -> None:
    port = free_port()
    with answering(MetricsSettings(port=port, host="::1"), []):
        assert ask(port, "/metrics", "[::1]")[0] == 200


def test_a_client_that_says_nothing_holds_nobody_up(caplog: pytest.LogCaptureFixture) -> None:
    port = free_port()
    with answering(MetricsSettings(port=port), []):
        mute = [socket.create_connection(("127.0.0.1", port)) for _ in range(20)]
        assert ask(port, "/metrics")[0] == 200
        for connection in mute:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))  # with a reset
            connection.close()
        assert ask(port, "/metrics")[0] == 200
    assert not [record for record in caplog.records if record.levelno >= logging.WARNING]


def test_clients_that_never_end_their_requests_hold_few_threads_and_not_for_long(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("irst_pipeline.metrics.REQUEST_SECONDS", 2.0)
    port, before = free_port(), threading.active_count()
    with answering(MetricsSettings(port=port), []), ExitStack() as opened:
        left = [opened.enter_context(socket.create_connection(("127.0.0.1", port))) for _ in range(100)]
        for client in left:
            client.sendall(b"GET /metrics HTTP/1.1\r\nX: ")

        def drip() -> bool:
            """A byte to all that still take it; whether none does."""
            for client in list(left):
                try:
                    client.sendall(b"a")
                except OSError:
                    left.remove(client)
            return not left

        wait_until(lambda: drip() or len(left) <= REQUESTS_MAX, "only the newest are served")
        assert ask(port, "/healthz")[0] == 503
        assert threading.active_count() - before < REQUESTS_MAX + 10
        wait_until(drip, "none is served for long")


@pytest.mark.parametrize("host", ["127.0.0.1", "192.0.2.7", "a..b"])
def test_a_port_that_cannot_be_had_is_one_line(host: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        arguments = ["--metrics", str(port), "--set", f"metrics.host={host}", "--out", str(tmp_path / "out")]
        assert main(["run", str(CLOUDS), "--device", "cpu", *arguments]) == 2
    error = capsys.readouterr().err
    assert error.startswith(f"irst: error: metrics at {host}:{port}: cannot answer there (")
    assert error.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_buckets_hold_the_durations_below_them() -> None:
    durations = np.random.default_rng(0).lognormal(-4, 1, 5000)
    histogram = LatencyHistogram()
    for seconds in durations:
        histogram.add(seconds)
    bounds: Sequence[float] = (1e-9, 0.005, 0.02, 0.1, 1e9)
    *below, total = histogram.below(bounds)
    assert total == 5000
    for bound, count in zip(bounds, below, strict=True):
        assert np.sum(durations < bound / 1.01) <= count <= np.sum(durations < bound * 1.01)
    assert histogram.seconds == pytest.approx(durations.sum())
