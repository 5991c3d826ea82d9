"""Encoding pictures as video."""

from fractions import Fraction

import av
import cv2
import numpy as np
from av.container import OutputContainer
from av.video.frame import PictureType

from irst_pipeline.sinks.agc import Picture
from irst_pipeline.sources.video import pixels

TIME_BASE = Fraction(1, 90_000)
"""s; fine enough for any source's clock."""

# The network needs the processor: on noisy frames the next preset costs twice the time for 6 % fewer bytes.
_OPTIONS = {"preset": "ultrafast", "tune": "zerolatency", "threads": "1", "forced-idr": "1", "crf": "26"}


class Encoder:
    """Adds pictures to a container as H.264, yuv420p. The first is at 0 s; the others keep their distance to it, and
    are stretched to its size."""

    def __init__(self, container: OutputContainer, frame_rate: float) -> None:
        """`frame_rate`: frames/s, nominal."""
        self.start = self.last = 0.0
        """s, times of the first and the last picture."""
        self._container, self._frame_rate = container, Fraction(frame_rate).limit_denominator(100_000)
        self._stream: av.VideoStream | None = None
        self._frame: av.VideoFrame | None = None
        self._pts = -1
        self._next_key = 0

    def write(self, picture: Picture, time: float) -> None:
        """Add a picture of `time`, s; raises FFmpegError, or what the container's file raises."""
        height, width = picture.shape[:2]
        if self._stream is None:
            self.start, self._stream = time, self._open_stream(height, width)
        stream = self._stream
        if height % 2 or width % 2:
            picture = np.pad(picture, ((0, height % 2), (0, width % 2), (0, 0)), mode="edge")
        if picture.shape[:2] != (stream.height, stream.width):
            picture = np.asarray(cv2.resize(picture, (stream.width, stream.height)), np.uint8)
        self._pts, self.last = max(self._pts + 1, round((time - self.start) / TIME_BASE)), time
        frame = self._fill(picture)
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

    def _fill(self, picture: Picture) -> av.VideoFrame:
        """One and the same frame for all pictures, of which the encoder keeps none: new ones tear holes in the heap."""
        height, width = picture.shape[:2]
        if self._frame is None:
            self._frame = av.VideoFrame(width, height, "yuv420p")
        yuv = np.asarray(cv2.cvtColor(picture, cv2.COLOR_BGR2YUV_I420), np.uint8).reshape(-1)
        for plane in self._frame.planes:
            lines = pixels(plane, np.uint8)
            lines[:], yuv = yuv[: lines.size].reshape(lines.shape), yuv[lines.size :]
        return self._frame

    def _open_stream(self, height: int, width: int) -> av.VideoStream:
        stream = self._container.add_stream("libx264", rate=self._frame_rate, options=_OPTIONS)
        stream.width, stream.height = width + width % 2, height + height % 2  # yuv420p needs even sides
        stream.pix_fmt = "yuv420p"
        stream.codec_context.time_base = TIME_BASE
        stream.codec_context.colorspace = 6  # BT.601, as OpenCV converts
        stream.codec_context.color_range = 1  # 16 to 235
        return stream
