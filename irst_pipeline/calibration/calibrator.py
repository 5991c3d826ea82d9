"""What is done to every frame between its source and the engine."""

from dataclasses import replace

from irst_pipeline.calibration.covered import Cover
from irst_pipeline.calibration.destripe import destripe
from irst_pipeline.calibration.file import read_calibration
from irst_pipeline.config import CalibrationSettings
from irst_pipeline.errors import UsageError
from irst_pipeline.sources.address import named_after
from irst_pipeline.sources.base import describe
from irst_pipeline.types import Frame


class Calibrator:
    """Corrects the frames of one camera, takes away what covers them, and stripes, and turns levels round, each if it
    was asked for."""

    def __init__(self, settings: CalibrationSettings, uri: str) -> None:
        """For the recording `uri`. Raises UsageError, one line, for a file that cannot be used."""
        self._settings = settings
        self._path = None if settings.file is None else named_after(settings.file, uri)
        self._calibration = read_calibration(self._path) if self._path else None
        self._cover = None if settings.covered is None else Cover(named_after(settings.covered, uri))

    def __call__(self, frame: Frame) -> Frame:
        """The frame, corrected. Raises UsageError for one of another size or depth than the files are for."""
        image = frame.image
        if self._calibration:
            if describe(frame) != self._calibration.frames:
                raise UsageError(
                    f"{frame.source}: frames of {describe(frame)}, but {self._path} is for {self._calibration.frames}; "
                    f"make a calibration of frames like these with `irst calibrate`"
                )
            image = self._calibration.apply(image)
        if self._cover:
            if image.shape != self._cover.shape:
                height, width = self._cover.shape
                raise UsageError(
                    f"{frame.source}: frames of {describe(frame)}, but {self._cover.path} is of {width}x{height}; give "
                    f"an image of their size as calibration.covered"
                )
            image = self._cover(image)
        image = destripe(image, self._settings.destripe)
        image = ~image if self._settings.polarity == "black_hot" else image
        return replace(frame, image=image)
