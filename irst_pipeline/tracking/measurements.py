"""What the tracker takes of a frame's detections, and what it knows of those that are of no target."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from irst_pipeline.state import Stateful
from irst_pipeline.tracking.clutter import ClutterMap, Spots
from irst_pipeline.tracking.existence import Persistence, Starts
from irst_pipeline.types import Detections, Floats, Integers

DETECTIONS_MAX = 2000
"""A frame; of more, those of the highest scores are taken, so that no frame takes for ever."""
LARGEST, SMALLEST = 1e9, 1e-9
"""Places (px) and variances (px^2) beyond are no measurement, and numbers would lose their digits in sums with them."""
SINGULAR = 1e-9
"""Determinant of a covariance, of the product of its variances, that rounding may make nothing of."""


class DetectionStatistics(Stateful):
    """What is known of the strong or of the weak detections that are of no target."""

    kept = ("clutter", "spots", "starts", "persistence")

    def __init__(self, false_alarms: float, spots: Spots, persistence: Persistence) -> None:
        self.clutter, self.spots, self.starts = ClutterMap(false_alarms), spots, Starts()
        self.persistence = persistence

    def density(self, places: Floats, where: Integers, shape: tuple[int, ...]) -> Floats:
        """(k,) mean number a px^2 of such detections of clutter at places (k, 2), in the regions `where` (k,).

        They are those of the clutter map of an image (H, W).
        """
        return np.maximum(self.clutter.density(where, shape), self.spots.density(places, shape))

    def add(self, places: Floats, where: Integers, shape: tuple[int, ...], dt: float) -> None:
        """Those of a frame that are of no target, `dt` seconds after the one before."""
        self.clutter.add(where, shape, dt)
        self.spots.add(places)


@dataclass(frozen=True)
class Measurements:
    """The detections of a frame as the tracker takes them; k rows."""

    position: Floats
    """(k, 2) px"""
    noise: Floats
    """(k, 2, 2) px^2"""
    size: Floats
    """(k, 2) px: width and height"""
    score: Floats
    snr: Floats
    weak: NDArray[np.bool_]
    """Which only a dim target is expected to look like."""
    bright: NDArray[np.bool_]
    """Which begin tracks that need not move to be confirmed."""
    score_gain: Floats
    """(2, k) what the score says for a target, and for a dim one: log likelihood ratios against clutter."""
    clutter: Floats
    """Mean number a px^2 of such detections of clutter, where each is."""
    region: Integers
    """Of the clutter map, where each is."""
    misfit: Floats
    """(k, 5, 5) of lines to each, as in `line`."""


def usable_rows(detections: Detections) -> Integers:
    """Those that are finite and have a positive definite covariance; of too many, the ones of the highest scores."""
    within = (np.abs([detections.x, detections.y, *detections.covariance.T, detections.score]) < LARGEST).all(0)
    xx, xy, yy = np.where(within, detections.covariance.T, 0)
    good = ((np.minimum(xx, yy) > SMALLEST) & (xx * yy * (1 - SINGULAR) > xy * xy)).nonzero()[0]
    if len(good) <= DETECTIONS_MAX:
        return good
    return good[np.argsort(-detections.score[good], kind="stable")][:DETECTIONS_MAX]
