"""Where frames come from; `open_source` is the only door."""

from glob import has_magic
from pathlib import Path
from threading import Event

from irst_pipeline.config import LiveSettings
from irst_pipeline.errors import UsageError
from irst_pipeline.sources.address import is_live, named_after, redact, scheme_of
from irst_pipeline.sources.base import Position, Source
from irst_pipeline.sources.feeds import feed_of, open_raw
from irst_pipeline.sources.images import SUFFIXES, ImageSource, files_of, find_images
from irst_pipeline.sources.live import LiveStream
from irst_pipeline.sources.parts import VideoInParts, parts_of
from irst_pipeline.sources.realtime import RealTime
from irst_pipeline.sources.resumed import checksum, resume_source
from irst_pipeline.sources.timed import Timed
from irst_pipeline.sources.video import VideoSource

__all__ = ["Position", "Source", "checksum", "open_source", "redact", "resume_source"]


def open_source(
    uri: str,
    image_rate: float = 30.0,
    realtime: bool = False,
    live: LiveSettings | None = None,
    stop: Event | None = None,
    frame_times: str | None = None,
) -> Source:
    """The frames behind `uri`: a video, raw frames in a file, an image, a folder or a glob of images, or a live stream.

    `image_rate` (frames/s) gives times to images and to videos that have none, and is the nominal rate of a stream that
    does not say its own. `frame_times` names a CSV of a recording's times, see `read_times`; {} in it is as in
    `named_after`. With `realtime` recordings come as from a live camera, at their own rate. A live stream is
    connected to when it is iterated. Both end when `stop` is set. Whoever opens a source closes it.
    Raises UsageError where there is nothing to read, IrstError for a video that FFmpeg cannot open.
    """
    if is_live(uri):
        if frame_times:
            raise UsageError(f"{redact(uri)}: gives its frames their times itself; leave --frame-times out")
        return LiveStream(feed_of(uri), image_rate, live or LiveSettings(), stop or Event())
    recording = open_raw(uri, image_rate) if scheme_of(uri) else _open_recording(uri, image_rate)
    if frame_times:
        recording = Timed(recording, named_after(frame_times, uri))
    return RealTime(recording, stop or Event()) if realtime else recording


def _open_recording(uri: str, image_rate: float) -> Source:
    path = Path(uri)
    if not path.exists() and not has_magic(uri):
        raise UsageError(f"{redact(uri)}: no such file or folder; give a video file, a folder of images or a glob")
    if path.is_fifo():
        raise UsageError(f"{uri}: is a FIFO; write fifo://{path.absolute()}")
    if path.is_char_device():
        raise UsageError(f"{uri}: is a device; a camera's is written as v4l2://{path.absolute()}")
    if path.exists() and not path.is_dir() and path.suffix.lower() not in SUFFIXES:
        parts = parts_of(path, image_rate)
        return VideoInParts(parts, image_rate) if parts else VideoSource(path, image_rate)
    try:
        images = find_images(uri)
    except UsageError as error:
        videos = "; of videos give each by its name, as a shell does of FOLDER/*.mp4" if files_of(uri) else ""
        raise UsageError(f"{error}{videos}") from None
    named = path if path.exists() else images[0].path.parent  # a glob's * is no name for a folder of results
    return ImageSource(named.resolve().name, images, image_rate)
