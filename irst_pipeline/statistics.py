"""The one account of a run, which `run.json`, the log, metrics and health all read."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass, field, replace
from math import log
from threading import Lock
from time import perf_counter
from typing import Any, NamedTuple

import numpy as np

from irst_pipeline.memory import resident_bytes
from irst_pipeline.sinks import Sink
from irst_pipeline.sources import Source
from irst_pipeline.stage import Stage
from irst_pipeline.state import State, Stateful, restored, state_of
from irst_pipeline.types import DroppedFrames, Frame, FrameResult, Span, TrackStatus


class Drops(NamedTuple):
    """Frames that were read and never processed, by cause."""

    starting: int = 0
    """They came before the engine was ready."""
    stale: int = 0
    """Given up for a newer one, for the network was not done with the one before."""
    unfinished: int = 0
    """Under way when the run failed, or given up a while after a stop."""

    def plus(self, cause: str, frames: int) -> "Drops":
        return self._replace(**{cause: getattr(self, cause) + frames})


class LatencyHistogram(Stateful):
    """Durations from 10 us to 1,000 s, counted in bins 1 % wide: percentiles of a run of any length in fixed memory."""

    SHORTEST, RATIO, BINS = 1e-5, 1.01, 1852
    kept = ("seconds", "_counts")

    def __init__(self) -> None:
        self.seconds = 0.0
        """All durations together."""
        self._counts = np.zeros(self.BINS, np.int64)

    def add(self, seconds: float) -> None:
        self.seconds += seconds
        self._counts[self._bin(seconds)] += 1

    def percentiles(self) -> dict[str, float]:
        """p50, p95 and p99 in ms; empty without any duration."""
        total = self._counts.cumsum()
        if not total[-1]:
            return {}
        bins = {p: int(np.searchsorted(total, p / 100 * total[-1])) for p in (50, 95, 99)}
        return {f"p{p}": round(1e3 * self.SHORTEST * self.RATIO ** (b + 0.5), 3) for p, b in bins.items()}

    def below(self, bounds: Sequence[float]) -> list[int]:
        """How many durations were below each of the bounds (s, to 1 %), and how many there were in all."""
        total = np.concatenate([[0], self._counts.cumsum()])
        return [*(int(total[self._bin(bound)]) for bound in bounds), int(total[-1])]

    def _bin(self, seconds: float) -> int:
        position = log(max(seconds, self.SHORTEST) / self.SHORTEST) / log(self.RATIO)
        return min(int(position), self.BINS - 1)


@dataclass
class Counts(Stateful):
    """What a run has counted: frames read = processed + dropped + in flight, at any moment."""

    kept = (
        "frames_read",
        "frames_processed",
        "frames_dropped",
        "seconds",
        "detections",
        "tracks_confirmed",
        "glass_to_track",
        "latency",
    )

    frames_read: int = 0
    frames_in_flight: int = 0
    """Read, but neither written nor dropped yet."""
    frames_processed: int = 0
    """Done with, and in all files that could be written."""
    frames_dropped: Drops = field(default_factory=Drops)
    seconds: float = 0.0
    """From when the engine was ready until the last frame was written."""
    detections: int = 0
    tracks_confirmed: int = 0
    tracks: dict[str, int] = field(
        default_factory=lambda: {status.name.lower(): 0 for status in TrackStatus if status != TrackStatus.PRELIMINARY}
    )
    """After the last frame, by status."""
    glass_to_track: LatencyHistogram = field(default_factory=LatencyHistogram)
    """From when a frame came, or one of a recording was begun to be read, until its tracks were written."""
    latency: defaultdict[str, LatencyHistogram] = field(default_factory=lambda: defaultdict(LatencyHistogram))
    """By stage: read, network, detect, stabilise, track, write."""


class Account(NamedTuple):
    """What a run under way has come to, at one moment."""

    counts: Counts
    frames_failed: int
    reconnects: int
    waiting: dict[str, int]
    """Frames that wait, by the stage that is to take them."""
    frames_not_written: dict[str, int]
    """As of `RunStatistics`."""
    memory_bytes: int
    """Of the process that carries it out; 0 where there is none, or the system does not tell."""
    ailment: str | None
    """Why no tracks come or are stored, or None if all is well."""


class RunStatistics(Stateful):
    """Counts what happens to each frame and says what a run lacks. Any thread may call any of it at any time.

    What it counted goes on where a run is resumed.
    """

    def __init__(self) -> None:
        self.stages: dict[str, Stage[Any]] = {}
        """What takes frames, and the stage that it takes them from; in the order of the flow."""
        self.reading_ended = False
        """Whether no more frames are to come."""
        self.resumed = 0
        """Times that the run was gone on with."""
        self.frames_not_written: dict[str, int] = {}
        """By the kind of file, for lack of space, and by what was to be sent, for lack of a network; 0 for none."""
        self._not_stored: list[str] = []  # kinds of files that the last frame is not in
        self._seconds_before = 0.0
        self._counts = Counts()
        self._lock = Lock()
        self._reading: dict[int, Span] = {}  # of the frames in flight, by index
        self._dropped: list[DroppedFrames] = []  # not asked for yet
        self._logged = Drops()
        self._begun: float | None = None
        self._ready: float | None = None
        self._last_came: float | None = None
        self._outcome: str | None = None

    def begin(self) -> None:
        """The first frame is being waited for."""
        self._begun = perf_counter()

    def first_frame_came(self) -> None:
        self._last_came = perf_counter()

    def engine_ready(self) -> None:
        self._ready = perf_counter()

    def read(self, frame: Frame, started: float) -> None:
        """Count a frame that was read; a recording's since `started`, a live one since it came."""
        self._last_came = now = perf_counter()
        with self._lock:
            self._counts.frames_read += 1
            self._reading[frame.index] = Span(started if frame.arrived is None else frame.arrived, now)

    def reading(self, frame: Frame) -> Span:
        """When a frame in flight was read."""
        return self._reading[frame.index]

    def drop(self, frame: Frame) -> None:
        """Count a frame that is given up for a newer one."""
        with self._lock:
            self._drop(frame.index, "starting" if self._ready is None else "stale")

    def dropped_before(self, frame: Frame) -> tuple[DroppedFrames, ...]:
        """The dropped frames up to this one that were not asked for yet."""
        with self._lock:
            count = sum(dropped.last < frame.index for dropped in self._dropped)
            before, self._dropped = self._dropped[:count], self._dropped[count:]
        return tuple(before)

    def add(self, result: FrameResult) -> None:
        """Count a frame that is written."""
        written = result.spans["write"].end
        statuses = np.bincount(result.tracks.status, minlength=len(self._counts.tracks)).tolist()
        with self._lock:
            counts = self._counts
            reading = self._reading.pop(result.frame.index)
            counts.frames_processed += 1
            counts.detections += len(result.detections)
            counts.tracks_confirmed += sum(event.kind == "confirmed" for event in result.events)
            counts.tracks = dict(zip(counts.tracks, statuses, strict=True))
            for dropped in result.dropped:
                self._logged = self._logged.plus(dropped.cause, len(dropped))
            counts.seconds = self._seconds_before + written - (self._ready or written)
            counts.glass_to_track.add(written - reading.start)
            for stage, span in result.spans.items():
                counts.latency[stage].add(span.seconds)

    def count_not_written(self, sinks: Mapping[str, Sink[Any]]) -> None:
        """Take over how many frames each kind of file lacks; to be called after each one."""
        before, now = self.frames_not_written, {name: sink.missed for name, sink in sinks.items()}
        self._not_stored = [name for name, missed in now.items() if missed > before.get(name, missed)]
        self.frames_not_written = now

    def end(self, outcome: str) -> None:
        """The run has ended, as `run.json` says; what is still in flight is dropped."""
        self._outcome, self.stages = outcome, {}
        with self._lock:
            for index in list(self._reading):
                self._drop(index, "unfinished")

    def counts(self) -> Counts:
        """A copy of what was counted so far."""
        with self._lock:
            counts = deepcopy(self._counts)
            counts.frames_in_flight = len(self._reading)
        return counts

    def account(self, source: Source, stale_seconds: float) -> Account:
        """What the run on this source has come to by now."""
        failed, reconnects = source.frames_failed, source.reconnects
        waiting = {taker: stage.waiting for taker, stage in self.stages.items()}
        lacking, memory, ailment = self.frames_not_written, resident_bytes(), self.ailment(stale_seconds)
        return Account(self.counts(), failed, reconnects, waiting, lacking, memory, ailment)

    def state(self) -> State:
        """As of the last frame that is written: what came after it is lost, or read again."""
        counts = self.counts()
        counts.frames_dropped = self._logged
        counts.frames_read = counts.frames_processed + sum(self._logged)
        return state_of({"counts": counts, "resumed": self.resumed})

    def restore(self, state: State) -> None:
        self._counts = restored(self._counts, "counts", state)
        self._seconds_before, self._logged = self._counts.seconds, self._counts.frames_dropped
        self.resumed = restored(self.resumed, "resumed", state) + 1

    def take_over(self, account: Account) -> None:
        """Go on from what another process has counted, if it has; what is in flight there will not come."""
        counts = account.counts
        if counts.frames_read > self._counts.frames_read:
            self.frames_not_written = account.frames_not_written
            unfinished = counts.frames_dropped.plus("unfinished", counts.frames_in_flight)
            self._counts = replace(counts, frames_in_flight=0, frames_dropped=unfinished)

    def report(self, read: Source | Account) -> dict[str, Any]:
        """The counters as `run.json` holds them; failures and reconnects are those of what was `read`."""
        counts = self.counts()
        latency = {"glass_to_track": counts.glass_to_track, **counts.latency}
        return {
            "frames_read": counts.frames_read,
            "frames_processed": counts.frames_processed,
            "frames_dropped": sum(counts.frames_dropped),
            "dropped": counts.frames_dropped._asdict(),
            "frames_failed": read.frames_failed,
            "frames_not_written": {name: missed for name, missed in self.frames_not_written.items() if missed},
            "reconnects": read.reconnects,
            "resumed": self.resumed,
            "frames_per_second": round(counts.frames_processed / counts.seconds, 2) if counts.seconds else 0.0,
            "tracks_confirmed": counts.tracks_confirmed,
            "latency_ms": {stage: histogram.percentiles() for stage, histogram in latency.items()},
        }

    def ailment(self, stale_seconds: float) -> str | None:
        """Why no tracks come or are stored, or None if all is well.

        It is while the run waits for its turn, and after its good end. A frame, and the work of a stage on one, may be
        `stale_seconds` old.
        """
        now = perf_counter()
        if self._begun is None or self._outcome is not None:
            return self._outcome if self._outcome and self._outcome.startswith("failed") else None
        if self._last_came is None:
            return f"no frame has come yet, in {now - self._begun:.1f} s"
        if not self.stages:
            return "the engine is getting ready"
        for name, stage in reversed(self.stages.items()):  # one that is stuck holds those before it up
            if (held := stage.held_seconds) > stale_seconds:
                return f"{name} has been at one frame for {held:.1f} s"
        age = now - self._last_came
        if age > stale_seconds and not self.reading_ended:
            return f"no frame for {age:.1f} s"
        return f"frames cannot be stored in {', '.join(self._not_stored)}" if self._not_stored else None

    def _drop(self, index: int, cause: str) -> None:
        """Count a frame as dropped for one of the causes of `Drops`."""
        del self._reading[index]
        self._counts.frames_dropped = self._counts.frames_dropped.plus(cause, 1)
        last = self._dropped[-1] if self._dropped else None
        if last and (last.last + 1, last.cause) == (index, cause):
            self._dropped[-1] = DroppedFrames(last.first, index, cause)
        else:
            self._dropped.append(DroppedFrames(index, index, cause))
