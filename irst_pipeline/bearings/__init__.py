"""Where tracks are in the world, for a camera that is known. `open_platform` is the only door."""

from pathlib import Path

from irst_pipeline.bearings.camera import Camera, PinholeSettings
from irst_pipeline.bearings.platform import Platform
from irst_pipeline.bearings.pointing import read_pointing
from irst_pipeline.config import BearingSettings
from irst_pipeline.settings import read_settings
from irst_pipeline.sources.address import named_after

__all__ = ["Platform", "open_platform"]


def open_platform(settings: BearingSettings, uri: str) -> Platform | None:
    """What carries the camera of the recording `uri`; None without a camera model.

    Raises UsageError, one line, for a file that cannot be read or says what cannot be.
    """
    if settings.model is None:
        return None
    camera = Camera(read_settings(PinholeSettings, Path(settings.model)))
    if settings.pointing is None:
        return Platform(camera, None)
    return Platform(camera, read_pointing(named_after(settings.pointing, uri)))
