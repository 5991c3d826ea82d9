"""What stands before the scene in every frame: on-screen text, a reticle, the rim of a window."""

from functools import cached_property
from pathlib import Path

import numpy as np

from irst_pipeline.calibration.maps import Replacement
from irst_pipeline.errors import FrameError, UsageError
from irst_pipeline.sources.images import decode
from irst_pipeline.types import Image

COVERED_MAX = 0.5  # of a frame
MEND = "paint an image as large as a frame, black but for what is covered"


class Cover:
    """Fills in the covered pixels of frames from those around them, as bad pixels are."""

    def __init__(self, path: Path) -> None:
        """`path`: an image of 8 or 16 bits; its pixels that are not black are covered. Raises UsageError, one line, for
        one that cannot be read, covers nothing or more than half of the frame."""
        if not path.is_file():
            raise UsageError(f"{path}: no such image; {MEND}")
        try:
            image = np.atleast_3d(decode(path))
        except FrameError as error:
            raise UsageError(f"{error}; {MEND}") from None
        colours = image[..., :3] if image.shape[2] > 2 else image[..., :1]  # what else there is, is alpha
        covered = np.asarray(colours.any(2))
        if not 0 < covered.mean() <= COVERED_MAX:
            raise UsageError(f"{path}: covers {covered.mean():.0%} of the frame, which cannot be filled in; {MEND}")
        self.path, self.shape, self._covered = path, covered.shape, covered

    def __call__(self, image: Image) -> Image:
        """An image (H, W) of this shape without what covers it."""
        seen = image.copy()
        self._replacement.fill(seen)
        return seen

    @cached_property
    def _replacement(self) -> Replacement:
        return Replacement.of(self._covered)  # it takes a while for a large mask, which may turn out not to fit
