"""The annotated video."""

from contextlib import ExitStack
from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np
from av.video.frame import PictureType

from irst_pipeline.errors import IrstError
from irst_pipeline.sinks.agc import AutomaticGain, Picture
from irst_pipeline.sinks.annotate import Trails, draw
from irst_pipeline.sinks.base import OutputFile, RunHeader
from irst_pipeline.types import FrameResult

ENLARGED_MAX = 4096
"""px; the longest side that a small frame is enlarged to."""
TIME_BASE = Fraction(1, 90_000)
"""s; fine enough for any source's clock."""

# Fragments while it runs, so that all but the last plays when the run is killed or the disk is full; an ordinary MP4,
# which any player can seek in, once closed. The buffer is larger than a fragment: each reaches the disk in one write.
_BUFFER_BYTES = 1 << 23
_MUXER = {"movflags": "hybrid_fragmented+frag_keyframe+empty_moov+default_base_moof", "flush_packets": "1"}
# The network needs the processor: on noisy frames the next preset costs twice the time for 6 % fewer bytes.
_ENCODER = {"preset": "ultrafast", "tune": "zerolatency", "threads": "1", "forced-idr": "1", "crf": "23"}


class AnnotatedVideo:
    """`annotated.mp4`: H.264 yuv420p of the frames with their tracks, playable up to the last second if killed.

    The first frame is at 0 s; the others keep their distance to it. Frames of another size than the first one's are
    stretched to it.
    """

    def __init__(self, path: Path, header: RunHeader) -> None:
        self._settings = header.video
        self._levels = AutomaticGain(header.video)
        self._trails = Trails(header.video.trail_seconds)
        self._file = OutputFile(path)
        self._container = av.open(self._file, "w", format="mp4", container_options=_MUXER, buffer_size=_BUFFER_BYTES)
        self._frame_rate = Fraction(header.frame_rate).limit_denominator(100_000)
        self._stream: av.VideoStream | None = None
        self._start = 0.0
        self._pts = -1
        self._next_key = 0
        self._scale = 1

    def write(self, result: FrameResult) -> None:
        frame, tracks = result.frame, result.tracks
        if self._stream is None:
            self._start = frame.time
            height, width = frame.image.shape
            enough = -(-self._settings.min_height // height)
            self._scale = max(1, min(enough, ENLARGED_MAX // max(height, width)))
            self._stream = self._open_stream(*(self._scale * side for side in frame.image.shape))
        picture = draw(
            self._levels(frame.image, frame.time),
            tracks,
            trails=self._trails.update(tracks, frame.time, result.motion),
            caption=f"{frame.time:.3f} s   frame {frame.index}",
            scale=self._scale,
            velocity_seconds=self._settings.velocity_seconds,
        )
        try:
            self._encode(self._stream, picture, frame.time)
        except av.FFmpegError as error:
            raise IrstError(f"{self._file.path}: cannot encode it ({error.strerror}); run with --no-video") from None

    def close(self) -> None:
        stream, self._stream = self._stream, None
        with ExitStack() as last:
            last.callback(self._file.close)
            last.callback(self._close_container)
            if stream is not None and not self._file.failed:
                self._container.mux(stream.encode(None))

    def _close_container(self) -> None:
        try:
            self._container.close()
        except av.FFmpegError:
            if not self._file.failed:  # else the reason has been told
                raise

    def _open_stream(self, height: int, width: int) -> av.VideoStream:
        stream = self._container.add_stream("libx264", rate=self._frame_rate, options=_ENCODER)
        stream.width, stream.height = width + width % 2, height + height % 2  # yuv420p needs even sides
        stream.pix_fmt = "yuv420p"
        stream.codec_context.time_base = TIME_BASE
        stream.codec_context.colorspace = 6  # BT.601, as OpenCV converts
        stream.codec_context.color_range = 1  # 16 to 235
        return stream

    def _encode(self, stream: av.VideoStream, picture: Picture, time: float) -> None:
        """Encode one picture; one key frame a second, whatever the frame rate, since only whole fragments survive."""
        height, width = picture.shape[:2]
        if height % 2 or width % 2:
            picture = np.pad(picture, ((0, height % 2), (0, width % 2), (0, 0)), mode="edge")
        if picture.shape[:2] != (stream.height, stream.width):
            picture = np.asarray(cv2.resize(picture, (stream.width, stream.height)), np.uint8)
        yuv = np.asarray(cv2.cvtColor(picture, cv2.COLOR_BGR2YUV_I420), np.uint8)
        frame = av.VideoFrame.from_ndarray(yuv, format="yuv420p")
        self._pts = max(self._pts + 1, round((time - self._start) / TIME_BASE))
        frame.pts, frame.time_base = self._pts, TIME_BASE
        if self._pts >= self._next_key:
            frame.pict_type = PictureType.I
            self._next_key = self._pts + int(1 / TIME_BASE)
        self._container.mux(stream.encode(frame))
