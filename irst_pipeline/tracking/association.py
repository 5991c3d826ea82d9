"""Which detection belongs to which track."""

from itertools import chain, pairwise
from typing import NamedTuple

import numpy as np
from scipy.optimize import linear_sum_assignment
from scipy.sparse import csr_array
from scipy.sparse.csgraph import connected_components
from scipy.spatial import cKDTree

from irst_pipeline.tracking.imm import Mixture
from irst_pipeline.tracking.kalman import Gaussians, innovations, likelihoods, positions
from irst_pipeline.types import Floats, Integers

FEW = 64
"""Pairs; so few take less time as one cluster than to be told apart."""
FEW_CANDIDATES = 32768
"""Pairs; so few are all looked at in less time than a tree is built."""
NEAR_MAX = 32
"""Detections a track; of more, where there are many tracks, those that are nearest to it."""

TINY = float(np.finfo(float).tiny)
"""Of which there is a logarithm."""


class Pairs(NamedTuple):
    """Track `tracks[i]` with detection `detections[i]`, as rows; in the order of the tracks."""

    tracks: Integers
    detections: Integers

    def take(self, rows: Integers) -> "Pairs":
        return Pairs(self.tracks[rows], self.detections[rows])


class Shares(NamedTuple):
    """What a frame's detections say of n tracks."""

    pairs: Pairs
    probability: Floats
    """(p,) of each of the pairs, that the detection is of the track, if there is a target."""
    evidence: Floats
    """(n,) logarithm of how much more likely the detections are with the target than without."""
    unresolved: Integers = np.empty((0, 2), np.int64)
    """(u, 2) rows of pairs of one detection that is of two targets at once; the elder track's first."""

    @property
    def own(self) -> Integers:
        """Rows of the pairs that are more likely than not; no two of one track or one detection."""
        likely = self.probability > 0.5
        likely[self.unresolved[:, 1]] = False
        return likely.nonzero()[0]

    def join_unresolved(self, pairs: Pairs) -> "Shares":
        """With 2 u pairs of u detections that are of two targets at once, and speak neither for one nor against."""
        first, count = len(self.probability), len(pairs.tracks)
        evidence = self.evidence.copy()
        evidence[pairs.tracks] = 0.0
        return Shares(
            Pairs(*(np.concatenate(parts) for parts in zip(self.pairs, pairs, strict=True))),
            np.concatenate([self.probability, np.ones(count)]),
            evidence,
            np.arange(first, first + count).reshape(-1, 2),
        )


def gate(tracks: Mixture, measured: Floats, noise: Floats, limit: float) -> tuple[Pairs, Floats]:
    """Pairs within the gate and, for each, the logarithm of the density (per px^2) that the track gives the detection.

    tracks: predicted, n of them; measured: (k, 2); noise: (k, 2, 2); limit: the largest squared Mahalanobis distance
    from what any one of a track's models expects. Detections are looked up in a tree, so that far pairs cost nothing;
    of more than `NEAR_MAX` within reach of a track the nearest are taken, so that no crowd takes for ever.
    """
    n = len(tracks.weight)
    if not n or not len(measured):
        return Pairs(np.empty(0, np.int64), np.empty(0, np.int64)), np.empty(0)
    places = positions(tracks.by_model)  # (n, m, 2)
    centre = places.mean.sum(1) / places.mean.shape[1]
    variances = np.maximum(places.covariance[..., 0, 0], places.covariance[..., 1, 1])
    reach = np.sqrt(2 * limit * (variances + noise.max()))  # the largest axis of S is at most the sum of both
    away = places.mean - centre[:, None]
    reach = (reach + np.hypot(away[..., 0], away[..., 1])).max(1)
    rows, columns = _within(centre, reach, measured)
    difference = innovations(
        Gaussians(places.mean[rows], places.covariance[rows]), measured[columns, None], noise[columns, None]
    )
    squares, density = likelihoods(difference)
    likelihood = np.log(np.maximum((tracks.weight[rows] * np.exp(density)).sum(1), TINY))
    inside = (squares.min(1, initial=np.inf) <= limit).nonzero()[0]
    return Pairs(rows[inside], columns[inside]), likelihood[inside]


def _within(centre: Floats, reach: Floats, measured: Floats) -> tuple[Integers, Integers]:
    """Which of the places `measured` (k, 2) are within the `reach` (n,) of which `centre` (n, 2), as rows of both."""
    if len(centre) * len(measured) <= FEW_CANDIDATES:
        (x, y), (u, v) = centre.T[..., None], measured.T
        rows, columns = np.nonzero((x - u) ** 2 + (y - v) ** 2 <= reach[:, None] ** 2)
        return rows, columns
    tree = cKDTree(measured)
    near = tree.query_ball_point(centre, reach, return_sorted=False)
    crowded = [row for row, those in enumerate(near) if len(those) > NEAR_MAX]
    if crowded:
        near[crowded] = np.asarray(tree.query(centre[crowded], NEAR_MAX)[1]).tolist()
    rows = np.repeat(np.arange(len(centre)), list(map(len, near)))
    return rows, np.fromiter(chain.from_iterable(near), np.int64, len(rows))


def assign(pairs: Pairs, gain: Floats) -> Integers:
    """Global nearest neighbours: which pairs make the one-to-one choice of greatest total gain; none of a gain below 0.

    Gain of a pair: the logarithm of how much more likely it makes what was seen than leaving both alone (Blackman and
    Popoli, "Design and Analysis of Modern Tracking Systems", section 6.4). Pairs that share neither a track nor a
    detection, nor are linked by others, do not matter to one another: each such cluster is solved by itself.
    """
    worth = (gain > 0).nonzero()[0]
    rows, columns, gain = pairs.tracks[worth], pairs.detections[worth], gain[worth]
    contested = (np.bincount(rows)[rows] > 1) | (np.bincount(columns)[columns] > 1)
    members = contested.nonzero()[0]
    if not len(members):
        return worth
    chosen = [(~contested).nonzero()[0]]
    borders = np.array([0, len(members)])
    if len(members) > FEW:
        members, borders = clusters(rows, columns, members)
    cluster = np.repeat(np.arange(len(borders) - 1), np.diff(borders))
    (row, tall), (column, wide) = (numbered(cluster, ids[members]) for ids in (rows, columns))
    values = gain[members]
    for i, (begin, end) in enumerate(pairwise(borders.tolist())):
        table, which = np.zeros((tall[i], wide[i])), np.full((tall[i], wide[i]), -1)
        own = row[begin:end], column[begin:end]
        table[own], which[own] = values[begin:end], members[begin:end]
        found = which[linear_sum_assignment(table, maximize=True)]
        chosen.append(found[found >= 0])
    return worth[np.concatenate(chosen)]


def clusters(rows: Integers, columns: Integers, members: Integers) -> tuple[Integers, Integers]:
    """`members` of the pairs, grouped so that those which common tracks or detections link stand together, and where
    each group begins and the last ends."""
    own, others = rows[members], columns[members] + int(rows.max()) + 1
    count = int(others.max()) + 1
    begins = np.searchsorted(own, np.arange(count + 1))  # pairs come in the order of their tracks
    linked = csr_array((np.ones(len(members), np.int8), others, begins), (count, count))
    cluster = connected_components(linked, directed=False)[1][own]
    order = np.argsort(cluster, kind="stable")
    changes = np.diff(cluster[order]).nonzero()[0] + 1
    return members[order], np.concatenate([[0], changes, [len(members)]])


def numbered(cluster: Integers, ids: Integers) -> tuple[Integers, Integers]:
    """Ids (k,) as numbers from 0 within the cluster that each is in, and how many different ones each cluster has."""
    different = np.bincount(ids).nonzero()[0]  # np.unique takes several times as long
    home = np.zeros(ids.max(initial=-1) + 1, np.int64)
    home[ids] = cluster
    different = different[home[different].argsort(kind="stable")]
    sizes = np.bincount(home[different], minlength=1)
    rank = np.empty_like(home)
    rank[different] = np.arange(len(different)) - (sizes.cumsum() - sizes)[home[different]]
    return rank[ids], sizes
