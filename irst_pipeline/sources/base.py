"""What every source offers, and what all recordings share."""

import logging
from abc import ABC, abstractmethod
from collections.abc import Iterator
from typing import Protocol

from irst_pipeline.errors import IrstError
from irst_pipeline.types import Frame

log = logging.getLogger("irst")

REPORTS_MAX = 10  # failures said one by one; further ones are counted, and said as a sum at the end


class Source(Protocol):
    """A stream of frames with strictly increasing indices and times; of one size and depth, unless it is live."""

    name: str
    """Short, for logs."""
    frame_rate: float
    """frames/s, nominal."""
    frame_count: int | None
    """Frames that the source declares, for a progress bar; the true number may differ."""
    live: bool
    """Whether frames come at their own pace and the newest is wanted; otherwise every one is."""

    @property
    def frames_failed(self) -> int:
        """Frames so far that could not be read and were skipped; in the end also those that a file counts but lacks."""

    @property
    def reconnects(self) -> int:
        """Times so far that frames came again after the source was lost."""

    def __iter__(self) -> Iterator[Frame]:
        """The frames, once. Raises IrstError at the end if none could be read."""

    def close(self) -> None:
        """Release what is open; not while another thread iterates."""


class Reader:
    """What all that decode have in common: their names and numbers, and the count of frames that fail."""

    reconnects = 0

    def __init__(self, name: str, frame_rate: float, frame_count: int | None) -> None:
        self.name = name
        self.frame_rate = frame_rate
        self.frame_count = frame_count
        self.frames_failed = 0

    def fail(self, reason: str) -> None:
        """Count a frame as failed; the first few are said."""
        self.frames_failed += 1
        if self.frames_failed <= REPORTS_MAX:
            log.warning("%s: %s", self.name, reason)
        elif self.frames_failed == REPORTS_MAX + 1:
            log.warning("%s: more frames fail; they are counted, and no longer named", self.name)


class Recording(Reader, ABC):
    """A source that ends: passes on what `read` yields, and skips, counts and reports what does not belong."""

    live = False

    @abstractmethod
    def read(self) -> Iterator[Frame]:
        """Every frame that can be decoded; the others through `fail`."""

    @abstractmethod
    def close(self) -> None: ...

    def __iter__(self) -> Iterator[Frame]:
        first = None
        unlike = 0
        for frame in self.read():
            if first is None:
                first = describe(frame)
            if describe(frame) == first:
                yield frame
                continue
            if not unlike:
                found = f"frame {frame.index} is {describe(frame)}, the first was {first}"
                log.warning("%s: %s; frames unlike the first are skipped", self.name, found)
            unlike += 1
            self.frames_failed += 1
        if first is None:
            raise IrstError(f"{self.name}: not one frame could be read ({self.frames_failed} failed)")
        if self.frames_failed:
            log.warning("%s: %d frame(s) could not be read", self.name, self.frames_failed)


def describe(frame: Frame) -> str:
    """Size and depth of a frame, as in 640x512 uint16."""
    height, width = frame.image.shape
    return f"{width}x{height} {frame.image.dtype}"
