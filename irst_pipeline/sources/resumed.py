"""A source that a run has seen the beginning of."""

from collections.abc import Callable, Iterator
from threading import Event
from time import perf_counter
from zlib import crc32

import numpy as np

from irst_pipeline.errors import UsageError
from irst_pipeline.sources.base import Position, Source, SourceWrapper, describe, log
from irst_pipeline.sources.live import LiveStream
from irst_pipeline.sources.realtime import RealTime
from irst_pipeline.types import Frame

TOLD_EVERY = 10.0  # s between two lines of how far it has come in what a run has had


def checksum(frame: Frame) -> int:
    """By which a picture is told from another one, also of another size or depth."""
    return crc32(np.ascontiguousarray(frame.image).view(np.uint8).data, crc32(describe(frame).encode()))


def resume_source(
    source: Source, position: Position, stop: Event, calibrate: Callable[[Frame], Frame] | None
) -> Source:
    """The frames of a source after a position; a recording that is replayed goes on with its next one.

    Iterating it raises UsageError for a recording whose last frame, `calibrate`d, is not what it was.
    """
    if isinstance(source, LiveStream):
        source.go_on_from(position)
        return source
    if isinstance(source, RealTime):
        return RealTime(_Resumed(source.source, position, stop, calibrate), stop)
    return _Resumed(source, position, stop, calibrate)


class _Resumed(SourceWrapper):
    """The frames of a recording after a position.

    It is decoded from its beginning, since nothing else gives the same frames in every format.
    """

    def __init__(
        self, source: Source, position: Position, stop: Event, calibrate: Callable[[Frame], Frame] | None
    ) -> None:
        super().__init__(source)
        self._position, self._stop, self._calibrate = position, stop, calibrate

    def __iter__(self) -> Iterator[Frame]:
        last = self._position.frame
        come_to, same, told = -1, False, perf_counter()
        for frame in self.source:
            if self._stop.is_set():
                return
            come_to = frame.index
            same = same or (come_to == last and self._is_last(frame))
            if come_to >= last and not same:  # also where that frame cannot be read any more
                raise self._changed(f"its frame {last}")
            if come_to > last:
                yield frame
            elif perf_counter() > told + TOLD_EVERY:
                log.info("%s: decoding frame %d of the %d that the run has had", self.name, come_to + 1, last + 1)
                told = perf_counter()
        if come_to < last:
            raise self._changed(f"its end, at frame {come_to} and not after {last},")

    def _is_last(self, frame: Frame) -> bool:
        """Whether it is what the run had come to, also in time: a list of times may have been edited since."""
        worked_on = self._calibrate(frame) if self._calibrate else frame
        return (checksum(worked_on), frame.time) == (self._position.checksum, self._position.time)

    def _changed(self, what: str) -> UsageError:
        mend = "give --resume what that run was given, or begin again with --overwrite"
        return UsageError(f"{self.name}: {what} is not what the run had come to; {mend}")
