"""Where frames come from; `open_source` is the only door."""

import re
from glob import has_magic
from pathlib import Path

from irst_pipeline.errors import UsageError
from irst_pipeline.sources.base import Source
from irst_pipeline.sources.images import SUFFIXES, ImageSource, find_images
from irst_pipeline.sources.realtime import RealTime
from irst_pipeline.sources.video import VideoSource

__all__ = ["Source", "open_source"]


def open_source(uri: str, image_rate: float = 30.0, realtime: bool = False) -> Source:
    """The frames behind `uri`: a video file, an image, a folder of images or a glob of images.

    `image_rate` (frames/s) gives times to images and to videos that have none. With `realtime` they come as from a live
    camera, at their own rate. Whoever opens a source closes it.
    Raises UsageError where there is nothing to read, IrstError for a video that FFmpeg cannot open.
    """
    if scheme := re.match(r"[A-Za-z][\w+.-]*://", uri):  # live sources part here from recordings
        raise UsageError(f"{scheme[0]}: no such kind of source; give a video file, a folder of images or a glob")
    recording = _open_recording(uri, image_rate)
    return RealTime(recording) if realtime else recording


def _open_recording(uri: str, image_rate: float) -> Source:
    path = Path(uri)
    if not path.exists() and not has_magic(uri):
        raise UsageError(f"{uri}: no such file or folder; give a video file, a folder of images or a glob")
    if path.exists() and not path.is_dir() and path.suffix.lower() not in SUFFIXES:
        return VideoSource(path, image_rate)
    return ImageSource(path.resolve().name, find_images(uri), image_rate)
