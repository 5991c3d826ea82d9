"""Joins the rooms: source -> (calibrate) -> engine -> detection and tracking -> sinks, each in a thread of its own.

Every stage hands its results on through a bounded queue, so that a slow stage holds the ones before it back instead of
letting frames pile up. Order is kept, and an exception in any stage ends the run with its cause. A recording waits for
the slowest stage; a live source does not wait, and what the network is too late for is dropped and counted.
"""

from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass, field
from itertools import chain
from queue import Empty, Full, Queue
from threading import Event, Thread
from time import perf_counter
from typing import Any, TypeVar

import cv2
import numpy as np

from irst_pipeline.bearings import Platform
from irst_pipeline.config import RunSettings
from irst_pipeline.detection import detect
from irst_pipeline.engine import Engine
from irst_pipeline.sinks import Sink
from irst_pipeline.sources import Source
from irst_pipeline.tracking.stabilise import Stabiliser
from irst_pipeline.tracking.tracker import Tracker
from irst_pipeline.types import Frame, FrameResult, Span, TargetPixels

T = TypeVar("T")
POLL_SECONDS = 0.1
_END = object()


class LatencyHistogram:
    """Durations from 10 us to 1,000 s, counted in bins 1 % wide: percentiles of a run of any length in fixed memory."""

    SHORTEST, RATIO, BINS = 1e-5, 1.01, 1852

    def __init__(self) -> None:
        self._counts = np.zeros(self.BINS, np.int64)

    def add(self, seconds: float) -> None:
        position = np.log(max(seconds, self.SHORTEST) / self.SHORTEST) / np.log(self.RATIO)
        self._counts[min(int(position), self.BINS - 1)] += 1

    def percentiles(self) -> dict[str, float]:
        """p50, p95 and p99 in ms; empty without any duration."""
        total = self._counts.cumsum()
        if not total[-1]:
            return {}
        bins = {p: int(np.searchsorted(total, p / 100 * total[-1])) for p in (50, 95, 99)}
        return {f"p{p}": round(1e3 * self.SHORTEST * self.RATIO ** (b + 0.5), 3) for p, b in bins.items()}


@dataclass
class RunStatistics:
    """What a run counted, growing as it goes."""

    frames: int = 0
    """Processed and written."""
    frames_dropped: int = 0
    """Of a live source, given up for a newer one."""
    seconds: float = 0.0
    tracks_confirmed: int = 0
    latency: dict[str, LatencyHistogram] = field(default_factory=dict)
    """By stage (read, network, detect, stabilise, track, write), and `total`: from before reading until written."""

    def add(self, result: FrameResult) -> None:
        """Count a frame that is written."""
        self.frames += 1
        self.tracks_confirmed += sum(event.kind == "confirmed" for event in result.events)
        durations = {stage: span.seconds for stage, span in result.spans.items()}
        durations = {"total": result.spans["write"].end - result.spans["read"].start, **durations}
        for stage, seconds in durations.items():
            self.latency.setdefault(stage, LatencyHistogram()).add(seconds)

    def report(self, source: Source) -> dict[str, Any]:
        """The counters as `run.json` holds them."""
        return {
            "frames_read": self.frames + self.frames_dropped,
            "frames_dropped": self.frames_dropped,
            "frames_failed": source.frames_failed,
            "reconnects": source.reconnects,
            "frames_per_second": round(self.frames / self.seconds, 2) if self.seconds else 0.0,
            "tracks_confirmed": self.tracks_confirmed,
            "latency_ms": {stage: histogram.percentiles() for stage, histogram in self.latency.items()},
        }


def run_pipeline(
    source: Source,
    engine: Engine[Any],
    settings: RunSettings,
    sinks: Sequence[Sink],
    stop: Event,
    statistics: RunStatistics,
    platform: Platform | None = None,
    calibrate: Callable[[Frame], Frame] | None = None,
) -> Generator[FrameResult]:
    """Run to the end of the source, or until `stop` is set; yields each result once it is written.

    `statistics` is kept up to date, also when an exception of a stage ends the run; its clock starts once the engine is
    ready for the first frame. With a `platform` the results have a view into the world. What `calibrate` makes of a
    frame is the frame that all stages see; the time it takes counts as reading.
    """
    cv2.setNumThreads(1)  # the stages have threads of their own, and OpenCV's take a quarter more processor time
    frames_in = map(calibrate, source) if calibrate else iter(source)
    first = next(frames_in, None)
    if first is None:
        return
    engine.prepare(first)
    readings: dict[int, Span] = {}  # of the frames on their way to the tracker, by their index

    def drop(frame: Frame) -> None:
        del readings[frame.index]
        statistics.frames_dropped += 1

    # A frame that waits grows old: of a live source none waits but the newest.
    depth = 1 if source.live else settings.queue_frames
    read = _read(chain([first], frames_in), stop, readings)
    frames = in_thread(read, depth, drop if source.live else None)
    searched = in_thread(engine.run(frames), depth)
    results = in_thread(_track(searched, settings, platform, readings), depth)
    begun = perf_counter()
    # All of them, for a stage that failed is still held by its exception: no thread may outlive the run.
    with closing(frames), closing(searched), closing(results):
        for result in results:
            before = perf_counter()
            for sink in sinks:
                sink.write(result)
            result.spans["write"] = Span(before, perf_counter())
            statistics.add(result)
            statistics.seconds = result.spans["write"].end - begun
            yield result


def _read(frames: Iterator[Frame], stop: Event, readings: dict[int, Span]) -> Iterator[Frame]:
    while not stop.is_set():
        started = perf_counter()
        frame = next(frames, None)
        if frame is None:
            return
        readings[frame.index] = Span(started, perf_counter())
        yield frame


def _track(
    searched: Iterable[tuple[Frame, TargetPixels, Span]],
    settings: RunSettings,
    platform: Platform | None,
    readings: dict[int, Span],
) -> Iterator[FrameResult]:
    tracker, stabiliser = Tracker(settings.tracker), Stabiliser(settings.camera_motion)
    for frame, found, network in searched:
        read = readings.pop(frame.index)
        t0 = perf_counter()
        detections = detect(frame, found, settings.detection)
        t1 = perf_counter()
        motion = stabiliser(frame.image)
        t2 = perf_counter()
        tracks, events = tracker.step(frame, detections, motion)
        view = platform(frame, motion) if platform else None
        own = {"detect": Span(t0, t1), "stabilise": Span(t1, t2), "track": Span(t2, perf_counter())}
        spans = {"read": read, "network": network, **own}
        yield FrameResult(frame, detections, tracks, events, motion, spans, view)


def in_thread(items: Iterable[T], depth: int, drop: Callable[[T], None] | None = None) -> Generator[T]:
    """Iterate `items` in a thread of its own, at most `depth` of them ahead of the consumer.

    Without `drop` the thread waits where the consumer is slower; with it, the oldest item that waits is dropped, and
    told to `drop`. An exception in `items` is raised here, after the items before it. When the consumer stops early,
    the thread ends.
    """
    queue: Queue[Any] = Queue(depth)
    abandoned = Event()
    failure: list[BaseException] = []

    def hand_over(item: Any) -> bool:
        while not abandoned.is_set():
            try:
                queue.put(item, timeout=0 if drop and item is not _END else POLL_SECONDS)
                return True
            except Full:
                if drop and item is not _END:
                    with suppress(Empty):  # the consumer was faster
                        drop(queue.get_nowait())
        return False

    def work() -> None:
        iterator = iter(items)
        try:
            for item in iterator:
                if not hand_over(item):
                    break
        except BaseException as error:
            failure.append(error)
        finally:
            # Closing a generator in the thread that ran it ends the stages before it in turn.
            getattr(iterator, "close", lambda: None)()
            hand_over(_END)

    thread = Thread(target=work, daemon=True)
    thread.start()
    try:
        while True:
            item = queue.get()
            if item is _END:
                break
            yield item
    finally:
        abandoned.set()
        thread.join()
    if failure:
        raise failure[0]
