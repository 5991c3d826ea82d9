"""Which detection belongs to which track."""

from typing import NamedTuple

import numpy as np
from scipy.optimize import linear_sum_assignment

from irst_pipeline.tracking.kalman import Gaussians, mahalanobis
from irst_pipeline.types import Integers


class Pairs(NamedTuple):
    """Assigned rows: track `tracks[i]` takes detection `detections[i]`."""

    tracks: Integers
    detections: Integers


def nearest_neighbours(innovations: Gaussians, gate: float) -> Pairs:
    """Global nearest neighbour: the one-to-one assignment of greatest likelihood within the gate.

    innovations: (n, m, 2) with covariances (n, m, 2, 2); gate: largest squared Mahalanobis distance. The cost of a
    pair is its negative log likelihood, d^2 + ln det S (Blackman and Popoli, "Design and Analysis of Modern Tracking
    Systems", section 6.4), which keeps a track of great uncertainty from taking another's detection.
    """
    if not innovations.mean.size:
        return Pairs(np.empty(0, np.int64), np.empty(0, np.int64))
    distance = mahalanobis(innovations)
    inside = distance <= gate
    cost = distance + np.log(np.linalg.det(innovations.covariance))
    # Leaving a pair unassigned must cost more than any assignment that the gate allows.
    outside = max(0.0, float(cost.max())) * 2 * max(cost.shape) + 1e6
    tracks, detections = linear_sum_assignment(np.where(inside, cost, outside))
    kept = inside[tracks, detections]
    return Pairs(tracks[kept], detections[kept])
