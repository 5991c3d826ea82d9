"""One run of the pipeline: its source, its folder, its checkpoints and its report."""

import logging
import math
from collections.abc import Callable, Generator, Mapping
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from threading import Event
from time import perf_counter
from typing import TYPE_CHECKING, Any, TypeVar, cast

from irst_pipeline.bearings import Platform
from irst_pipeline.checkpoint import Checkpoint, of_another_version, remove_checkpoint, write_checkpoint
from irst_pipeline.config import RunSettings
from irst_pipeline.disk import write_json
from irst_pipeline.engine import Engine
from irst_pipeline.errors import IrstError, reason_of
from irst_pipeline.pipeline import run_pipeline
from irst_pipeline.sinks import RunHeader, Sink, open_recorders, open_senders, open_sinks
from irst_pipeline.sinks.base import REPORT_FILE
from irst_pipeline.sinks.recorded import Recorded
from irst_pipeline.sources import Source
from irst_pipeline.state import StateError, part_of
from irst_pipeline.statistics import Account, RunStatistics
from irst_pipeline.types import Frame, FrameResult

if TYPE_CHECKING:
    from irst_pipeline.lsnet.weights import Weights

log = logging.getLogger("irst")

CHECKPOINT_SECONDS = 1.0
T = TypeVar("T")
R = TypeVar("R")


@dataclass(frozen=True)
class Run:
    """One recording or stream and where its results go."""

    source: Source
    folder: Path
    header: RunHeader
    platform: Platform | None = None
    """What carries its camera, where that is known."""
    calibrate: Callable[[Frame], Frame] | None = None
    """What is done to each of its frames first."""
    checkpoint: Checkpoint | None = None
    """Where an earlier process came to, which this one goes on from."""
    lock: int | None = None
    """Descriptor that keeps other runs out of its folder."""


def carry_out(run: Run, engine: Engine[Any], stop: Event, statistics: RunStatistics) -> Generator[FrameResult]:
    """The results of a run, each once it is in all of its files, which are closed at the end, however that comes.

    What it takes to go on from there is stored with the first result, once a second, and with the last.
    """
    if stop.is_set():
        return  # one that has not had its turn leaves no files without frames
    settings, state = run.header.settings, run.checkpoint.state if run.checkpoint else None
    with ExitStack() as opened:
        states = state and part_of(state, "sinks")
        named: dict[str, Sink[Any]] = {}
        opened.callback(statistics.count_not_written, named)  # also last, for a video may lose frames as it is closed

        def kept_open(sinks: Mapping[Any, Sink[T]]) -> list[Sink[T]]:
            named.update(sinks)
            for sink in sinks.values():
                opened.callback(sink.close)
            return [*sinks.values()]

        sinks = kept_open(open_senders(run.header, states))  # first, for whoever listens waits for them
        sinks += kept_open(open_sinks(settings.sinks, run.folder, run.header, states))
        recorders = kept_open(open_recorders(settings.sinks, run.folder, run.header, states))
        source = run.source
        for recorder in recorders:
            source = Recorded(source, recorder)
        before = state and part_of(state, "pipeline")
        results = run_pipeline(source, engine, settings, sinks, stop, statistics, run.platform, run.calibrate, before)
        opened.callback(results.close)
        keep = _Keeper(run, named, statistics)
        result, told = None, False
        for result in results:
            if result.left_out and not told:
                told = True
                most, where = settings.detection.max_detections, f"{run.source.name}: frame {result.frame.index}"
                what = f"has {most + result.left_out} detections; only the strongest {most} are taken"
                log.warning("%s %s (detection.max_detections)", where, what)
            statistics.count_not_written(named)
            keep(result, CHECKPOINT_SECONDS)
            yield result
        if result is not None:
            keep(result, 0.0)


class _Keeper:
    """Stores what it takes to go on after a result."""

    def __init__(self, run: Run, sinks: dict[str, Sink[Any]], statistics: RunStatistics) -> None:
        self._run, self._sinks, self._statistics = run, sinks, statistics
        self._last = -math.inf
        self._failed = False

    def __call__(self, result: FrameResult, seconds: float) -> None:
        """Unless that was done less than so many seconds ago. Where there is no space, the last checkpoint stays."""
        if perf_counter() < self._last + seconds:
            return
        self._last = perf_counter()
        states = {name: sink.state() for name, sink in self._sinks.items()}
        others = {"sinks": states, "statistics": self._statistics}
        try:
            write_checkpoint(self._run.folder, self._run.header.record(), result, self._run.source, others)
            self._failed = False
        except IrstError as error:
            if not self._failed:
                log.warning("%s; --resume would go on from an earlier frame", error)
            self._failed = True


def carry_out_and_report(
    run: Run, engine: Engine[Any], stop: Event, statistics: RunStatistics
) -> Generator[FrameResult, None, dict[str, Any]]:
    """Carry a run out to its end, however that comes; returns what `run.json` says of it.

    Where that cannot be written, `error` in it says why.
    """
    try:
        if run.checkpoint:
            statistics.restore(part_of(run.checkpoint.state, "statistics"))
        yield from carry_out(run, engine, stop, statistics)
    except StateError as error:
        raise of_another_version(run.folder, error) from None
    except BaseException as error:
        _write_report(run, f"failed: {reason_of(error)}", statistics, run.source)
        raise
    report = _write_report(run, "interrupted" if stop.is_set() else "complete", statistics, run.source)
    if report["outcome"] == "complete" and "error" not in report:
        remove_checkpoint(run.folder)
    return report


def counted_before(run: Run) -> RunStatistics:
    """What an earlier process has counted; nothing where there was none."""
    statistics = RunStatistics()
    if run.checkpoint:
        with suppress(StateError):  # of another version, which is told when the run is carried out
            statistics.restore(part_of(run.checkpoint.state, "statistics"))
    return statistics


def report_failure(run: Run, error: Exception, account: Account) -> Account:
    """Write the `run.json` of a run whose process failed without, after its last `account`; returns the final one."""
    statistics = counted_before(run)
    statistics.take_over(account)
    _write_report(run, f"failed: {reason_of(error)}", statistics, account)
    return account._replace(counts=statistics.counts(), ailment=statistics.ailment(0.0))


def exhaust(results: Generator[T, None, R], each: Callable[[T], object]) -> R:
    """Have each result taken; returns what comes of them all."""
    while True:
        try:
            result = next(results)
        except StopIteration as end:
            return cast(R, end.value)
        each(result)


def run_header(
    uri: str,
    source: Source,
    weights: "Weights",
    engine: Engine[Any],
    settings: RunSettings,
    platform: Platform | None = None,
) -> RunHeader:
    """What is known of a run that begins now, on the `source` behind `uri`."""
    return RunHeader(
        source=source.name,
        uri=uri,
        model=weights.name,
        weights_sha256=weights.sha256,
        device=engine.device,
        settings=settings,
        started=_now(),
        frame_rate=source.frame_rate,
        live=source.live,
        camera=platform.record() if platform else None,
    )


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds")


def _write_report(run: Run, outcome: str, statistics: RunStatistics, read: Source | Account) -> dict[str, Any]:
    """`run.json`: what ran, how it ended, what it counted; where it cannot be written, the `error` of that as well."""
    statistics.end(outcome)
    ran = {"outcome": outcome, **run.header.record(), "finished": _now()}
    report = ran | statistics.report(read)
    try:
        write_json(run.folder / REPORT_FILE, report)
    except IrstError as error:
        return report | {"error": str(error)}
    return report
