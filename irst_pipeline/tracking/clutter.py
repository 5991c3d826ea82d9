"""How many detections are of no target, by region, learnt as the run goes."""

import numpy as np

from irst_pipeline.state import Stateful
from irst_pipeline.types import Floats, Integers

REGION = 64  # px, side of a region
MEMORY_SECONDS = 10.0  # counts fade with this time constant
PRIOR_FRAMES = 10.0  # what is expected weighs as much as so many frames that were seen


class ClutterMap(Stateful):
    """Mean number of false detections a px^2 and frame, in square regions of the image."""

    kept = ("_counts", "_frames")

    def __init__(self, expected: float) -> None:
        """`expected`: false detections a frame before any has been seen."""
        self._expected = expected
        self._counts = np.empty((0, 0))
        self._frames = 0.0

    def density(self, places: Floats, shape: tuple[int, ...]) -> Floats:
        """(k,) per px^2 and frame at places (k, 2) x, y in an image (H, W)."""
        self._fit(shape)
        image = shape[0] * shape[1]
        # A region with few false detections of its own takes after the whole image.
        counts = (self._counts.ravel()[self._regions(places, shape)] + self._counts.mean()) / 2
        frames = PRIOR_FRAMES + self._frames
        return (PRIOR_FRAMES * self._expected + counts * self._counts.size) / (frames * image)

    def add(self, places: Floats, shape: tuple[int, ...], dt: float) -> None:
        """Count the false detections of a frame, `dt` seconds after the one before."""
        fade = np.exp(-dt / MEMORY_SECONDS)
        self._fit(shape)
        self._counts *= fade
        self._frames = self._frames * fade + 1
        new = np.bincount(self._regions(places, shape), minlength=self._counts.size)
        self._counts += new.reshape(self._counts.shape)

    def _fit(self, shape: tuple[int, ...]) -> None:
        """Begin anew where the frame's size is new."""
        cells = tuple(max(1, round(side / REGION)) for side in shape)
        if self._counts.shape != cells:
            self._counts, self._frames = np.zeros(cells), 0.0

    def _regions(self, places: Floats, shape: tuple[int, ...]) -> Integers:
        """Numbers (k,) of the regions, row by row, that places (k, 2) lie in; those outside count to the nearest."""
        cells = np.array(self._counts.shape[::-1])
        found = (places + 0.5) * (cells / shape[::-1])
        column, row = np.minimum(np.maximum(found, 0), cells - 1).astype(np.int64).T
        return np.asarray(row * cells[0] + column)
