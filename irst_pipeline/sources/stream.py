"""Live sources that FFmpeg reads: network streams, cameras of this machine, pipes."""

import logging
import os
import select
from collections.abc import Generator, Iterable, Iterator
from contextlib import ExitStack, closing
from dataclasses import dataclass, field
from threading import Event
from time import perf_counter
from typing import Any, NamedTuple

import av
import av.logging
from av.bitstream import BitStreamFilterContext
from av.container import InputContainer
from av.video.stream import VideoStream

from irst_pipeline.config import LiveSettings
from irst_pipeline.errors import IrstError
from irst_pipeline.memory import limit_ffmpeg
from irst_pipeline.sources.base import PIXELS_MAX, SILENT, Damage, FeedFrame, refuse_size
from irst_pipeline.sources.h264 import FrameNumbers
from irst_pipeline.sources.video import EXPLODE, JPEG, LENIENT, image_of, video_stream
from irst_pipeline.stage import POLL_SECONDS, Stage

MAX_PIXELS = {"max_pixels": str(PIXELS_MAX)}
CAMERA_POLL_SECONDS = 2e-3
SETTLE_SECONDS = 0.02
# What shows that a frame was cut off: containers that pass on none, and decoders that do not invent the rest.
WHOLE_CONTAINERS = {"v4l2", "matroska,webm"}
WARY_DECODERS = {"rawvideo", "ffv1", "h264", "libdav1d", "mpeg2video", "mpeg4", "jpeg2000", "png"}
# So frames of HEVC whose reference is missing are errors; FFmpeg would leave them out without a word. A malformed SEI
# would be an error as well, and no picture needs one.
EXPLODING = {"hevc", JPEG}
WITHOUT_SEI = "filter_units=remove_types=39|40"
# FFmpeg says in its log alone that datagrams of RTP never came; what else it says there is nobody's business.
MISSING = "RTP: missed"
logging.getLogger("libav").addHandler(logging.NullHandler())
logging.getLogger("libav").propagate = False
limit_ffmpeg()


class Arrival(NamedTuple):
    """A packet, or a moment in which none came."""

    packet: "av.Packet[Any] | None"
    time: float
    """On the clock of `time.perf_counter`."""


@dataclass
class StreamFeed:
    """What FFmpeg opens by an address."""

    name: str
    place: str
    """For FFmpeg; of a pipe, its path, or - for standard input."""
    format: str | None = None
    """FFmpeg's name of the container; None to find it out."""
    options: dict[str, str] = field(default_factory=dict)
    frame_rate: float | None = None
    pipe: bool = False
    _kind_said: bool = False

    @property
    def reopens(self) -> bool:
        return self.place != "-"

    def connect(self, settings: LiveSettings, ended: Event) -> Generator[FeedFrame | Damage | None]:
        """As `Feed`. What may be lost unseen has time limits; a pipe tells its end, and may be waited for."""
        try:
            with ExitStack() as opened:
                begun = perf_counter()
                av.logging.set_skip_repeated(False)
                av.logging.set_level(av.logging.WARNING)
                with av.logging.Capture() as said:
                    container = self._open(settings, ended, opened)
                opened.callback(container.close)
                stream = video_stream(container, self.name)
                known = stream.codec_context.width
                if not (self.pipe or known) and perf_counter() - begun >= settings.open_seconds:
                    raise IrstError(SILENT)  # FFmpeg takes an interruption for an end, and would wait once more
                if self.format == "v4l2":
                    packets = _copied(container, ended)
                else:
                    packets = _marked(container, stream.index, _misses(said))
                yield from self._pictures(stream, packets, None if self.pipe else settings.read_seconds)
        except av.ExitError:
            raise IrstError(SILENT) from None
        except (av.FFmpegError, OSError) as error:  # its text would name the address, password and all
            raise IrstError(error.strerror or type(error).__name__) from None

    def _open(self, settings: LiveSettings, ended: Event, opened: ExitStack) -> InputContainer:
        # Nobody asks for the mean frame rate, and measuring it would hold the first frames back.
        options = {"fpsprobesize": "0", **MAX_PIXELS, **self.options}
        if self.pipe:
            pipe = opened.enter_context(closing(_Pipe(self.place, ended, settings.give_up_seconds)))
            return av.open(pipe, "r", self.format, options, buffer_size=1 << 16, **LENIENT)
        timeout = settings.open_seconds, settings.read_seconds
        return av.open(self.place, "r", self.format, options, timeout=timeout, **LENIENT)

    def _pictures(
        self, stream: VideoStream, packets: Iterable["av.Packet[Any] | None"], silence: float | None
    ) -> Iterator[FeedFrame | Damage | None]:
        stream.thread_type = "NONE"
        coded = stream.codec_context
        # Where frames may be lost whole: RTP, MPEG-TS. Files' containers have no start codes, nor losses.
        headers = coded.extradata or b""
        codec = None if headers.startswith(b"\1") else coded.name
        coded.options = MAX_PIXELS | (EXPLODE if codec in EXPLODING else {})
        if coded.width:  # else a frame has to come first
            refuse_size(coded.width, coded.height)
        if (wanted := self.options.get("input_format")) not in (None, coded.pix_fmt, coded.name):
            raise IrstError(f"it sends {coded.pix_fmt or coded.name}, not the {wanted} that it is asked for")
        units = BitStreamFilterContext(WITHOUT_SEI, stream) if codec == "hevc" else None
        decoder = _Decoder(stream, units, FrameNumbers(headers) if codec == "h264" else None)
        arrivals: Iterable[Arrival] = _timed(packets, stream.index, silence)
        if stream.container.format.name not in WHOLE_CONTAINERS and coded.name not in WARY_DECODERS:
            arrivals = _settled(arrivals)
        for packet, arrived in arrivals:
            for item in decoder(packet) if packet is not None else ():
                yield item if isinstance(item, Damage) else self._picture(item, arrived)
            yield None

    def _picture(self, decoded: av.VideoFrame, arrived: float) -> FeedFrame:
        refuse_size(decoded.width, decoded.height)
        image = image_of(decoded, self.name, say_kind=not self._kind_said)
        self._kind_said = True
        time = None if self.format == "rawvideo" else decoded.time  # raw frames have none
        return FeedFrame(image, time, arrived)


def _copied(container: InputContainer, ended: Event) -> Iterator["av.Packet[Any] | None"]:
    """Packets of a camera that does not block; None for a moment in which none came.

    FFmpeg's own lie in memory of the driver's, which goes with the connection, so none is kept.
    """
    while True:
        try:
            lent = next(container.demux())
        except BlockingIOError:
            ended.wait(CAMERA_POLL_SECONDS)
            yield None
            continue
        packet = av.Packet(bytes(lent))
        packet.stream, packet.time_base, packet.pts = lent.stream, lent.time_base, lent.pts
        packet.is_keyframe, packet.is_corrupt = lent.is_keyframe, not lent.size  # FFmpeg empties what is not whole
        del lent
        yield packet


def _marked(container: InputContainer, stream: int, distrusted: bool) -> "Iterator[av.Packet[Any] | None]":
    """The container's packets, marked as damaged where datagrams are missing in them or before them.

    All of this `stream` up to its first key frame are where packets are `distrusted`: datagrams are missing among what
    FFmpeg read ahead, and nobody knows where.
    """
    packets: Iterator[av.Packet[Any]] = container.demux()
    while True:
        with av.logging.Capture() as said:
            packet = next(packets, None)
        if packet is None:
            return
        if distrusted or _misses(said):
            packet.is_corrupt = True
        distrusted &= not (packet.stream.index == stream and packet.is_keyframe)
        yield packet


def _misses(said: list[tuple[int, str, str]]) -> bool:
    return any(MISSING in line for _, _, line in said)


def _timed(packets: Iterable["av.Packet[Any] | None"], stream: int, silence: float | None) -> Iterator[Arrival]:
    """The packets of one stream as they come; raises IrstError for what FFmpeg still had when it gave up waiting."""
    asked = perf_counter()
    for packet in packets:
        arrived = perf_counter()
        if silence and arrived - asked >= silence:
            raise IrstError(SILENT)
        yield Arrival(packet if packet is not None and packet.stream.index == stream else None, arrived)
        if packet is not None:
            asked = perf_counter()


def _settled(arrivals: Iterable[Arrival]) -> Iterator[Arrival]:
    """The same, with the last packet before an end marked as damaged: nobody knows whether all of it came.

    FFmpeg passes on what it has when a connection ends, and then says at once that it has. So a packet is kept until
    the next one comes, which alone would take as long as a frame, or until SETTLE_SECONDS pass without an end.
    """
    kept: Arrival | None = None
    failure: Exception | None = None
    with closing(Stage(arrivals, 1)) as coming:
        try:
            for arrival in coming:
                if arrival.packet is None:
                    yield arrival
                elif arrival.packet.size:
                    if kept:
                        yield kept
                    kept = arrival
                elif kept:
                    continue  # it is the end, as it seems, and no time that passes tells otherwise
                else:
                    yield arrival  # so that the decoder gives what it has
                if kept and not coming.ready(SETTLE_SECONDS):
                    yield kept
                    kept = None
        except (av.FFmpegError, OSError) as error:
            failure = error
    if kept and kept.packet is not None:
        kept.packet.is_corrupt = True
        yield kept
    if failure:
        raise failure


class _Decoder:
    """Frames from packets. After one that is damaged, those up to the next key frame are not decoded.

    They are predicted from it, so that they would show what was never seen, and FFmpeg does not tell them from others.
    Lost packets of MPEG-TS are seen by its counters, those of other streams by what cannot be decoded, and frames of
    H.264 that were lost whole by the numbers of others.
    """

    def __init__(self, stream: VideoStream, units: BitStreamFilterContext | None, numbers: FrameNumbers | None) -> None:
        """`units` takes away from packets what is not to be decoded."""
        self._context, self._units, self._numbers = stream.codec_context, units, numbers
        self._whole = False  # all is there that the next frame is predicted from
        self._gap = False  # FFmpeg's parser may flag a loss one packet early

    def __call__(self, packet: "av.Packet[Any]") -> Iterator[av.VideoFrame | Damage]:
        gap, self._gap = self._gap, packet.is_corrupt and packet.size > 0
        follows = self._numbers is None or self._numbers.follows(bytes(packet)) or packet.is_keyframe
        if self._whole and (packet.is_corrupt or not follows):
            yield from self._decode(None)  # what came before it, and waits for its turn
            self._whole = False
        elif packet.is_keyframe and not packet.is_corrupt and not gap and not self._whole:
            self._context.flush_buffers()
            self._whole = True
        if self._whole:
            yield from self._decode(packet)
        elif packet.size or packet.is_corrupt:
            yield Damage("is damaged" if packet.is_corrupt else "is predicted from one that did not come whole")

    def _decode(self, packet: "av.Packet[Any] | None") -> Iterator[av.VideoFrame | Damage]:
        try:
            packets = self._units.filter(packet) if self._units and packet and packet.size else [packet]
            decoded = [frame for part in packets for frame in self._context.decode(part)]
        except av.EOFError:
            return
        except av.FFmpegError as error:
            self._whole = False
            yield Damage(f"could not be decoded: {error.strerror}")
            return
        for frame in decoded:
            self._whole &= not frame.is_corrupt
            yield frame if self._whole else Damage("is damaged")


class _Pipe:
    """A FIFO, or standard input, as a file for FFmpeg; reading it ends with its writer, or when `ended` is set.

    Raises IrstError where nothing comes for longer than the `patience` (s), if there is one.
    """

    def __init__(self, place: str, ended: Event, patience: float | None) -> None:
        self._file = os.dup(0) if place == "-" else os.open(place, os.O_RDONLY | os.O_NONBLOCK)
        self._ended, self._patience = ended, patience
        self._coming = select.poll()
        self._coming.register(self._file, select.POLLIN)

    def read(self, size: int) -> bytes:
        asked = perf_counter()
        while not self._ended.is_set():
            if self._coming.poll(1000 * POLL_SECONDS):
                return os.read(self._file, size)
            if self._patience is not None and perf_counter() - asked > self._patience:
                raise IrstError(SILENT)
        return b""

    def close(self) -> None:
        os.close(self._file)
