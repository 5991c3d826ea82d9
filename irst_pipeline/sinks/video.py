"""What is written as video: the frames with their tracks, and the frames themselves."""

import logging
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from time import monotonic
from typing import ClassVar, Generic, TypeVar

import av

from irst_pipeline.disk import OutputFile, free_space, parts_set_aside, set_aside
from irst_pipeline.errors import IrstError
from irst_pipeline.sinks.annotate import Annotator
from irst_pipeline.sinks.base import RunHeader, is_full
from irst_pipeline.sinks.encode import H264, TIME_BASE, Encoder, Lossless
from irst_pipeline.sources.parts import beginning
from irst_pipeline.state import State, Stateful
from irst_pipeline.types import Frame, FrameResult, Image

log = logging.getLogger("irst")
T = TypeVar("T")

PAUSE_MAX = 2**31 * TIME_BASE
"""s, 6.6 hours; what comes so long after the frame before begins a new part, for none can be shown longer in an MP4."""

FRAMES_MAX = 25_000
"""Frames in a part: what is remembered of each until it is closed, 70 bytes, would else fill the memory in weeks."""

LOOK_SECONDS = 1.0
"""So often the disk is asked what is left."""

# A fragment a quarter of a second while it runs, or 8 MB: all before it plays when the run is killed or the disk is
# full. Once closed it is an ordinary MP4, which any player can seek in. A fragment a frame would save more, but what is
# remembered of each until the end makes memory grow half as fast again. The buffer is larger than a fragment, also than
# one of a single frame of 16 Mpx and 16 bits: each reaches the disk in one write. No memory is touched beyond it.
_BUFFER_BYTES = 1 << 26
_MUXER = {
    "movflags": "hybrid_fragmented+empty_moov+default_base_moof",
    "frag_duration": "250000",  # microseconds
    "frag_size": str(1 << 23),
    "flush_packets": "1",
}


class Video(Stateful, ABC, Generic[T]):
    """An MP4 with a picture of every frame, playable up to the last quarter second if killed.

    It gives way to the logs: where there is little space left it stops, and goes on in a new part once there is twice
    as much; where it cannot be written for another reason it stops for good. The frames that it lacks are counted.
    """

    kept = ("missed", "_parts")
    ENCODER: ClassVar[type[Encoder]]
    WITHOUT: ClassVar[str]
    """How to run without it."""

    def __init__(self, path: Path, header: RunHeader, state: State | None = None) -> None:
        """With a `state` it goes on in a new part; what was written since the state was taken is shown twice."""
        self._path, self._header, self._settings = path, header, header.settings.video
        self._recording = True  # False while there is too little space
        self._look_at = 0.0  # when the disk is asked again, on the monotonic clock
        self.missed = self._parts = 0
        self._part: _Part | None = None
        if state is None:
            self._part = self._new_part()
        else:
            self.restore(state)

    @abstractmethod
    def _picture(self, item: T) -> tuple[Image, float]:
        """What of a frame is shown, and its time, s."""

    def write(self, item: T, /) -> None:
        try:
            if not self._has_room():
                self.missed += 1
                return
            picture, time = self._picture(item)
            self._part_for(picture, time).write(picture, time)
        except IrstError as error:
            self._stop(str(error))
            if not self._lacks_space():  # as when the disk filled up since it was asked
                self._look_at = float("inf")
            self.missed += 1
        except av.FFmpegError as error:
            raise IrstError(f"{self._path}: cannot encode it ({error.strerror}); run {self.WITHOUT}") from None

    def close(self) -> None:
        try:
            self._end_part()
        except IrstError as error:
            log.warning("%s", error)

    def _end_part(self) -> None:
        part, self._part = self._part, None
        if part is None:
            return
        try:
            part.close()
        finally:
            if part.file.failed:
                self.missed += part.frames - part.stored
        if not part.frames:
            self._path.unlink(missing_ok=True)  # no player opens a video without a picture

    def _has_room(self) -> bool:
        """Whether there is space to record; asked now and then."""
        now = monotonic()
        if now >= self._look_at:
            self._look_at = now + LOOK_SECONDS
            free, needed = free_space(self._path) / 1e6, self._settings.min_free_megabytes
            if self._recording and free < needed:
                self._stop(f"{free:.0f} MB left on that disk, {needed:.0f} MB are kept for the logs; free some space")
            elif not self._recording and free >= 2 * needed:
                self._recording = True
                log.warning("%s: the video goes on; %d frames are missing in it", self._path, self.missed)
        return self._recording

    def _lacks_space(self) -> bool:
        with suppress(IrstError):  # its folder is gone
            return free_space(self._path) / 1e6 < self._settings.min_free_megabytes
        return False

    def _stop(self, reason: str) -> None:
        self._recording = False
        with suppress(IrstError):  # the reason has been told
            self._end_part()
        log.warning("%s: the video stops, the logs go on (%s)", self._path, reason)

    def _part_for(self, picture: Image, time: float) -> "_Part":
        part = self._part
        if part is not None and part.frames:
            full = is_full(self._header.settings.rotate, part.file.size, time - part.encoder.start)
            paused = time - part.encoder.last >= PAUSE_MAX
            if full or paused or part.frames >= FRAMES_MAX or not part.encoder.fits(picture):
                self._end_part()
                part = None
        if part is None:
            if self._path.exists() and self._path.stat().st_size:
                last = [int(path.stem.rpartition("-")[2]) for path in parts_set_aside(self._path)[-1:]]
                self._parts = 1 + max([self._parts, *last])
                set_aside(self._path, self._parts)
            part = self._part = self._new_part()
        return part

    def _new_part(self) -> "_Part":
        return _Part(self._path, self.ENCODER, self._header.frame_rate)


class AnnotatedVideo(Video[FrameResult]):
    """`annotated.mp4`: the frames with their tracks, as an operator sees them."""

    ENCODER, WITHOUT = H264, "with --no-video"

    def __init__(self, path: Path, header: RunHeader, state: State | None = None) -> None:
        super().__init__(path, header, state)
        self._annotated = Annotator(header.settings.video)

    def _picture(self, item: FrameResult) -> tuple[Image, float]:
        return self._annotated(item), item.frame.time


class RecordedFrames(Video[Frame]):
    """`recorded.mp4`: the frames to the last bit; where their size or depth changes, in a new part."""

    ENCODER, WITHOUT = Lossless, "without --record"

    def _picture(self, item: Frame) -> tuple[Image, float]:
        return item.image, item.time


class _Part:
    """One file of the video."""

    def __init__(self, path: Path, encoder: type[Encoder], frame_rate: float) -> None:
        self.file = OutputFile(path)
        self.frames = self.stored = 0  # encoded; and of these on disk in a fragment that plays
        self._container = av.open(self.file, "w", format="mp4", container_options=_MUXER, buffer_size=_BUFFER_BYTES)
        self.encoder = encoder(self._container, frame_rate)

    def write(self, picture: Image, time: float) -> None:
        """Encode one picture; raises FFmpegError, or IrstError where it cannot be stored. After either it can only be
        closed."""
        if not self.frames:  # its own times begin at 0
            self._container.metadata["comment"] = beginning(time)
        try:
            with self._storing():
                self.encoder.write(picture, time)
        except av.FFmpegError:
            self.file.failed = True
            raise
        self.frames += 1

    def close(self) -> None:
        """Make it an ordinary MP4; raises IrstError where that cannot be stored."""
        with self._storing(), ExitStack() as last:
            last.callback(self.file.close)
            last.callback(self._close_container)
            if not self.file.failed:
                self.encoder.flush()

    @contextmanager
    def _storing(self) -> Iterator[None]:
        """Count what is stored. Whenever the file grows, the first of what is written is a fragment with all frames so
        far, also when it becomes an ordinary MP4."""
        size = self.file.size
        try:
            yield
        finally:
            if self.file.size > size:
                self.stored = self.frames

    def _close_container(self) -> None:
        try:
            self._container.close()
        except av.FFmpegError:
            if not self.file.failed:  # else the reason has been told
                raise
