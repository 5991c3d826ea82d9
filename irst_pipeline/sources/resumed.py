"""A source that a run has seen the beginning of."""

import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from threading import Event
from typing import NamedTuple
from zlib import crc32

import numpy as np

from irst_pipeline.errors import UsageError
from irst_pipeline.sources.base import Source, SourceWrapper, describe
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
    """By which a picture is told from another one, also of another size or depth."""
    return crc32(np.ascontiguousarray(frame.image).view(np.uint8).data, crc32(describe(frame).encode()))


def resume_source(
    source: Source, position: Position, stop: Event, calibrate: Callable[[Frame], Frame] | None
) -> Source:
    """The frames of a source after a position; a recording that is replayed goes on with its next one.

    Iterating it raises UsageError for a recording whose last frame, `calibrate`d, is not what it was.
    """
    if isinstance(source, RealTime):
        return RealTime(_Resumed(source.source, position, stop, calibrate), stop)
    return _Resumed(source, position, stop, calibrate)


class _Resumed(SourceWrapper):
    """The frames after a position.

    A recording is decoded from its beginning, since nothing else gives the same frames in every format. A live source
    goes on counting frames and failures; its times go on by what the wall clock saw pass.
    """

    def __init__(
        self, source: Source, position: Position, stop: Event, calibrate: Callable[[Frame], Frame] | None
    ) -> None:
        super().__init__(source)
        self._position, self._stop, self._calibrate = position, stop, calibrate

    @property
    def frames_failed(self) -> int:
        return super().frames_failed + (self._position.frames_failed if self.live else 0)

    @property
    def reconnects(self) -> int:
        return super().reconnects + self._position.reconnects

    def __iter__(self) -> Iterator[Frame]:
        return self._counted_on() if self.live else self._after()

    def _after(self) -> Iterator[Frame]:
        last = self._position.frame
        come_to = -1
        for frame in self.source:
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
        for frame in self.source:
            if later is None:
                later = self._position.time + max(STEP_SECONDS, time.time() - self._position.clock) - frame.time
            yield replace(frame, index=self._position.frame + 1 + frame.index, time=later + frame.time)
