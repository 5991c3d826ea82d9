"""Detections that are of two targets at once, which are too near to one another to be seen apart.

After Koch and van Keuk, "Multiple hypothesis track maintenance with possibly unresolved measurements", IEEE Trans.
Aerospace and Electronic Systems 1997: what is measured of both is their middle, and the nearer they are to one another
the more probably they are seen as one.
"""

import numpy as np
from numpy.typing import NDArray

from irst_pipeline.tracking.association import Pairs
from irst_pipeline.tracking.imm import Mixture, placed
from irst_pipeline.tracking.kalman import Gaussians, log_density
from irst_pipeline.types import Floats, Integers


def contested(pairs: Pairs, confirmed: NDArray[np.bool_], ids: Integers) -> Integers:
    """(u, 2) rows of pairs of one detection, which is all that two confirmed tracks have; the elder track's first.

    The elder has the lower of the tracks' `ids` (n,).
    """
    alone = (confirmed[pairs.tracks] & (np.bincount(pairs.tracks)[pairs.tracks] == 1)).nonzero()[0]
    detections = pairs.detections[alone]
    shared = np.bincount(detections)[detections] == 2
    return alone[shared][np.lexsort((ids[pairs.tracks[alone[shared]]], detections[shared]))].reshape(-1, 2)


def expected_places(tracks: Mixture, which: Integers) -> Gaussians:
    """Positions (u, 2, 2) of the tracks `which` (u, 2)."""
    places = placed(tracks.take(which.ravel()))
    return Gaussians(places.mean.reshape(-1, 2, 2), places.covariance.reshape(-1, 2, 2, 2))


def seen_as_one(
    expected: Gaussians, density: Floats, missed: Floats, measured: Floats, noise: Floats, size: Floats
) -> NDArray[np.bool_]:
    """(u,) whether detections are more likely of two targets, unresolved, than of one while the other is missed.

    expected: positions (u, 2, 2) by target; density: (u, 2) its logarithm, per px^2, that each gives the detection;
    missed: (u, 2) probability of that; measured: (u, 2); noise: (u, 2, 2); size: (u, 2) px, width and height of the
    detections. Two targets are seen as one with exp(-1/2) where they are half of its size apart, and so on.
    """
    apart = expected.mean[:, 0] - expected.mean[:, 1]
    together = np.exp(-0.5 * ((apart / (size / 2)) ** 2).sum(-1))
    middle = Gaussians(measured - expected.mean.mean(1), expected.covariance.sum(1) / 4 + noise)
    single = (np.exp(density) * missed[:, ::-1]).sum(1)
    return np.asarray(together * np.exp(log_density(middle)) > (1 - together) * single)


def each_of_two(expected: Gaussians, measured: Floats, noise: Floats) -> Gaussians:
    """What measurements (u, 2) of covariance (u, 2, 2) of the middle of two targets say of each of the two, (u, 2, 2).

    Twice the middle less where the other is expected; the estimates of both are then linked, which is neglected.
    """
    return Gaussians(2 * measured[:, None] - expected.mean[:, ::-1], 4 * noise[:, None] + expected.covariance[:, ::-1])
