"""Frames that are recorded while they are read."""

import logging
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor

from irst_pipeline.sinks.base import Sink
from irst_pipeline.sources import Source
from irst_pipeline.sources.base import SourceWrapper
from irst_pipeline.types import Frame

log = logging.getLogger("irst")

WAITING_MAX = 8
"""Frames that may wait to be recorded."""


class Recorded(SourceWrapper):
    """A source whose frames a recorder takes as they are read: before calibration, with those that are then dropped.

    It does so in a thread of its own. A recording waits for it; a live source does not, and where too many frames would
    wait, they are counted as missed. What it raises is raised with a later frame, or at the end. Where nobody takes
    later frames, as when a run is stopped, it is told and those frames are counted as missed.
    """

    def __init__(self, source: Source, recorder: Sink[Frame]) -> None:
        super().__init__(source)
        self._recorder = recorder

    def __iter__(self) -> Iterator[Frame]:
        waiting: deque[Future[None]] = deque()
        left_out = 0
        try:
            with ThreadPoolExecutor(1) as recording:
                for frame in self.source:
                    while waiting and (waiting[0].done() or (len(waiting) == WAITING_MAX and not self.live)):
                        waiting.popleft().result()
                    if len(waiting) < WAITING_MAX:
                        waiting.append(recording.submit(self._record, frame, left_out))
                        left_out = 0
                    else:
                        left_out += 1
                    yield frame
        except GeneratorExit:
            errors = [error for recorded in waiting if (error := recorded.exception())]
            self._recorder.missed += len(errors)
            for error in errors[:1]:
                log.warning("%s", error)
            raise
        finally:
            self._recorder.missed += left_out
        for last in waiting:
            last.result()

    def _record(self, frame: Frame, left_out: int) -> None:
        """Record a frame, before which so many were left out."""
        self._recorder.missed += left_out
        self._recorder.write(frame)
