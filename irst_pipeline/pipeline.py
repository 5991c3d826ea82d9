"""Joins the stages: source -> (calibrate) -> engine -> detection and tracking -> sinks, each in a thread of its own.

Every stage hands its results on through a bounded queue, so that a slow stage holds the ones before it back instead of
letting frames pile up. The network works all the time; on few cores the others take turns. Order is kept, and an
exception in any stage ends the run with its cause. A recording waits for the slowest stage; a live source does not
wait, and what the network is too late for is dropped and counted.
"""

from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import closing, contextmanager, nullcontext
from itertools import chain
from threading import Event, Semaphore
from time import perf_counter
from typing import Any, TypeVar

import cv2

from irst_pipeline.bearings import Platform
from irst_pipeline.blind import BlindFrames
from irst_pipeline.config import RunSettings
from irst_pipeline.detection import detect
from irst_pipeline.engine import Engine
from irst_pipeline.errors import UsageError
from irst_pipeline.sinks import Sink
from irst_pipeline.sources import Source
from irst_pipeline.stage import POLL_SECONDS, TURN, Stage
from irst_pipeline.state import State, Stateful, part_of, state_of
from irst_pipeline.statistics import RunStatistics
from irst_pipeline.tracking.stabilise import Stabiliser
from irst_pipeline.tracking.tracker import Tracker
from irst_pipeline.types import STANDS_STILL, Frame, FrameResult, Span, TargetPixels, TrackStatus

T = TypeVar("T")
DRAIN_SECONDS = 1.0  # after a stop, frames that were read are worked on for so long; all ends within some 5 s


def run_pipeline(
    source: Source,
    engine: Engine[Any],
    settings: RunSettings,
    sinks: Sequence[Sink[FrameResult]],
    stop: Event,
    statistics: RunStatistics,
    platform: Platform | None = None,
    calibrate: Callable[[Frame], Frame] | None = None,
    state: State | None = None,
) -> Generator[FrameResult]:
    """Run to the end of the source, or until `stop` is set; yields each result once it is written.

    `statistics` is kept up to date, also when an exception of a stage ends the run. With a `platform` the results have
    a view into the world. What `calibrate` makes of a frame is the frame that all stages see; the time it takes counts
    as reading. With the `state` of a result, the tracks go on from there.
    """
    cv2.setNumThreads(1)  # the stages have threads of their own, and OpenCV's take a quarter more processor time
    statistics.begin()
    # Else whoever records frames as they are read would be at it until the exception of a stage is forgotten.
    with closing(fitting(source, calibrate, platform)) as frames_in:
        first = next(frames_in, None)
        if first is None or stop.is_set():
            return
        statistics.first_frame_came()
        # A frame that waits grows old: of a live source none waits but the newest.
        depth, drop = (1, statistics.drop) if source.live else (settings.queue_frames, None)
        # While a disk is slow, a camera's frames are to be tracked all the same; a recording has to wait for it anyhow.
        writing = nullcontext() if source.live else TURN
        sends_on = first.arrived is not None  # while the engine gets ready; a recording waits
        if not (sends_on or _prepared(engine, first, stop)):
            return
        with _closing(Stage(_read(chain([first], frames_in), stop, statistics), depth, drop), source) as frames:
            if sends_on and not _prepared(engine, first, stop):
                return
            statistics.engine_ready()
            places = engine.slots * engine.gathered + 1  # what the network works on, and one behind it
            room = Semaphore(places)
            searching = _drained(_newest(frames, room) if source.live else frames, stop)
            # All of them, for a stage that failed is still held by its exception: no thread may outlive the run.
            with (
                _closing(Stage(engine.run(searching), depth), source) as searched,
                _closing(
                    Stage(_track(searched, settings, platform, statistics, state or {}), depth), source
                ) as results,
            ):
                statistics.stages = {"network": frames, "track": searched, "write": results}
                try:
                    for result in results:
                        with writing:
                            before = perf_counter()
                            for sink in sinks:
                                sink.write(result)
                            result.spans["write"] = Span(before, perf_counter())
                        statistics.add(result)
                        room.release()
                        yield result
                finally:
                    room.release(places)  # else the network would wait, and not see that nobody takes its results


def _prepared(engine: Engine[Any], first: Frame, stop: Event) -> bool:
    """Have the engine get ready for frames like the first; whether it has before a stop, which does not wait for it.

    A large network takes a minute for large frames, and nothing interrupts it: Python's end would wait for it.
    """
    preparing = ThreadPoolExecutor(1)
    ready = preparing.submit(engine.prepare, first)
    preparing.shutdown(wait=False)
    while not wait([ready], POLL_SECONDS).done:
        if stop.is_set():
            return False
    ready.result()
    return True


@contextmanager
def _closing(stage: Stage[T], source: Source) -> Iterator[Stage[T]]:
    """A stage that is closed in the end, without waiting for a frame that may never come."""
    try:
        yield stage
    finally:
        source.stop_waiting()
        stage.close()


def fitting(source: Source, calibrate: Callable[[Frame], Frame] | None, platform: Platform | None) -> Generator[Frame]:
    """The frames, calibrated. Raises UsageError for one that calibration or camera model are not for.

    After one that they are for, such a one of a live source is only counted as failed: its camera may come to its
    senses.
    """
    fitted = False
    for frame in source:
        try:
            if platform:
                platform.refuse_another_size(frame)
            calibrated = calibrate(frame) if calibrate else frame
        except UsageError as error:
            if not (fitted and source.live):
                raise
            source.fail(f"frame {frame.index}: {str(error).removeprefix(f'{source.name}: ')}")
            continue
        fitted = True
        yield calibrated


def _read(frames: Iterator[Frame], stop: Event, statistics: RunStatistics) -> Iterator[Frame]:
    while not stop.is_set():
        started = perf_counter()
        frame = next(frames, None)
        if frame is None:
            break
        statistics.read(frame, started)
        yield frame
    statistics.reading_ended = True


def _drained(frames: Iterator[Frame], stop: Event) -> Iterator[Frame]:
    """The frames; after a stop those that wait are given up in a while, for a run that goes on reads them again."""
    until: float | None = None
    for frame in frames:
        if stop.is_set():
            until = until or perf_counter() + DRAIN_SECONDS
            if perf_counter() > until:
                return
        yield frame


def _newest(frames: Iterator[Frame], room: Semaphore) -> Iterator[Frame]:
    """The newest frame whenever there is room for one: those that wait behind a slow stage would grow old."""
    while room.acquire():
        if (frame := next(frames, None)) is None:
            return
        yield frame


def _track(
    searched: Iterable[tuple[Frame, TargetPixels, Span]],
    settings: RunSettings,
    platform: Platform | None,
    statistics: RunStatistics,
    state: State,
) -> Iterator[FrameResult]:
    tracker = Tracker(settings.tracker, settings.detection.threshold)
    stabiliser, blind = Stabiliser(settings.camera_motion), BlindFrames(settings.tracker.coast_seconds)
    stateful: dict[str, Stateful] = {"tracker": tracker, "stabiliser": stabiliser, "blind": blind}
    if platform:
        stateful["platform"] = platform
    for name, thing in stateful.items() if state else ():
        thing.restore(part_of(state, name))

    def followed(frame: Frame, found: TargetPixels, network: Span) -> FrameResult:
        t0 = perf_counter()
        detections, left_out = detect(frame, found, settings.detection)
        t1 = perf_counter()
        frame = blind.marked(frame, detections)
        motion = STANDS_STILL if frame.blind else stabiliser(frame.image)
        if platform and not (motion.known or frame.blind):
            motion = platform.motion(frame)
        t2 = perf_counter()
        tracks, events = tracker.step(frame, detections, motion)
        if not frame.blind:
            blind.followed(tracks, detections)
        view = platform(frame, motion) if platform else None
        own = {"detect": Span(t0, t1), "stabilise": Span(t1, t2), "track": Span(t2, perf_counter())}
        spans = {"read": statistics.reading(frame), "network": network, **own}
        dropped = statistics.dropped_before(frame)
        reported = tracks.status > TrackStatus.PRELIMINARY
        told, others = tracks.take(reported), tracks.take(~reported)
        state = state_of(stateful)
        return FrameResult(frame, detections, left_out, told, others, events, motion, spans, view, dropped, state)

    for item in searched:
        with TURN:
            result = followed(*item)
        yield result
