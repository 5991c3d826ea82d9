"""Takes a camera's own pattern away from its frames and makes warm bright. `open_calibrator` is the only door."""

from collections.abc import Callable

from irst_pipeline.calibration.calibrator import Calibrator
from irst_pipeline.config import CalibrationSettings
from irst_pipeline.types import Frame

__all__ = ["open_calibrator"]


def open_calibrator(settings: CalibrationSettings, uri: str) -> Callable[[Frame], Frame] | None:
    """What is done to every frame of the recording `uri` before anything else sees it; None for nothing.

    Raises UsageError, one line, for a file that cannot be read or says what cannot be.
    """
    return None if settings == CalibrationSettings() else Calibrator(settings, uri)
