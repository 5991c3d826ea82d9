"""A recording as a live camera would deliver it."""

from collections.abc import Iterator
from dataclasses import replace
from time import perf_counter, sleep

from irst_pipeline.sources.base import Source
from irst_pipeline.types import Frame


class RealTime:
    """The frames of a recording, each when its time has come. A late one comes at once, and has come when it was due.

    The clock starts when the second frame is asked for, so that the first can be used to get ready.
    """

    live = True
    reconnects = 0

    def __init__(self, recording: Source) -> None:
        self._recording = recording
        self.name = recording.name
        self.frame_rate = recording.frame_rate
        self.frame_count = recording.frame_count

    @property
    def frames_failed(self) -> int:
        return self._recording.frames_failed

    def __iter__(self) -> Iterator[Frame]:
        ahead: float | None = None  # of the recording's times against the clock
        for frame in self._recording:
            if ahead is None:
                yield frame
                ahead = frame.time - perf_counter()
            else:
                due = frame.time - ahead
                sleep(max(0.0, due - perf_counter()))
                yield replace(frame, arrived=due)

    def close(self) -> None:
        self._recording.close()
