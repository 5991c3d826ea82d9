"""A recording whose frames were taken when a list says."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np

from irst_pipeline.columns import FRAME, TIME, read_columns, require
from irst_pipeline.errors import IrstError, UsageError
from irst_pipeline.sources.base import Source, SourceWrapper, log
from irst_pipeline.types import Frame


class Timed(SourceWrapper):
    """The frames of a recording with the times of a list, in place of its own; those that it lacks count as failed."""

    def __init__(self, recording: Source, path: Path) -> None:
        """Raises UsageError, one line, for a list that cannot be read."""
        super().__init__(recording)
        self._path, self._times = path, read_times(path)
        self.frame_rate = 1 / float(np.median(np.diff([*self._times.values()]) / np.diff([*self._times])))

    def __iter__(self) -> Iterator[Frame]:
        last = max(self._times)
        log.info("%s: times of frames up to %d, mostly %.4g frames/s", self._path, last, self.frame_rate)
        if self.frame_count and last != self.frame_count - 1:
            frames = f"{self.name} has {self.frame_count} frames, from 0"
            log.warning("%s: the last row is of frame %d, but %s; is it of this recording?", self._path, last, frames)
        timed = False
        for frame in self.source:
            if (time := self._times.get(frame.index)) is None:
                self.fail(f"{self._path}: no row for frame {frame.index}")
            else:
                timed = True
                yield replace(frame, time=time)
        if not timed:
            raise IrstError(f"{self.name}: {self._path} has a row for none of its frames; is it of this recording?")


def read_times(path: Path) -> dict[int, float]:
    """s, when frames were taken, by their indices, from a CSV with a header line and a row a frame.

    Columns: `time_s` and, where some frames have no row, `frame` (from 0); others are not read. Raises UsageError, one
    line.
    """
    columns = read_columns(path, _wanted)
    frames = columns.frames() if FRAME in columns.names else [*range(len(columns.lines))]
    for name in columns.names:
        columns.refuse_unsorted(name)
    if len(frames) < 2:
        raise UsageError(f"{path}: fewer than two rows; give each frame one")
    return dict(zip(frames, columns.table[:, -1].tolist(), strict=True))


def _wanted(present: list[str]) -> list[str]:
    require(present, TIME)
    return [name for name in (FRAME, TIME) if name in present]
