"""Encoding pictures as video."""

from abc import ABC, abstractmethod
from contextlib import nullcontext
from fractions import Fraction
from typing import Any, ClassVar

import av
import cv2
import numpy as np
from av.container import OutputContainer
from av.video.frame import PictureType

from irst_pipeline.memory import room_for_ffmpeg
from irst_pipeline.sources.video import pixels
from irst_pipeline.types import Image

TIME_BASE = Fraction(1, 90_000)
"""s; fine enough for any source's clock."""
RATE_MIN, RATE_MAX = 1e-3, 1e4  # frames/s that a container can be told, as a fraction of two numbers of 32 bits


class Encoder(ABC):
    """Adds pictures to a container. The first is at 0 s; the others keep their distance to it."""

    CODEC: ClassVar[str]
    OPTIONS: ClassVar[dict[str, str]]

    def __init__(self, container: OutputContainer, frame_rate: float) -> None:
        """`frame_rate`: frames/s, nominal."""
        self.start = self.last = 0.0
        """s, times of the first and the last picture."""
        rate = min(max(frame_rate, RATE_MIN), RATE_MAX)
        self._container, self._frame_rate = container, Fraction(rate).limit_denominator(100_000)
        self._stream: av.VideoStream | None = None
        self._frame: av.VideoFrame | None = None
        self._pts = -1
        self._next_key = 0

    @abstractmethod
    def fits(self, picture: Image) -> bool:
        """Whether it can follow those before it."""

    @abstractmethod
    def _set_up(self, stream: av.VideoStream, picture: Image) -> None:
        """For pictures like the first."""

    @abstractmethod
    def _planes(self, picture: Image, stream: av.VideoStream) -> Image:
        """Its levels as the stream has them, plane by plane in one row."""

    def write(self, picture: Image, time: float) -> None:
        """Add a picture of `time`, s; raises FFmpegError, or what the container's file raises."""
        if self._stream is None:
            self.start, self._stream = time, self._open_stream(picture)
        stream = self._stream
        self._pts, self.last = max(self._pts + 1, round((time - self.start) / TIME_BASE)), time
        frame = self._fill(stream, self._planes(picture, stream))
        frame.pts, frame.time_base, frame.pict_type = self._pts, TIME_BASE, PictureType.NONE
        if self._pts >= self._next_key:  # one a second, whatever the frame rate, for players to begin at
            frame.pict_type = PictureType.I
            self._next_key = self._pts + int(1 / TIME_BASE)
        self._container.mux(stream.encode(frame))

    def flush(self) -> None:
        """Add what the encoder still holds, once; raises as `write` does."""
        stream, self._stream = self._stream, None
        if stream is not None:
            self._container.mux(stream.encode(None))

    def _open_stream(self, picture: Image) -> av.VideoStream:
        stream = self._container.add_stream(self.CODEC, rate=self._frame_rate, options=self.OPTIONS)
        assert isinstance(stream, av.VideoStream)
        stream.codec_context.time_base = TIME_BASE
        self._set_up(stream, picture)
        return stream

    def _fill(self, stream: av.VideoStream, levels: Image) -> av.VideoFrame:
        """One and the same frame for all pictures, of which the encoder keeps none: new ones tear holes in the heap."""
        if self._frame is None:
            self._frame = av.VideoFrame(stream.width, stream.height, stream.pix_fmt or "")
        for plane in self._frame.planes:
            lines = pixels(plane, levels.dtype.str)
            lines[:], levels = levels[: lines.size].reshape(lines.shape), levels[lines.size :]
        return self._frame


class H264(Encoder):
    """H.264, yuv420p, of pictures (H, W, 3) uint8, BGR; all are stretched to the first one's size."""

    CODEC = "libx264"
    # The network needs the processor: on noisy frames the next preset costs twice the time for 6 % fewer bytes.
    OPTIONS: ClassVar = {"preset": "ultrafast", "tune": "zerolatency", "threads": "1", "forced-idr": "1", "crf": "26"}

    def fits(self, _picture: Image) -> bool:
        return True

    def _set_up(self, stream: av.VideoStream, picture: Image) -> None:
        height, width = picture.shape[:2]
        stream.width, stream.height = width + width % 2, height + height % 2  # yuv420p needs even sides
        stream.pix_fmt = "yuv420p"
        stream.codec_context.colorspace = 6  # BT.601, as OpenCV converts
        stream.codec_context.color_range = 1  # 16 to 235

    def _planes(self, picture: Image, stream: av.VideoStream) -> Image:
        height, width = picture.shape[:2]
        if height % 2 or width % 2:
            picture = np.asarray(np.pad(picture, ((0, height % 2), (0, width % 2), (0, 0)), mode="edge"), np.uint8)
        if picture.shape[:2] != (stream.height, stream.width):
            picture = np.asarray(cv2.resize(picture, (stream.width, stream.height)), np.uint8)
        return np.asarray(cv2.cvtColor(picture, cv2.COLOR_BGR2YUV_I420), np.uint8).reshape(-1)


class Lossless(Encoder):
    """FFV1 of images (H, W), uint8 or uint16, all of one size and depth; each stands for itself."""

    CODEC = "ffv1"
    OPTIONS: ClassVar = {"level": "3", "coder": "0", "slicecrc": "1", "g": "1", "threads": "1"}
    _FORMATS: ClassVar = {np.dtype(np.uint8): "gray", np.dtype(np.uint16): "gray16le"}

    # What FFV1 sets aside at its first picture, as much as any could take: 41 bytes a pixel of 16 bits were measured.
    _PIXEL_BYTES_MAX = 48

    _kind: tuple[Any, ...] | None = None
    """Shape and dtype of all of them."""

    def write(self, picture: Image, time: float) -> None:
        with room_for_ffmpeg(self._PIXEL_BYTES_MAX * picture.size) if self._kind is None else nullcontext():
            super().write(picture, time)

    def fits(self, picture: Image) -> bool:
        return self._kind in (None, (picture.shape, picture.dtype))

    def _set_up(self, stream: av.VideoStream, picture: Image) -> None:
        self._kind = picture.shape, picture.dtype
        stream.height, stream.width = picture.shape
        stream.pix_fmt = self._FORMATS[picture.dtype]
        stream.codec_context.color_range = 2  # all levels

    def _planes(self, picture: Image, _stream: av.VideoStream) -> Image:
        return picture.reshape(-1)
