"""A recording as a live camera would deliver it."""

from collections.abc import Iterator
from dataclasses import replace
from threading import Event
from time import perf_counter

from irst_pipeline.sources.base import Source, SourceWrapper, utc_of
from irst_pipeline.stage import POLL_SECONDS
from irst_pipeline.types import Frame


class RealTime(SourceWrapper):
    """The frames of a recording, each when its time has come; a late one comes at once. `arrived` is when it was due.

    The clock starts when the second frame is asked for, so that the first can be used to get ready: it never arrives.
    """

    def __init__(self, recording: Source, stop: Event) -> None:
        """`stop` ends the waiting for a frame's time, and the frames."""
        super().__init__(recording)
        self.live = True
        self._stop, self._ended = stop, Event()

    def __iter__(self) -> Iterator[Frame]:
        ahead: float | None = None  # of the recording's times against the clock
        for frame in self.source:
            if ahead is None:
                yield replace(frame, utc=utc_of(perf_counter()))
                ahead = frame.time - perf_counter()
            else:
                due = frame.time - ahead
                while (left := due - perf_counter()) > 0:
                    if self._stop.is_set() or self._ended.wait(min(left, POLL_SECONDS)):
                        return
                yield replace(frame, arrived=due, utc=utc_of(due))

    def stop_waiting(self) -> None:
        self._ended.set()
