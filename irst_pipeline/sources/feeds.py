"""What is meant by the address of a live source, or of raw frames in a file."""

import os
import re
from pathlib import Path

import av

from irst_pipeline.errors import UsageError
from irst_pipeline.memory import PACKET_MAX
from irst_pipeline.sources.address import LOCAL, NETWORK, QUERY, path_and_fields, redact, scheme_of
from irst_pipeline.sources.base import SIZES, Feed, sound_size
from irst_pipeline.sources.stream import StreamFeed
from irst_pipeline.sources.video import VideoSource

OPTIONS = {
    "protocol_whitelist": ",".join((*NETWORK, "tls", "srtp", "crypto")),  # no playlist may open files of this machine
    "rtsp_flags": "prefer_tcp",
    "overrun_nonfatal": "1",  # UDP that came faster than it was read costs packets, not the connection
}
FIFO_MAX = PACKET_MAX // 188 - 1  # packets of MPEG-TS, by which FFmpeg counts this, with one free
PORTLESS = ("rtp", "udp", "tcp")  # protocols without a port of their own
SEALED = {"protocol_whitelist": "pipe"}  # nothing else is opened, whatever a playlist in a pipe asks for
LISTEN = {"rtsp_flags": "listen", "listen_timeout": "3600"}  # s, FFmpeg's own limit, which its default sets wrongly
NONBLOCKING = {"fflags": "+4"}  # AVFMT_FLAG_NONBLOCK, which has no name there; a driver waits for ever otherwise
VIDEO4LINUX = 81  # major number of its devices
NUMBER = r"\d{1,9}(\.\d+)?"
FIELDS = {  # what is expected of them, in words and as a pattern
    "size": (f"WIDTHxHEIGHT; {SIZES}", r"[1-9]\d{0,8}x[1-9]\d{0,8}"),
    "fps": ("frames a second", r"(?=.*[1-9])\d{1,6}(\.\d+)?"),  # above 0
    "exposure": ("microseconds", NUMBER),
    "gain": ("the number that the camera is to be set to", f"-?{NUMBER}"),
    "header": ("bytes before the first frame", r"\d{1,12}"),
    "region": ("X,Y,WIDTH,HEIGHT in px", r"\d{1,5},\d{1,5},[1-9]\d{0,4},[1-9]\d{0,4}"),
}


def feed_of(uri: str) -> Feed:
    """The live source behind `uri`; raises UsageError, which shows no password, for one that cannot be meant so."""
    scheme = scheme_of(uri) or ""
    if scheme in NETWORK:
        return _networked(scheme + uri[len(scheme) :], scheme)
    if scheme not in LOCAL:
        known = ", ".join(f"{kind}://" for kind in (*NETWORK, *LOCAL))
        raise UsageError(f"{scheme}://: no such kind of source; give a file, a folder, a glob, or one of {known}")
    path, fields = path_and_fields(uri)
    if scheme in ("gige", "usb3"):
        return _camera(uri, path, fields)
    _check(uri, fields, ("format", "size", "fps"))
    rate = float(fields["fps"]) if "fps" in fields else None
    if scheme == "v4l2":
        if not (device := Path(path)).is_char_device() or os.major(device.stat().st_rdev) != VIDEO4LINUX:
            raise UsageError(f"{uri}: there is no camera {path}; cameras are /dev/video0 and so on")
        keys = {"format": "input_format", "size": "video_size", "fps": "framerate"}
        options = NONBLOCKING | {keys[key]: value for key, value in fields.items()}
        return StreamFeed(Path(path).name, path, "v4l2", options, rate)
    if scheme == "fifo" and not Path(path).is_fifo():
        raise UsageError(f"{uri}: {path} is no FIFO; make it with mkfifo")
    if scheme == "stdin" and path:
        raise UsageError(f"{uri}: standard input has no path; write stdin://?format=gray16le&size=640x512")
    if scheme == "stdin" and os.isatty(0):
        raise UsageError(f"{uri}: standard input is a terminal; pipe frames into it, as with `camera | irst run -`")
    name, place = ("stdin", "-") if scheme == "stdin" else (Path(path).name, path)
    return _piped(uri, name, place, fields, rate)


def _networked(uri: str, scheme: str) -> StreamFeed:
    said = re.split(QUERY, redact(uri).partition("://")[2].rpartition("@")[2], flags=re.IGNORECASE)[0]
    name = _plain(said)
    if not name or said.startswith("/"):
        raise UsageError(f"{redact(uri)}: no host in it; write {scheme}://HOST:PORT/PATH")
    port = re.fullmatch(r"(?:\[.*\]|[^:/]*)(?::(\d+))?(?:/.*)?", said)
    if port is None or (port[1] is None and scheme in PORTLESS) or not 0 < int(port[1] or 1) < 1 << 16:
        raise UsageError(f"{redact(uri)}: no port of 1 to 65535 in it; write {scheme}://HOST:PORT/PATH")
    fifo = re.search(r"[?&]fifo_size=(\d+)", uri)
    if fifo and int(fifo[1]) > FIFO_MAX:
        raise UsageError(f"{redact(uri)}: fifo_size is too large; give {FIFO_MAX} or less")
    if scheme == "rtsp" and uri.endswith("?listen"):
        return StreamFeed(name, uri.removesuffix("?listen"), "rtsp", OPTIONS | LISTEN)
    return StreamFeed(name, uri, options=OPTIONS)


def _camera(uri: str, place: str, fields: dict[str, str]) -> Feed:
    from irst_pipeline.sources.camera import FORMATS, CameraFeed  # Aravis takes a while, and few runs need it

    if "@" in place:
        raise UsageError(f"{place.rpartition('@')[2]}: such a camera asks for no user; write gige://ADDRESS alone")
    _check(uri, fields, ("format", "exposure", "gain", "region", "fps"))
    if not place:
        raise UsageError(f"{uri}: no camera in it; write gige://ADDRESS, or the name that arv-tool-0.8 lists")
    if fields.get("format", "Mono8") not in FORMATS:
        raise UsageError(f"{uri}: format {fields['format']}: expected one of {', '.join(FORMATS)}; none is packed")
    exposure, gain, rate = (float(fields[key]) if key in fields else None for key in ("exposure", "gain", "fps"))
    region = tuple(map(int, fields["region"].split(","))) if "region" in fields else None
    return CameraFeed(_plain(place), place, fields.get("format"), exposure, gain, rate, region)


def _plain(text: str) -> str:
    """Fit for the name of a folder."""
    return re.sub(r"\W+", "-", text).strip("-")


def _piped(uri: str, name: str, place: str, fields: dict[str, str], rate: float | None) -> StreamFeed:
    """Raw frames, or without format and size a container."""
    if "format" not in fields and "size" not in fields:
        return StreamFeed(name, place, options=SEALED, frame_rate=rate, pipe=True)
    return StreamFeed(name, place, "rawvideo", _raw_options(uri, fields), rate, pipe=True)


def open_raw(uri: str, image_rate: float) -> VideoSource:
    """A file of frames one after the other, as raw:///tmp/y16.raw?format=gray16le&size=640x512&fps=30&header=128, of
    which that many bytes come before the first; raises IrstError."""
    path, fields = path_and_fields(uri)
    _check(uri, fields, ("format", "size", "fps", "header"))
    if not Path(path).is_file():
        raise UsageError(f"{uri}: there is no file {Path(path).absolute()}; an absolute path is raw:///data/y16.raw")
    rate = float(fields.get("fps", image_rate))
    options = {"framerate": str(rate), "skip_initial_bytes": fields.get("header", "0")}
    return VideoSource(Path(path), rate, _raw_options(uri, fields) | options)


def _raw_options(uri: str, fields: dict[str, str]) -> dict[str, str]:
    """For FFmpeg, of raw frames."""
    if "format" not in fields or "size" not in fields:
        example = "'...?format=gray16le&size=640x512&fps=30', in quotes for the shell"
        raise UsageError(f"{uri}: raw frames need format and size, as in {example}")
    try:
        av.VideoFormat(fields["format"])
    except ValueError:
        raise UsageError(f"{uri}: no pixel format {fields['format']}; thermal cameras mostly have gray16le") from None
    return {"pixel_format": fields["format"], "video_size": fields["size"]}


def _check(uri: str, fields: dict[str, str], known: tuple[str, ...]) -> None:
    for key, value in fields.items():
        if key not in known:
            place = uri.partition("?")[0]  # a password may have been meant
            raise UsageError(f"{place}: no field {key}; there are {', '.join(known[:-1])} and {known[-1]}")
        expected, pattern = FIELDS.get(key, ("", ""))
        sound = not pattern or re.fullmatch(pattern, value) is not None
        if key == "size" and sound:
            sound = sound_size(*map(int, value.split("x")))
        if not sound:
            raise UsageError(f"{uri}: {key} {value}: expected {expected}")
