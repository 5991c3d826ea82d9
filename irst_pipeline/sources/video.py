"""Video files, through FFmpeg, at the depth they were recorded with."""

import math
from bisect import bisect_left, insort
from collections import deque
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
from av.container import InputContainer
from av.stream import Disposition
from av.video.codeccontext import VideoCodecContext
from av.video.plane import VideoPlane
from av.video.stream import VideoStream
from numpy.typing import NDArray

from irst_pipeline.errors import IrstError
from irst_pipeline.sources.avi import grey16_decoder
from irst_pipeline.sources.base import Recording, log
from irst_pipeline.sources.images import luminance
from irst_pipeline.types import Frame, Image

NEUTRAL = 128  # 8-bit chroma of a grey pixel
COLOUR_MIN = 8  # levels from neutral; lossy coding of a grey picture stays below
ARRAYS = {"|u1": "gray", "<u2": "gray16le", ">u2": "gray16be"}  # NumPy's kinds of numbers, as FFmpeg calls them
LETTERS = {"ansi", "bintext", "idf", "xbin"}  # decoders that would draw a text as pictures
# Titles that are not UTF-8 are nothing to end for; since PyAV 19 they do not have to be.
LENIENT: dict[str, Any] = {"metadata_errors": "replace"} if int(av.__version__.split(".")[0]) < 19 else {}
OPTIONS = {"correct_ts_overflow": "0"}  # or a time stamp that runs back would count as one 26.5 hours later
EXPLODE = {"err_detect": "explode"}
JPEG = "mjpeg"  # the decoder that paints the rest of a frame that is cut short, unless it is to EXPLODE
ESTIMATE_SLACK = 0.01  # of the frames that fit a file's times may be missing without a word
FROM_ZERO = {"matroska,webm", "nut", "asf"}  # containers whose duration counts from time 0, not from their start
UNTIMED = {"avi"}  # says when a frame is decoded alone, and FFmpeg's guess when to show it fails for B-frames
SPLICED = {"mpegts"}  # marks as damaged what comes after a gap in its count, also whole packets where files are joined
GAP = 1.5  # times that a step in time is longer than those beside it, where a frame is missing
BREAK = 1.0  # s that time stamps run back where another recording begins
EVEN_SHARE = 0.5  # of the steps are as long as the one before; where fewer are, any step may be right


class Times:
    """The times of a file's frames, s, one after the other, and how many frames are missing between them.

    They are the file's time stamps; where one is missing or does not increase, it is the previous one + 1 / frame_rate.
    Where two in a row run back by more than BREAK, as in a file put together from several, those after them go on from
    there.
    """

    def __init__(self, frame_rate: float) -> None:
        self._usual = 1 / frame_rate
        self._last: float | None = None
        self._shift = 0.0  # from time stamps to times
        self._back = False  # whether the last time stamp ran back
        self._steps: deque[float] = deque(maxlen=3)  # from frame to frame, the last ones
        self._count = 0
        self._unseen = self._even = 0  # frames that fit into steps that are too long; steps as long as the one before

    def __call__(self, stamp: float | None) -> float:
        """The time of the next frame, which has this time stamp."""
        self._count += 1
        before, self._last = self._last, self._next(stamp)
        if before is not None:
            self._take_step(self._last - before)
        return self._last

    def missing(self, end: float) -> int:
        """How many more frames fit in until the `end`; 0 where steps differ, so that any of them may be right."""
        if self._last is None or not self._steps or self._even < EVEN_SHARE * (self._count - 3):
            return 0
        return self._unseen + max(0, round((end - self._last) / self._steps[-1]) - 1)

    def _next(self, stamp: float | None) -> float:
        if self._last is None:
            return 0.0 if stamp is None else stamp
        following = self._last + self._usual
        if stamp is None:
            return following
        time = stamp + self._shift
        back = time < self._last - BREAK
        if back and self._back:  # a single one is damaged
            self._shift += following - time
        self._back = back
        return time if time > self._last else following

    def _take_step(self, step: float) -> None:
        """The step before it is too long if it is longer than both beside it. Rates may vary."""
        self._steps.append(step)
        if len(self._steps) == 3:
            first, middle, last = self._steps
            self._even += math.isclose(last, middle, rel_tol=0.1)
            if middle > GAP * (usual := max(first, last)):
                self._unseen += round(middle / usual) - 1


class VideoSource(Recording):
    """The frames of a video file's first video stream.

    8-bit grey and YUV frames are views of FFmpeg's Y plane at its own range (a limited-range file has 16 .. 235), 9 to
    16-bit ones likewise, as native uint16. Colour becomes luminance, and interlaced frames become progressive. Times
    are as of `Times`.
    """

    def __init__(self, path: Path, image_rate: float, raw: dict[str, str] | None = None) -> None:
        """Raises IrstError if FFmpeg cannot open `path` or there is no video in it; `image_rate` as in open_source.

        `raw`: FFmpeg's options for a file of nothing but frames.
        """
        self._container = open_container(path, raw)
        decoder = grey16_decoder(path)
        self._stream = video_stream(self._container, str(path), decoder)
        self._decoder = decoder or self._stream.codec_context
        if self._decoder.name == JPEG:
            self._decoder.options = EXPLODE
        self._decoder.thread_type = "NONE"  # the cores are the network's; threads only slowed small frames down
        duration = _duration(self._container)
        rate = self._stream.guessed_rate if duration is None else self._stream.average_rate  # guessed: the codec's word
        super().__init__(path.name, float(rate or image_rate), self._stream.frames or None)
        self.comment = self._container.metadata.get("comment", "")  # where a run says when a part of its video begins
        self._untimed = self._container.format.name in UNTIMED
        self._counted = self.frame_count is not None and not self._untimed  # which counts its empty frames, too
        if duration is not None:
            estimate = round(duration * self.frame_rate)
            self.frame_count = min(self.frame_count or estimate, estimate)  # an MP4 may show less than it holds
        self._raw = raw is not None
        self._times = Times(self.frame_rate)
        self._end = None if duration is None else _start(self._container) + duration
        self._lost: list[int] = []  # pts of packets that gave no frame, in order
        self._cut_off: set[int] = set()  # pts of packets of which a part is there: FFV1 makes up the rest
        self._marks_cuts = self._container.format.name not in SPLICED

    def close(self) -> None:
        self._container.close()

    def read(self) -> Iterator[Frame]:
        """Indices count lost frames where their place is known: by the pts of a packet that could not be decoded."""
        seen, last = 0, -1  # frames that came out of the decoder; the last one's index
        kind_known = False
        for frame in self._decode():
            lost = len(self._lost) if frame.pts is None else bisect_left(self._lost, frame.pts)
            last = max(last + 1, seen + lost)
            seen += 1
            stamp, base = frame.dts if self._untimed else frame.pts, frame.time_base
            time = self._times(None if stamp is None or base is None else float(stamp * base))
            if frame.is_corrupt or frame.pts in self._cut_off:
                self.fail(f"frame {last} is damaged")
                continue
            image = image_of(frame, self.name, say_kind=not kind_known)
            kind_known = True
            yield Frame(image, last, time, self.name)
        self._report_missing(seen)

    def _decode(self) -> Iterator[av.VideoFrame]:
        for packet in self._packets():
            if packet.is_corrupt and packet.pts is not None and self._marks_cuts:
                self._cut_off.add(packet.pts)
            try:
                frames = self._decoder.decode(packet)
            except av.FFmpegError as error:
                pts = packet.pts if packet.pts is not None else packet.dts
                insort(self._lost, pts or 0)
                if self._raw:
                    self.fail(f"its last {packet.size} bytes are no whole frame; check format, size and header")
                else:
                    self.fail(f"a frame could not be decoded{self._at(pts)}: {error.strerror}")
                continue
            yield from frames

    def _packets(self) -> "Iterator[av.Packet[Any]]":
        """The packets up to the end or to where the file cannot be read on; the last, empty one flushes the decoder."""
        try:
            yield from self._container.demux(self._stream)
        except av.FFmpegError as error:
            log.warning("%s: cannot be read to its end: %s", self.name, error.strerror)
            yield av.Packet()

    def _at(self, pts: int | None) -> str:
        base = self._stream.time_base
        return "" if pts is None or base is None else f" at {float(pts * base):.3f} s"

    def _report_missing(self, seen: int) -> None:
        if self._counted and self.frame_count is not None:
            missing = self.frame_count - seen - len(self._lost)
            if missing > 0:
                self.frames_failed += missing
                log.warning("%s: %d of the %d frames it declares are missing", self.name, missing, self.frame_count)
        elif self._end is not None:
            missing = self._times.missing(self._end) - len(self._lost)
            fit = seen + len(self._lost) + missing
            if missing > max(1, ESTIMATE_SLACK * fit):
                log.warning("%s: about %d of the %d frames that fit its times are missing", self.name, missing, fit)


def open_container(path: Path, raw: dict[str, str] | None = None) -> InputContainer:
    """A video file, or with FFmpeg's options for them a file of raw frames; raises IrstError, one line, for others."""
    frames = _as_raw_frames(path)
    try:
        # FFmpeg would take what stands before a colon in a relative path for a protocol.
        container = av.open(str(path.absolute()), "r", "rawvideo" if raw else None, OPTIONS | (raw or {}), **LENIENT)
    except (av.InvalidDataError, av.ArgumentError):  # the latter by a suffix such as .yuv
        raise IrstError(f"{path}: not a video, or one cut short before its index was written; {frames}") from None
    except (av.FFmpegError, OSError) as error:
        raise IrstError(f"{path}: cannot be opened as a video ({error.strerror})") from None
    codecs = [stream.codec_context for stream in container.streams.video]
    sizeless = any(codec and codec.name == "rawvideo" and not codec.width for codec in codecs)
    if codecs and not sizeless and container.format.name != "bin":  # of that suffix FFmpeg would draw letters
        return container
    container.close()
    lacks = "does not say how large its frames are" if codecs else "no video stream in it"  # raw frames may be as sound
    raise IrstError(f"{path}: {lacks}; {frames}")


def _as_raw_frames(path: Path) -> str:
    """How a file that is no video may be given all the same; of a NumPy array its header says how."""
    try:
        with path.open("rb") as file:
            version = np.lib.format.read_magic(file)
            read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
            shape, by_columns, levels = read(file)
            header = file.tell()
    except (ValueError, OSError):
        return f"give raw frames as 'raw://{path}?format=gray16le&size=640x512'"
    if levels.str not in ARRAYS or by_columns or len(shape) not in (2, 3):
        return f"of NumPy's arrays, uint8 or uint16 of (frames, height, width) are taken, this is {levels} of {shape}"
    size = f"{shape[-1]}x{shape[-2]}"
    return f"this NumPy array is 'raw://{path.absolute()}?format={ARRAYS[levels.str]}&size={size}&header={header}'"


def _start(container: InputContainer) -> float:
    """Time at which a file begins, s."""
    return max(0, container.start_time or 0) / av.time_base


def _duration(container: InputContainer) -> float | None:
    """Of a file, s, if it says so."""
    if container.duration is None:
        return None
    begin = _start(container) if container.format.name in FROM_ZERO else 0.0
    return container.duration / av.time_base - begin


def video_stream(container: InputContainer, name: str, decoder: VideoCodecContext | None = None) -> VideoStream:
    """The first video stream that is not a cover picture, for this `decoder` or its own.

    Raises IrstError, one line, with the container closed, where there is none, none that can be decoded, or text.
    """
    streams = [s for s in container.streams.video if not s.disposition & Disposition.attached_pic]
    codec = decoder or streams[0].codec_context if streams else None
    if codec and codec.name not in LETTERS:
        return streams[0]
    container.close()
    if codec:
        raise IrstError(f"{name}: text, not a video")
    unknown = "FFmpeg has no decoder for its video; export it as FFV1 or as images of 16 bits"
    raise IrstError(f"{name}: {unknown if streams else 'no video stream in it'}")


def image_of(frame: av.VideoFrame, name: str, say_kind: bool) -> Image:
    """(H, W) grey levels as of `grey`, of one moment; with `say_kind`, a frame with colour or two fields is told.

    Raises IrstError, which names the source, for pixels that cannot be read.
    """
    try:
        if say_kind and has_colour(frame):
            log.warning("%s: colour video (%s), converted to luminance", name, frame.format.name)
        if say_kind and frame.interlaced_frame:
            log.warning("%s: interlaced video; of each frame one field is used", name)
        return of_one_field(grey(frame)) if frame.interlaced_frame else grey(frame)
    except (av.FFmpegError, ValueError):
        raise IrstError(f"{name}: cannot read {frame.format.name} pixels; store 16-bit grey") from None


def has_colour(frame: av.VideoFrame) -> bool:
    """Whether the frame is RGB or palette, or YUV with a chroma that is not neutral."""
    layout = frame.format
    if layout.is_rgb or layout.has_palette:
        return True
    if not any(component.is_chroma for component in layout.components):
        return False
    chroma = [pixels(plane, np.uint8) for plane in frame.reformat(format="yuv444p").planes[1:3]]
    return any(plane.min() < NEUTRAL - COLOUR_MIN or plane.max() > NEUTRAL + COLOUR_MIN for plane in chroma)


def grey(frame: av.VideoFrame) -> Image:
    """(H, W) luminance: a view of the frame's Y plane where it has one, in native byte order.

    Raises ValueError for pixels of more than 16 bits or in floating point, FFmpegError for a layout it cannot convert.
    """
    layout = frame.format
    bits = layout.components[0].bits
    if bits > 16 or "f16" in layout.name:
        raise ValueError(f"{layout.name}: wider than 16 bits, or floating-point")
    if layout.is_rgb or layout.has_palette:
        return luminance(frame.to_ndarray(format="bgr24" if bits <= 8 else "bgr48le"))
    if layout.is_bit_stream or any(component.plane == 0 for component in layout.components[1:]):  # Y among others
        chroma = any(component.is_chroma for component in layout.components)
        frame = frame.reformat(format=("yuv422p" if chroma else "gray") + ("16le" if bits > 8 else ""))
        layout = frame.format
    if bits <= 8:
        return pixels(frame.planes[0], np.uint8)
    return pixels(frame.planes[0], ">u2" if layout.is_big_endian else "<u2").astype(np.uint16, copy=False)


def of_one_field(image: Image) -> Image:
    """(H, W) An interlaced image's even lines, and between them the means of those above and below.

    Its odd lines were seen half a frame before or after. In both together whatever moves is there twice.
    """
    field, whole = image[::2], image.copy()
    cv2.addWeighted(field[:-1], 0.5, field[1:], 0.5, 0, whole[1:-1:2])  # no line at all where there are but two
    whole[-1] = field[-1]
    return whole


def pixels(plane: VideoPlane, kind: type[np.uint8] | str) -> NDArray[Any]:
    """(H, W) view of a plane; it keeps the plane's memory alive."""
    return np.frombuffer(memoryview(plane), np.dtype(kind)).reshape(plane.height, -1)[:, : plane.width]
