"""What all logs are: text that is written frame by frame, in parts where it grows without end."""

import logging
from abc import ABC, abstractmethod
from pathlib import Path
from typing import NamedTuple

from irst_pipeline.disk import OutputFile, part_file, parts_set_aside, set_aside
from irst_pipeline.errors import IrstError, UsageError
from irst_pipeline.sinks.base import RunHeader, is_full
from irst_pipeline.state import State, Stateful
from irst_pipeline.types import FrameResult

log = logging.getLogger("irst")


class Gap(NamedTuple):
    """Frames in a row that were processed but could not be stored."""

    frame: int = 0
    """The first."""
    time: float = 0.0
    """s, of it"""
    frames: int = 0


class Log(Stateful, ABC):
    """A file to which every frame adds a text, all of it at once, so that a killed run leaves whole lines.

    A part that is full is set aside under a name with its number; each begins with the head. Where a live run cannot
    store a frame it is counted, and said; the log goes on with the first frame that can be stored again.
    """

    kept = ("missed", "_parts", "_size", "_began", "_gap")

    def __init__(self, path: Path, header: RunHeader, state: State | None = None) -> None:
        """With a `state`, as if nothing had been written since; raises UsageError where the file is gone."""
        self._path, self._header = path, header
        self._file: OutputFile | None = None
        self.missed = self._parts = self._size = 0
        self._began: float | None = None  # s, time of the part's first frame
        self._gap = Gap()
        if state is not None:
            self.restore(state)
            self._go_back()
        if self._file is None:
            self._file = OutputFile(path, self.head())
            self._size = self._file.size

    @abstractmethod
    def head(self) -> bytes:
        """What every part begins with."""

    @abstractmethod
    def text(self, result: FrameResult) -> bytes:
        """The lines of one frame."""

    def gap_text(self, _gap: Gap) -> bytes:
        """The lines for frames that are missing; none where the form has no place for them."""
        return b""

    def write(self, result: FrameResult) -> None:
        frame = result.frame
        try:
            self._store(result)
        except IrstError as error:
            if not self._header.live:
                raise
            if not self._gap.frames:
                log.warning("%s; frames are counted until they can be stored again", error)
                self._gap = Gap(frame.index, frame.time)
            self._gap = self._gap._replace(frames=self._gap.frames + 1)
            self.missed += 1
            return
        if self._gap.frames:
            log.warning("%s: it goes on; %d frames are missing in it", self._path, self._gap.frames)
            self._gap = Gap()

    def close(self) -> None:
        if self._file is not None:
            self._file.close()

    def _store(self, result: FrameResult) -> None:
        """Add a frame, to a new part where the last one is full."""
        time, rotate = result.frame.time, self._header.settings.rotate
        if self._file and self._began is not None and is_full(rotate, self._size, time - self._began):
            set_aside(self._path, self._parts + 1)
            self._file.close()
            self._file, self._size, self._parts = None, 0, self._parts + 1
        if self._file is None:
            self._file, self._began = OutputFile(self._path, self.head()), None
        self._began = time if self._began is None else self._began
        self._file.failed = False
        gap = self.gap_text(self._gap) if self._gap.frames else b""
        self._file.write(gap + self.text(result))
        self._size = self._file.size

    def _go_back(self) -> None:
        """Undo what was written after the state was taken."""
        part = part_file(self._path, self._parts + 1)
        for later in parts_set_aside(self._path):
            if later > part:
                later.unlink()
        if part.exists():
            part.replace(self._path)
        if self._size:
            if not self._path.is_file() or self._path.stat().st_size < self._size:
                raise UsageError(f"{self._path}: is gone, or shorter than it was; begin again with --overwrite")
            self._file = OutputFile(self._path, size=self._size)
