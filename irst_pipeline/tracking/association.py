"""Which detection belongs to which track."""

from typing import NamedTuple

import numpy as np
from scipy.optimize import linear_sum_assignment
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from scipy.spatial import KDTree

from irst_pipeline.tracking.imm import Mixture
from irst_pipeline.tracking.kalman import innovations, log_density, mahalanobis
from irst_pipeline.tracking.motion import OBSERVATION
from irst_pipeline.types import Floats, Integers


class Pairs(NamedTuple):
    """Track `tracks[i]` with detection `detections[i]`, as rows."""

    tracks: Integers
    detections: Integers


def gate(tracks: Mixture, measured: Floats, noise: Floats, limit: float) -> tuple[Pairs, Floats]:
    """Pairs within the gate and, for each, the logarithm of the density (per px^2) that the track gives the detection.

    tracks: predicted, n of them; measured: (k, 2); noise: (k, 2, 2); limit: the largest squared Mahalanobis distance
    from what any one of a track's models expects. Detections are looked up in a tree, so that far pairs cost nothing.
    """
    n, models = tracks.weight.shape
    if not n or not len(measured):
        return Pairs(np.empty(0, np.int64), np.empty(0, np.int64)), np.empty(0)
    places = tracks.mean @ OBSERVATION.T  # (n, m, 2)
    variances = (tracks.covariance.diagonal(axis1=-2, axis2=-1) @ OBSERVATION.T).max(-1)
    reach = np.sqrt(2 * limit * (variances + noise.max()))  # the largest axis of S is at most the sum of both
    near = KDTree(measured).query_ball_point(places.reshape(-1, 2), reach.ravel(), return_sorted=False)
    owner = np.repeat(np.arange(n * models) // models, [len(found) for found in near])
    pairs = np.unique(owner * len(measured) + np.concatenate([np.asarray(f, np.int64) for f in near]))
    rows, columns = np.divmod(pairs, len(measured))
    states = Mixture(*(part[rows] for part in tracks)).states
    difference = innovations(states, OBSERVATION, measured[columns, None], noise[columns, None])
    inside = (mahalanobis(difference) <= limit).any(1)
    density = np.exp(log_density(difference)[inside])
    share = tracks.weight[rows[inside]]
    likelihood = np.log(np.maximum((share * density).sum(1), np.finfo(float).tiny))
    return Pairs(rows[inside], columns[inside]), likelihood


def assign(pairs: Pairs, gain: Floats) -> Integers:
    """Global nearest neighbours: which pairs make the one-to-one choice of greatest total gain; none of a gain below 0.

    Gain of a pair: the logarithm of how much more likely it makes what was seen than leaving both alone (Blackman and
    Popoli, "Design and Analysis of Modern Tracking Systems", section 6.4). Pairs that share neither a track nor a
    detection, nor are linked by others, do not matter to one another: each such cluster is solved by itself.
    """
    worth = np.flatnonzero(gain > 0)
    rows, columns, gain = pairs.tracks[worth], pairs.detections[worth], gain[worth]
    if not len(rows):
        return worth
    contested = (np.bincount(rows)[rows] > 1) | (np.bincount(columns)[columns] > 1)
    chosen = [np.flatnonzero(~contested)]
    for members in _clusters(rows, columns, np.flatnonzero(contested)):
        own_rows, row = np.unique(rows[members], return_inverse=True)
        own_columns, column = np.unique(columns[members], return_inverse=True)
        table, which = np.zeros((len(own_rows), len(own_columns))), np.full((len(own_rows), len(own_columns)), -1)
        table[row, column], which[row, column] = gain[members], members
        found = which[linear_sum_assignment(table, maximize=True)]
        chosen.append(found[found >= 0])
    return worth[np.concatenate(chosen)]


def _clusters(rows: Integers, columns: Integers, members: Integers) -> list[Integers]:
    """Groups of pairs, of those that `members` says, that are linked by common tracks or detections."""
    if not len(members):
        return []
    own, others = rows[members], columns[members] + int(rows.max()) + 1
    count = int(others.max()) + 1
    linked = coo_array((np.ones(len(members), np.int8), (own, others)), (count, count))
    cluster = connected_components(linked, directed=False)[1][own]
    order = np.argsort(cluster, kind="stable")
    return np.split(members[order], np.flatnonzero(np.diff(cluster[order])) + 1)
