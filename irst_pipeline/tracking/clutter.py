"""How many detections are of no target, and where, learnt as the run goes."""

import math
from functools import lru_cache

import numpy as np

from irst_pipeline.state import Stateful
from irst_pipeline.types import CameraMotion, Floats, Integers

REGION = 64  # px, side of a region
MEMORY_SECONDS = 10.0  # counts fade with this time constant
PRIOR_FRAMES = 10.0  # what is expected weighs as much as so many frames that were seen
SPOT = 3  # cells that a spot reaches to each side of its middle one
SIDES = (12, 4, 1)  # px, of the cells of those of a band that is thinly set, of a crowd, and of single places
SPOT_SECONDS = (0.5, 3.0)  # a spot is what was seen there so long ago: less, and it may have been a target on its way
SPOTTED_MAX = 200  # a frame
ROW = 1 << 31  # from a row's first number to the next one's
FAR = 1e9  # px; rows are no longer
EDGES = np.arange(-SPOT, SPOT + 1) * ROW + np.array([[-SPOT], [SPOT + 1]])  # of a spot's rows, from its middle


@lru_cache
def grid(shape: tuple[int, ...]) -> tuple[int, ...]:
    """Rows and columns of regions in an image (H, W)."""
    return tuple(max(1, round(side / REGION)) for side in shape)


def regions(places: Floats, shape: tuple[int, ...]) -> Integers:
    """Numbers (k,) of the regions, row by row, that places (k, 2) x, y in an image (H, W) lie in.

    Those outside count to the nearest.
    """
    (rows, columns), (height, width) = grid(shape), shape
    x, y = (places + 0.5).T
    column = np.minimum(np.maximum(x * (columns / width), 0), columns - 1).astype(np.int64)
    row = np.minimum(np.maximum(y * (rows / height), 0), rows - 1).astype(np.int64)
    return np.asarray(row * columns + column)


class ClutterMap(Stateful):
    """Mean number of false detections a px^2 and frame, in square regions of the image."""

    kept = ("_counts", "_frames")

    def __init__(self, expected: float) -> None:
        """`expected`: false detections a frame before any has been seen."""
        self._expected = expected
        self._counts = np.empty((0, 0))
        self._frames = 0.0

    def density(self, where: Integers, shape: tuple[int, ...]) -> Floats:
        """(k,) per px^2 and frame in the regions `where` (k,) of an image (H, W)."""
        self._fit(shape)
        # A region with few false detections of its own takes after the whole image.
        counts = (self._counts.ravel()[where] * self._counts.size + self._counts.sum()) / 2
        return (PRIOR_FRAMES * self._expected + counts) / ((PRIOR_FRAMES + self._frames) * shape[0] * shape[1])

    def add(self, where: Integers, shape: tuple[int, ...], dt: float) -> None:
        """Count the false detections of a frame, by their regions (k,), `dt` seconds after the one before."""
        fade = math.exp(-dt / MEMORY_SECONDS)
        self._fit(shape)
        self._counts *= fade
        self._frames = self._frames * fade + 1
        self._counts += np.bincount(where, minlength=self._counts.size).reshape(self._counts.shape)

    def _fit(self, shape: tuple[int, ...]) -> None:
        """Begin anew where the frame's size is new."""
        if self._counts.shape != grid(shape):
            self._counts, self._frames = np.zeros(grid(shape)), 0.0


class Spots(Stateful):
    """Where false detections come again and again: a cloud's edge, a branch, glints. They go with the scene."""

    kept = ("_places", "_seen", "_frames")

    def __init__(self, spared: float, sides: tuple[int, ...]) -> None:
        """`spared`: of the detections that a spot shows in a frame, so many may be of a target that stays there.
        `sides`: of the cells of spots, px, the widest first."""
        self._spared, self._sides = spared, sides
        self._places, self._seen, self._frames = np.empty((0, 2)), np.empty(0), np.empty(0)

    def carry(self, time: float, motion: CameraMotion) -> None:
        """To the frame of `time`, s, before which the camera has moved."""
        since = time - SPOT_SECONDS[1]
        recent = self._seen.searchsorted(since)
        self._places, self._seen = self._places[recent:], self._seen[recent:]
        if motion.moved:
            places = motion.apply(self._places)
            kept = (np.abs(places) < FAR).all(1)
            self._places, self._seen = places[kept], self._seen[kept]
        self._frames = np.concatenate([self._frames[self._frames.searchsorted(since) :], [time]])

    def density(self, places: Floats, shape: tuple[int, ...]) -> Floats:
        """(k,) per px^2 and frame at places (k, 2) in an image (H, W)."""
        until = self._frames[-1] - SPOT_SECONDS[0]
        frames = max(PRIOR_FRAMES, self._frames.searchsorted(until, "right"))
        known, densest = self._places[: self._seen.searchsorted(until, "right")], np.zeros(len(places))
        if len(known) <= self._spared * frames:  # no spot shows more than is spared
            return densest
        rows = np.arange(len(places))
        for side in self._sides:
            seen, middle = np.sort(_numbers(known, side, shape)), _numbers(places[rows], side, shape)
            # Numbers follow one another along a row: what lies in a row of a spot is a stretch of those in order.
            begin, end = seen.searchsorted(middle + EDGES[..., None])
            above = (end - begin).sum(0) / frames - self._spared
            densest[rows] = np.maximum(densest[rows], above / (side * EDGES.shape[1]) ** 2)
            rows = rows[above > 0]  # a narrow spot shows no more than the wide one about it
            if not len(rows):
                break
        return densest

    def add(self, places: Floats) -> None:
        """The false detections (k, 2) of this frame, strongest first."""
        strongest = places[:SPOTTED_MAX]
        self._places = np.concatenate([self._places, strongest])
        self._seen = np.concatenate([self._seen, np.full(len(strongest), self._frames[-1])])


def _numbers(places: Floats, side: int, shape: tuple[int, ...]) -> Integers:
    """(k,) of the cells of that side, px, that places (k, 2) lie in, row by row from the middle of an image (H, W): in
    the mirrored image they are the mirrored ones."""
    row, column = (
        np.rint((along - (length - 1) / 2) / side).astype(np.int64)
        for along, length in zip(places.T[::-1], shape, strict=True)
    )
    return np.asarray(row * ROW + column)
