"""A video that a run wrote in parts, as `recorded.mp4` of weeks: read as the one that it is."""

from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

from irst_pipeline.disk import all_parts, parts_set_aside
from irst_pipeline.errors import IrstError
from irst_pipeline.sources.base import Recording, log
from irst_pipeline.sources.video import VideoSource
from irst_pipeline.types import Frame

SAME = 1e-4
"""s; times nearer to one another are of one frame, for each part rounds them to its own clock."""
_BEFORE, _AFTER = "begins at ", " s of its source"


def beginning(time: float) -> str:
    """What a part, whose own times begin at 0, says in its comment of when its first frame came, s."""
    return f"{_BEFORE}{time:.6f}{_AFTER}"


def _begun(comment: str) -> float | None:
    """When that was; None of a comment that does not say it."""
    try:
        return float(comment.removeprefix(_BEFORE).removesuffix(_AFTER)) if comment.startswith(_BEFORE) else None
    except ValueError:
        return None


class Part(NamedTuple):
    """A file of the video."""

    path: Path
    begins: float
    """s, its first frame, on one clock for all parts."""
    frames: int
    """As many as it says."""
    frame_rate: float


def parts_of(path: Path, image_rate: float) -> list[Part]:
    """The parts of a video whose last one is `path`, in their order; none of a video that is not in parts.

    One that cannot be opened, as where a kill left nothing in it, is reported and left out.
    """
    parts = []
    for file in all_parts(path) if parts_set_aside(path) else []:
        try:
            with closing(VideoSource(file, image_rate)) as video:
                if (begins := _begun(video.comment)) is not None:
                    parts.append(Part(file, begins, video.frame_count or 0, video.frame_rate))
        except IrstError as error:
            log.warning("%s; it is left out", error)
    return parts if any(part.path == path for part in parts) else []


class VideoInParts(Recording):
    """The frames of all parts, one after the other, with the time that passed between them.

    What the next part shows again, as after a run was killed and resumed, is taken from that one.
    """

    def __init__(self, parts: list[Part], image_rate: float) -> None:
        first, last = parts[0], parts[-1]
        super().__init__(last.path.name, first.frame_rate, sum(part.frames for part in parts) or None)
        self._parts, self._image_rate = parts, image_rate

    def close(self) -> None:
        """Each part is closed once it is read."""

    def read(self) -> Iterator[Frame]:
        ends = [after.begins - SAME for _, after in pairwise(self._parts)]
        last = -1  # index of a frame
        for part, end in zip(self._parts, [*ends, float("inf")], strict=True):
            first, since = last + 1, part.begins - self._parts[0].begins
            failed = 0
            with closing(VideoSource(part.path, self._image_rate)) as video:
                for frame in video.read():
                    failed = self._count_failed(video, failed)
                    if part.begins + frame.time >= end:
                        break
                    last = first + frame.index
                    yield replace(frame, index=last, time=since + frame.time, source=self.name)
                self._count_failed(video, failed)

    def _count_failed(self, video: VideoSource, before: int) -> int:
        """Count those that failed in a part since so many had, which the part itself has told."""
        self.frames_failed += video.frames_failed - before
        return video.frames_failed
