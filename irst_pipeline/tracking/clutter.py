"""How many detections are of no target, and where, learnt as the run goes."""

import numpy as np

from irst_pipeline.state import Stateful
from irst_pipeline.types import CameraMotion, Floats, Integers

REGION = 64  # px, side of a region
MEMORY_SECONDS = 10.0  # counts fade with this time constant
PRIOR_FRAMES = 10.0  # what is expected weighs as much as so many frames that were seen
SPOT = 3  # px that a spot reaches to each side of its middle one
SPOT_SECONDS = (0.5, 3.0)  # a spot is what was seen there so long ago: less, and it may have been a target on its way
SPOTTED_MAX = 200  # a frame
ROW = 1 << 20  # px, from a row's first number to the next one's


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


class Spots(Stateful):
    """Where false detections come again and again: a cloud's edge, a branch, glints. They go with the scene."""

    kept = ("_places", "_seen", "_frames")

    def __init__(self, spared: float) -> None:
        """`spared`: of the detections that a spot shows in a frame, so many may be of a target that stays there."""
        self._spared = spared
        self._places, self._seen, self._frames = np.empty((0, 2)), np.empty(0), np.empty(0)

    def carry(self, time: float, motion: CameraMotion) -> None:
        """To the frame of `time`, s, before which the camera has moved."""
        since = time - SPOT_SECONDS[1]
        recent = np.searchsorted(self._seen, since)
        self._places, self._seen = self._places[recent:], self._seen[recent:]
        if motion.moved:
            places = motion.apply(self._places)
            kept = np.isfinite(places).all(1)
            self._places, self._seen = places[kept], self._seen[kept]
        self._frames = np.append(self._frames[np.searchsorted(self._frames, since) :], time)

    def density(self, places: Floats) -> Floats:
        """(k,) per px^2 and frame at places (k, 2)."""
        until = self._frames[-1] - SPOT_SECONDS[0]
        frames = max(PRIOR_FRAMES, np.searchsorted(self._frames, until, "right"))
        known = self._places[: np.searchsorted(self._seen, until, "right")]
        if len(known) <= self._spared * frames:  # no spot shows more than is spared
            return np.zeros(len(places))
        # Numbers follow one another along a row of pixels: what lies in a row of a spot is a stretch of those in order.
        rows = np.arange(-SPOT, SPOT + 1)
        seen, middle = np.sort(_numbers(known)), _numbers(places)[:, None] + ROW * rows
        in_row = np.searchsorted(seen, middle + SPOT, "right") - np.searchsorted(seen, middle - SPOT)
        return np.maximum(in_row.sum(1) / frames - self._spared, 0) / len(rows) ** 2

    def add(self, places: Floats) -> None:
        """The false detections (k, 2) of this frame, strongest first."""
        strongest = places[:SPOTTED_MAX]
        self._places = np.concatenate([self._places, strongest])
        self._seen = np.append(self._seen, np.full(len(strongest), self._frames[-1]))


def _numbers(places: Floats) -> Integers:
    """(k,) of the pixels that places (k, 2) lie in, row by row; all that are far out have those of the last ones."""
    column, row = np.rint(np.minimum(np.maximum(places, -ROW / 4), ROW / 4)).astype(np.int64).T
    return np.asarray(row * ROW + column)
