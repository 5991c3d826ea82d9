"""The threads between the stages, and the clock."""

import os
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from irst_pipeline.config import RunSettings
from irst_pipeline.engine import open_engine
from irst_pipeline.engine.cpu import CpuEngine
from irst_pipeline.errors import IrstError
from irst_pipeline.lsnet.weights import load_weights
from irst_pipeline.pipeline import run_pipeline
from irst_pipeline.run import Run, carry_out, run_header
from irst_pipeline.sources import open_source
from irst_pipeline.stage import Stage
from irst_pipeline.statistics import LatencyHistogram, RunStatistics
from irst_pipeline.types import FrameResult, Image
from tests.running import CLOUDS, StubSink, read_jsonl, shown

pytestmark = pytest.mark.alone


def test_items_come_in_order() -> None:
    assert list(Stage(range(1000), 3)) == list(range(1000))


def test_a_fast_producer_waits() -> None:
    made = []

    def produce() -> Iterator[int]:
        for i in range(100):
            made.append(i)
            yield i

    for taken, _ in enumerate(Stage(produce(), 2), start=1):
        time.sleep(0.001)
        # Two in the queue, one in the producer's hand.
        assert len(made) <= taken + 3


def test_a_failure_comes_after_what_was_made_before_it() -> None:
    def produce() -> Iterator[int]:
        yield from range(3)
        raise RuntimeError("broken")

    taken: list[int] = []
    with pytest.raises(RuntimeError, match="broken"):
        taken.extend(Stage(Stage(produce(), 2), 2))
    assert taken == [0, 1, 2]


def test_a_slow_consumer_gets_the_newest_item_and_every_other_one_is_told() -> None:
    dropped: list[int] = []
    taken = []
    waiting, made = threading.Event(), threading.Event()

    def produce() -> Iterator[int]:
        yield 0
        assert waiting.wait(60)
        yield from range(1, 50)
        made.set()

    for item in Stage(produce(), 1, dropped.append):
        taken.append(item)
        waiting.set()
        assert made.wait(60)
    assert taken == [0, 49]
    assert dropped == list(range(1, 49))


def test_a_fast_consumer_gets_every_item() -> None:
    dropped, taken, asked = list[int](), list[int](), threading.Semaphore()

    def produce() -> Iterator[int]:
        for i in range(20):
            assert asked.acquire(timeout=60)
            yield i

    for item in Stage(produce(), 1, dropped.append):
        taken.append(item)
        asked.release()
    assert taken == list(range(20))
    assert not dropped


class SlowSink(StubSink):
    """Takes its time over each result."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self.results: list[FrameResult] = []

    def write(self, result: FrameResult) -> None:
        time.sleep(self._seconds)
        self.results.append(result)


def came_and_written(result: FrameResult) -> tuple[float, float]:
    return result.spans["read"].start, result.spans["write"].end


def test_a_live_source_drops_what_is_late_and_latency_is_bounded() -> None:
    """90 frames at 25 a second, of which a sink can take one in 0.16 s."""
    slow, statistics = SlowSink(0.16), RunStatistics()
    engine = open_engine(load_weights("lsnet-nano").network, "cpu", RunSettings().detection.lowest, newest=True)
    with closing(open_source(str(CLOUDS), realtime=True)) as source:
        for _ in run_pipeline(source, engine, RunSettings(), [slow], threading.Event(), statistics):
            counts = statistics.counts()
            under_way = counts.frames_processed + counts.frames_in_flight
            assert counts.frames_read == under_way + sum(counts.frames_dropped)
        found = statistics.report(source)
    indices = [result.frame.index for result in slow.results]
    assert indices == sorted(set(indices))
    assert found["frames_dropped"] > 30
    assert found["frames_read"] == len(indices) + found["frames_dropped"] == 90
    dropped = [dropped for result in slow.results for dropped in result.dropped]
    for cause, count in found["dropped"].items():
        assert count == sum(len(frames) for frames in dropped if frames.cause == cause)
    lost = [index for frames in dropped for index in range(frames.first, frames.last + 1)]
    assert sorted(indices + lost) == list(range(90))
    # The network works on one, one is behind it, one is written and one waits: however slow the machine is, a frame is
    # written before four others are that came earlier.
    came, written = (np.array(times) for times in zip(*map(came_and_written, slow.results), strict=True))
    assert max(((came_i < written) & (written < end)).sum() for came_i, end in zip(came, written, strict=True)) < 4
    assert np.median(written - came) < 4 * 0.16
    assert (written - came).max() < 5 * np.diff(written).max()


def test_what_is_stored_of_a_live_run_counts_the_drops_that_are_logged() -> None:
    """As in a checkpoint, which is taken while frames are dropped after the one that was written last."""
    slow, statistics = SlowSink(0.16), RunStatistics()
    engine = open_engine(load_weights("lsnet-nano").network, "cpu", RunSettings().detection.lowest)
    unlogged = 0
    with closing(open_source(str(CLOUDS), realtime=True)) as source:
        for _ in run_pipeline(source, engine, RunSettings(), [slow], threading.Event(), statistics):
            stored = RunStatistics()
            stored.restore(statistics.state())
            counts = stored.counts()
            logged = sum(len(frames) for result in slow.results for frames in result.dropped)
            assert sum(counts.frames_dropped) == logged
            assert counts.frames_read == counts.frames_processed + logged == slow.results[-1].frame.index + 1
            unlogged = max(unlogged, sum(statistics.counts().frames_dropped) - logged)
    assert unlogged > 3


def test_stopping_early_ends_every_thread() -> None:
    closed = threading.Event()

    def produce() -> Iterator[int]:
        try:
            while True:
                yield 0
        finally:
            closed.set()

    before = set(threading.enumerate())
    stages = Stage(Stage(Stage(produce(), 1), 1), 1)
    next(stages)
    assert len(set(threading.enumerate()) - before) == 3
    stages.close()
    assert closed.is_set()
    assert set(threading.enumerate()) <= before


class BrokenSink(StubSink):
    """Takes two results and no more."""

    def __init__(self) -> None:
        self.taken = 0

    def write(self, _result: FrameResult) -> None:
        self.taken += 1
        if self.taken > 2:
            raise IrstError("broken")


def test_no_thread_outlives_a_run_that_fails() -> None:
    """With real stages between the threads, and the exception that holds their frames still alive."""
    before = set(threading.enumerate())
    engine = open_engine(load_weights("lsnet-nano").network, "cpu", RunSettings().detection.lowest)
    source = open_source(str(CLOUDS))
    results = run_pipeline(source, engine, RunSettings(), [BrokenSink()], threading.Event(), RunStatistics())
    with pytest.raises(IrstError, match="broken") as caught:
        list(results)
    assert caught.value.__traceback__ is not None
    assert set(threading.enumerate()) <= before
    source.close()


class VanishingEngine(CpuEngine):
    """A device that is pulled out after 20 frames."""

    taken = 0

    def submit(self, images: Sequence[Image]) -> Any:
        self.taken += 1
        if self.taken > 20:
            raise IrstError("the device is gone")
        return super().submit(images)


def test_a_device_that_vanishes_leaves_all_that_came_before(tmp_path: Path) -> None:
    weights, settings = load_weights("lsnet-nano"), RunSettings()
    engine = VanishingEngine(weights.network, settings.detection.lowest, newest=False)
    with closing(open_source(str(CLOUDS))) as source:
        run = Run(source, tmp_path, run_header(str(CLOUDS), source, weights, engine, settings))
        results: list[FrameResult] = []
        with pytest.raises(IrstError, match="the device is gone"):
            results.extend(carry_out(run, engine, threading.Event(), RunStatistics()))
    written = read_jsonl(tmp_path / "tracks.jsonl")
    last = max(record["frame"] for record in written if "frame" in record)
    assert last >= 20 - engine.slots - 1
    assert shown(tmp_path / "annotated.mp4") == last + 1


def test_stages_work_at_the_same_time() -> None:
    """Three stages meet while each has a frame of its own in hand; one after the other they never could."""
    meeting = threading.Barrier(3, timeout=20)

    def stage(items: Iterator[int], meets_at: int) -> Iterator[int]:
        for item in items:
            if item == meets_at:
                meeting.wait()
            yield item

    stages: Iterator[int] = iter(range(5))
    for meets_at in (2, 1, 0):
        stages = Stage(stage(stages, meets_at), 1)
    assert list(stages) == list(range(5))


def test_no_more_stages_work_on_frames_than_there_are_turns() -> None:
    """On two cores one at a time, beside the network: they share one interpreter, and would wake one another for it."""
    engine = open_engine(load_weights("lsnet-nano").network, "cpu", RunSettings().detection.lowest)
    with closing(open_source(str(CLOUDS))) as source:
        results = run_pipeline(source, engine, RunSettings(), [SlowSink(0.02)], threading.Event(), RunStatistics())
        spans = [result.spans for result in results]
    works = [(s["detect"].start, s["track"].end) for s in spans] + [(s["write"].start, s["write"].end) for s in spans]
    at_work = [sum(start <= moment < end for start, end in works) for moment, _ in works]
    assert max(at_work) <= max(1, len(os.sched_getaffinity(0)) // 2)


def test_percentiles_are_those_of_the_durations() -> None:
    durations = np.random.default_rng(0).lognormal(-4, 1, 20_000)
    histogram = LatencyHistogram()
    for seconds in durations:
        histogram.add(seconds)
    expected = dict(zip(("p50", "p95", "p99"), 1e3 * np.percentile(durations, (50, 95, 99)), strict=True))
    assert histogram.percentiles() == pytest.approx(expected, rel=0.015)


def test_extreme_durations_are_counted() -> None:
    histogram = LatencyHistogram()
    assert histogram.percentiles() == {}
    for seconds in (0.0, 1e9):
        histogram.add(seconds)
    assert list(histogram.percentiles()) == ["p50", "p95", "p99"]
