"""Addresses of live sources: what they are called, how they are opened, and what of them may be said."""

import os
import re
import select
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from threading import Event
from urllib.parse import parse_qsl

import av
from av.container import InputContainer

from irst_pipeline.errors import UsageError

NETWORK = ("rtsp", "rtsps", "rtp", "udp", "tcp", "http", "https")
LOCAL = ("v4l2", "fifo", "stdin")
SIDE_MAX = 8192  # px; larger frames are refused before they are decoded
POLL_SECONDS = 0.1
OPTIONS = {
    "protocol_whitelist": ",".join((*NETWORK, "tls", "srtp", "crypto")),  # no playlist may open files of this machine
    "rtsp_flags": "prefer_tcp",
    "overrun_nonfatal": "1",  # UDP that came faster than it was read costs packets, not the connection
}

_SIZE = re.compile(r"([1-9]\d*)x([1-9]\d*)")


def scheme_of(uri: str) -> str | None:
    """The word before ://, in lower case; None for a path."""
    found = re.match(r"([A-Za-z][\w+.-]*)://", uri)
    return found[1].lower() if found else None


def redact(uri: str) -> str:
    """`uri` as it may be shown and stored: of a network address, user and password are gone, and what follows ? or =.

    All up to the last @ counts as a password that may hold any sign. Other addresses and paths stay as they are.
    """
    scheme = re.match(r"([A-Za-z][\w+.-]*):/+", uri)  # also with a slash too few
    if not scheme or scheme[1].lower() in LOCAL:
        return uri
    rest = re.sub(r".*@", "***@", uri[scheme.end() :], flags=re.DOTALL)
    return scheme[0] + re.sub(r"([?=]).*", r"\1***", rest, flags=re.DOTALL)


@dataclass(frozen=True)
class Address:
    """A live source that can be opened, again and again."""

    name: str
    """For logs and folders; free of what `redact` hides."""
    place: str
    """What FFmpeg opens; of a pipe, its path, or - for standard input."""
    format: str | None = None
    """FFmpeg's name of the container; None to find it out."""
    options: dict[str, str] = field(default_factory=dict)
    frame_rate: float | None = None
    """frames/s, where the address says it."""
    pipe: bool = False

    @property
    def reopens(self) -> bool:
        """Whether something may come again after its end."""
        return self.place != "-"

    @property
    def timed(self) -> bool:
        """Whether its frames have times of their own; raw ones have none."""
        return self.format != "rawvideo"

    @contextmanager
    def connect(self, timeout: tuple[float, float], ended: Event) -> Iterator[InputContainer]:
        """The source, opened; raises FFmpegError or OSError where it cannot be.

        `timeout` (s, to open and for each read) is for what may be lost unseen: a pipe tells its end, and is waited for
        until it comes or `ended` is set.
        """
        # Nobody asks for the mean frame rate, and measuring it would hold the first frames back.
        options = {"max_pixels": str(SIDE_MAX**2), "fpsprobesize": "0", **self.options}
        with ExitStack() as opened:
            if self.pipe:
                pipe = opened.enter_context(closing(_Pipe(self.place, ended)))
                container = av.open(pipe, "r", self.format, options, metadata_errors="replace", buffer_size=1 << 16)
            else:
                container = av.open(self.place, "r", self.format, options, metadata_errors="replace", timeout=timeout)
            opened.callback(container.close)
            yield container


class _Pipe:
    """A FIFO, or standard input, as a file for FFmpeg; reading it ends with its writer, or when `ended` is set."""

    def __init__(self, place: str, ended: Event) -> None:
        self._file = os.dup(0) if place == "-" else os.open(place, os.O_RDONLY | os.O_NONBLOCK)
        self._ended = ended

    def read(self, size: int) -> bytes:
        while not self._ended.is_set():
            if select.select([self._file], [], [], POLL_SECONDS)[0]:
                return os.read(self._file, size)
        return b""

    def close(self) -> None:
        os.close(self._file)


def parse_address(uri: str) -> Address:
    """The live source behind `uri`; raises UsageError, which shows no password, for one that cannot be meant so."""
    scheme = scheme_of(uri) or ""
    rest = uri.partition("://")[2]
    if scheme in NETWORK:
        said = re.split("[?=]", redact(uri).partition("://")[2].rpartition("@")[2])[0]
        name = re.sub(r"\W+", "-", said).strip("-")
        if not name:
            raise UsageError(f"{redact(uri)}: no host in it; write {scheme}://HOST:PORT/PATH")
        return Address(name, uri, options=OPTIONS)
    if scheme not in LOCAL:
        known = ", ".join(f"{kind}://" for kind in (*NETWORK, *LOCAL))
        raise UsageError(f"{scheme}://: no such kind of source; give a file, a folder, a glob, or one of {known}")
    path, _, query = rest.partition("?")
    fields = _fields(uri, query)
    rate = float(fields["fps"]) if "fps" in fields else None
    if scheme == "v4l2":
        if not Path(path).exists():
            raise UsageError(f"{uri}: there is no device {path}; cameras are /dev/video0 and so on")
        keys = {"format": "input_format", "size": "video_size", "fps": "framerate"}
        return Address(Path(path).name, path, "v4l2", {keys[key]: value for key, value in fields.items()}, rate)
    if scheme == "fifo" and not Path(path).is_fifo():
        raise UsageError(f"{uri}: {path} is no FIFO; make it with mkfifo")
    if scheme == "stdin" and path:
        raise UsageError(f"{uri}: standard input has no path; write stdin://?format=gray16le&size=640x512")
    name, place = ("stdin", "-") if scheme == "stdin" else (Path(path).name, path)
    return _piped(uri, name, place, fields, rate)


def _piped(uri: str, name: str, place: str, fields: dict[str, str], rate: float | None) -> Address:
    """Raw frames, or without format and size a container."""
    if "format" not in fields and "size" not in fields:
        return Address(name, place, frame_rate=rate, pipe=True)
    if "format" not in fields or "size" not in fields:
        raise UsageError(f"{uri}: raw frames need format and size, as in ?format=gray16le&size=640x512&fps=30")
    try:
        av.VideoFormat(fields["format"])
    except ValueError:
        raise UsageError(f"{uri}: no pixel format {fields['format']}; thermal cameras mostly have gray16le") from None
    options = {"pixel_format": fields["format"], "video_size": fields["size"]}
    return Address(name, place, "rawvideo", options, rate, pipe=True)


def _fields(uri: str, query: str) -> dict[str, str]:
    fields = dict(parse_qsl(query, keep_blank_values=True))
    for key, value in fields.items():
        if key not in ("format", "size", "fps"):
            raise UsageError(f"{uri}: no field {key}; there are format, size and fps")
        if key == "size":
            size = _SIZE.fullmatch(value)
            if not size or max(map(int, size.groups())) > SIDE_MAX:
                raise UsageError(f"{uri}: size {value}: expected WIDTHxHEIGHT, at most {SIDE_MAX} px a side")
        if key == "fps" and not (re.fullmatch(r"\d+(\.\d+)?", value) and 0 < float(value) < 1e6):
            raise UsageError(f"{uri}: fps {value}: expected frames a second")
    return fields
