"""What every source offers, and what all recordings share."""

import logging
from abc import ABC, abstractmethod
from collections.abc import Generator, Iterator
from threading import Event, Lock
from time import perf_counter, time
from typing import NamedTuple, Protocol

import numpy as np

from irst_pipeline.config import LiveSettings
from irst_pipeline.errors import IrstError
from irst_pipeline.sources.address import printable
from irst_pipeline.types import MIN_SIZE, Frame, Image

log = logging.getLogger("irst")

REPORTS_MAX = 10  # failures said one by one; further ones are counted, and said as a sum at the end
SIDE_MAX, PIXELS_MAX = 8192, 4096**2  # px; larger frames of a live source are refused before they take memory
SILENT = "nothing came in time"
SIZES = f"{MIN_SIZE} to {SIDE_MAX} px a side are taken, and {PIXELS_MAX >> 20} Mpx in all"


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

    def fail(self, reason: str) -> None:
        """Count a frame as failed that was read, but cannot be used."""

    def stop_waiting(self) -> None:
        """From now on iterating, in any thread, does not wait: the next frame comes at once, or none does any more."""

    def close(self) -> None:
        """Release what is open; not while another thread iterates."""


class SourceWrapper(Source):
    """A source that passes on the frames of another one; how, a subclass says."""

    def __init__(self, source: Source) -> None:
        self.source = source
        self.frame_rate = source.frame_rate
        self.frame_count = source.frame_count
        self.live = source.live

    @property
    def name(self) -> str:
        return self.source.name

    @name.setter
    def name(self, name: str) -> None:
        self.source.name = name

    @property
    def frames_failed(self) -> int:
        return self.source.frames_failed

    @property
    def reconnects(self) -> int:
        return self.source.reconnects

    def fail(self, reason: str) -> None:
        self.source.fail(reason)

    def stop_waiting(self) -> None:
        self.source.stop_waiting()

    def close(self) -> None:
        self.source.close()


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


def utc_of(moment: float) -> float:
    """What `time.time` said, s since 1970, at a moment on the clock of `perf_counter`, s."""
    return time() + moment - perf_counter()


class FeedFrame(NamedTuple):
    """A frame as a live source sent it."""

    image: Image
    """(H, W) grey levels at the source's own depth."""
    time: float | None
    """s, its time stamp; None without one."""
    arrived: float
    """When it was received whole, on the clock of `time.perf_counter`."""


class Damage(NamedTuple):
    """A frame that came, but not whole."""

    reason: str


class Feed(Protocol):
    """A live source that can be connected to, again and again."""

    @property
    def name(self) -> str:
        """For logs and folders; free of what `redact` hides."""

    @property
    def frame_rate(self) -> float | None:
        """frames/s, where the address says it."""

    @property
    def reopens(self) -> bool:
        """Whether it may be connected to again after its end."""

    def connect(self, settings: LiveSettings, ended: Event) -> Generator[FeedFrame | Damage | None]:
        """What comes of one connection until it ends; None for a moment in which no frame did.

        Moments are short, so that whoever iterates can stop between them; `ended` cuts even these short. Raises
        IrstError, which says why, if there is no connection, if it is lost, or for frames that are refused.
        """


def refuse_size(width: int, height: int) -> None:
    """Raises IrstError for a live source's frames that would take too much memory, or are too small for a network."""
    if not sound_size(width, height):
        raise IrstError(f"frames of {width}x{height} px are refused; {SIZES}")


def sound_size(width: int, height: int) -> bool:
    """Whether frames of so many px are taken from a live source."""
    return min(width, height) >= MIN_SIZE and max(width, height) <= SIDE_MAX and width * height <= PIXELS_MAX


class Reader:
    """What recordings and live streams share: name, rate and number of frames, and the count of those that failed."""

    def __init__(self, name: str, frame_rate: float, frame_count: int | None) -> None:
        self.name = printable(name)
        self.frame_rate = frame_rate
        self.frame_count = frame_count
        self.frames_failed = self.reconnects = 0
        self._reports = 0
        self._counting = Lock()

    def fail(self, reason: str) -> None:
        """Count a frame as failed, from any thread; the first few are said."""
        with self._counting:
            self.frames_failed += 1
            self._reports += 1
            told = self._reports
        if told <= REPORTS_MAX:
            log.warning("%s: %s", self.name, reason)
        elif told == REPORTS_MAX + 1:
            log.warning("%s: more frames fail; they are counted, and no longer named", self.name)


class Recording(Reader, ABC):
    """A source that ends: passes on what `read` yields, and skips, counts and reports what does not belong."""

    live = False

    @abstractmethod
    def read(self) -> Iterator[Frame]:
        """Every frame that can be decoded; the others through `fail`."""

    @abstractmethod
    def close(self) -> None: ...

    def place(self, index: int) -> str:
        """What a frame is called where it lies."""
        return f"frame {index}"

    def stop_waiting(self) -> None:
        """It never waits."""

    def __iter__(self) -> Iterator[Frame]:
        first, last = None, (-1, -np.inf)
        like = unlike = 0
        for frame in self.read():
            _refuse_unusable(frame, *last)
            last = frame.index, frame.time
            if first is None:
                first = describe(frame)
            if describe(frame) == first:
                like += 1
                yield frame
                continue
            if not unlike:
                found = f"{self.place(frame.index)} is {describe(frame)}, the first was {first}"
                log.warning("%s: %s; frames unlike the first are skipped", self.name, found)
            unlike += 1
            self.frames_failed += 1
        if first is None:
            raise IrstError(f"{self.name}: not one frame could be read ({self.frames_failed} failed)")
        if unlike:
            mend = "; most are: take the first away if it does not belong" if unlike > like else ""
            log.warning("%s: %d frame(s) unlike the first were skipped%s", self.name, unlike, mend)
        if self.frames_failed > unlike:
            log.warning("%s: %d frame(s) could not be read", self.name, self.frames_failed - unlike)


def _refuse_unusable(frame: Frame, index: int, time: float) -> None:
    """Raises IrstError for a frame that does not come after the last one's `index` and `time`, s, or that is no plane
    of whole grey levels: one NaN would hide all targets, and frames of one time would confirm none, unsaid."""
    image = frame.image
    if image.ndim != 2 or image.dtype not in (np.uint8, np.uint16):
        found = f"frame {frame.index} is {image.shape} of {image.dtype}"
        raise IrstError(f"{frame.source}: {found}; give (H, W) of uint8 or uint16")
    if frame.index <= index:
        raise IrstError(f"{frame.source}: frame {frame.index} comes after frame {index}; number frames upwards from 0")
    if not frame.time > time:  # nor NaN
        found = f"frame {frame.index} at {frame.time} s comes after one at {time} s"
        raise IrstError(f"{frame.source}: {found}; give times that increase")


def describe(frame: Frame) -> str:
    """Size and depth of a frame, as in 640x512 uint16."""
    height, width = frame.image.shape
    return f"{width}x{height} {frame.image.dtype}"
