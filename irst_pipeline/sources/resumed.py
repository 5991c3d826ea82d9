"""A source that a run has seen the beginning of."""

import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from threading import Event
from typing import NamedTuple
from zlib import crc32

import numpy as np

from irst_pipeline.errors import UsageError
from irst_pipeline.sources.base import Source
from irst_pipeline.sources.live import STEP_SECONDS
from irst_pipeline.sources.realtime import RealTime
from irst_pipeline.types import Frame


class Position(NamedTuple):
    """How far a run has come in a source."""

    frame: int
    """Index of the last frame."""
    time: float
    """s, of it"""
    clock: float
    """s since the epoch, when it came"""
    frames_failed: int
    reconnects: int
    checksum: int
    """Of the last frame, as it was worked on."""


def checksum(frame: Frame) -> int:
    """By which a frame is told from another one."""
    return crc32(np.ascontiguousarray(frame.image).view(np.uint8).data)


def resume_source(
    source: Source, position: Position, stop: Event, calibrate: Callable[[Frame], Frame] | None
) -> Source:
    """The frames of a source after a position; a recording that is replayed goes on with its next one.

    Iterating it raises UsageError for a recording whose last frame, `calibrate`d, is not what it was.
    """
    if isinstance(source, RealTime):
        return RealTime(_Resumed(source.recording, position, stop, calibrate), stop)
    return _Resumed(source, position, stop, calibrate)


class _Resumed:
    """The frames after a position.

    A recording is decoded from its beginning, since nothing else gives the same frames in every format. A live source
    goes on counting frames and failures; its times go on by what the wall clock saw pass.
    """

    def __init__(
        self, source: Source, position: Position, stop: Event, calibrate: Callable[[Frame], Frame] | None
    ) -> None:
        self._source, self._position, self._stop, self._calibrate = source, position, stop, calibrate
        self.name = source.name
        self.frame_rate = source.frame_rate
        self.frame_count = source.frame_count
        self.live = source.live

    @property
    def frames_failed(self) -> int:
        return self._source.frames_failed + (self._position.frames_failed if self.live else 0)

    @property
    def reconnects(self) -> int:
        return self._source.reconnects + self._position.reconnects

    def __iter__(self) -> Iterator[Frame]:
        return self._counted_on() if self.live else self._after()

    def fail(self, reason: str) -> None:
        self._source.fail(reason)

    def stop_waiting(self) -> None:
        self._source.stop_waiting()

    def close(self) -> None:
        self._source.close()

    def _after(self) -> Iterator[Frame]:
        last = self._position.frame
        come_to = -1
        for frame in self._source:
            if self._stop.is_set():
                return
            come_to = frame.index
            if come_to == last and self._calibrated_checksum(frame) != self._position.checksum:
                raise self._changed(f"its frame {last}")
            if come_to > last:
                yield frame
        if come_to < last:
            raise self._changed(f"its end, at frame {come_to} and not after {last},")

    def _calibrated_checksum(self, frame: Frame) -> int:
        return checksum(self._calibrate(frame) if self._calibrate else frame)

    def _changed(self, what: str) -> UsageError:
        mend = "give --resume what that run was given, or begin again with --overwrite"
        return UsageError(f"{self.name}: {what} is not what the run had come to; {mend}")

    def _counted_on(self) -> Iterator[Frame]:
        later: float | None = None
        for frame in self._source:
            if later is None:
                later = self._position.time + max(STEP_SECONDS, time.time() - self._position.clock) - frame.time
            yield replace(frame, index=self._position.frame + 1 + frame.index, time=later + frame.time)
