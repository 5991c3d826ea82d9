"""Joint probabilistic association: how probable it is of every pair that the detection is the track's.

No detection is of two tracks and no track has two detections; of the ways to pair them that are left, each counts by
the product of its weights (Musicki and Evans, "Joint integrated probabilistic data association: JIPDA", 2004).
"""

import numpy as np

from irst_pipeline.tracking.association import Pairs, Shares, clusters, numbered
from irst_pipeline.types import Floats, Integers

EXACT_DETECTIONS = 8
"""In a cluster with loops; of more the sums are approximated."""
STEPS_MAX, TOLERANCE = 100, 1e-6
"""Of belief propagation; the latter is a relative change of its messages."""


def joint_shares(pairs: Pairs, gain: Floats, existence: Floats, detected: Floats) -> Shares:
    """Shares of pairs of n tracks, each of a target with the probability `existence` (n,), seen with `detected` (n,).

    gain: (p,) the logarithm of how much more likely each of the detections is of the track than of clutter.
    """
    weight = np.maximum(existence[pairs.tracks] * np.exp(gain), np.finfo(float).tiny)
    missed = 1 - existence * detected
    probability = joint_probabilities(pairs, weight, missed)
    seen = np.bincount(pairs.tracks, probability, len(missed))
    unseen = np.maximum(1 - seen, np.finfo(float).tiny)
    # With the target over without it: what each detection adds, as far as no other track claims it.
    free = (probability / weight) * (missed / unseen)[pairs.tracks]
    claims = np.exp(gain) * np.minimum(free, 1)  # which rounding may exceed where a pair is certain
    ratio = 1 - detected + np.bincount(pairs.tracks, claims, len(missed))
    exists = (existence * (1 - detected) + seen * (1 - existence)) / missed
    return Shares(pairs, (probability / exists[pairs.tracks]).clip(0, 1), np.log(ratio))


def joint_probabilities(pairs: Pairs, weight: Floats, missed: Floats) -> Floats:
    """(p,) probability of each of the pairs, under `weight` (p,) of it and `missed` (n,), of its track without any.

    Belief propagation gives them for all pairs at once (Williams and Lau, "Approximate evaluation of marginal
    association probabilities with belief propagation", 2014). It is exact where no loop of pairs leads back to where it
    began. A cluster with loops is summed over all ways to pair it, if it is small; of a large one the approximation is
    kept, which is off by some 0.01 and at most some 0.1.
    """
    if not len(weight):
        return weight
    tracks, detections = pairs
    weight = weight / missed[tracks]  # so that none at all weighs 1 for any number of tracks
    probability = _propagated(pairs, weight)
    members, borders = clusters(tracks, detections, np.arange(len(weight)))
    cluster = np.repeat(np.arange(len(borders) - 1), np.diff(borders))
    (row, tall), (column, wide) = (numbered(cluster, ids[members]) for ids in pairs)
    looped = (np.diff(borders) >= tall + wide) & (wide <= EXACT_DETECTIONS)
    for i in looped.nonzero()[0].tolist():
        own = slice(*borders[i : i + 2].tolist())
        table = np.zeros((tall[i], wide[i]))
        table[row[own], column[own]] = weight[members[own]]
        probability[members[own]] = _summed(table)[row[own], column[own]]
    return probability


def _propagated(pairs: Pairs, weight: Floats) -> Floats:
    """`weight` (p,) of each of the pairs over that of its track without any."""
    tracks, detections = pairs
    free = np.ones(len(weight))  # how likely the detection is left over by the other tracks
    for _ in range(STEPS_MAX):
        shares = weight * free
        claim = weight / (1 + _of_others(shares, tracks))
        before, free = free, 1 / (1 + _of_others(claim, detections))
        if (np.abs(free - before) <= TOLERANCE * before).all():
            break
    shares = weight * free
    return shares / (1 + np.bincount(tracks, shares)[tracks])


def _of_others(values: Floats, groups: Integers) -> Floats:
    """(p,) the sum of the `values` of each pair's group without its own."""
    return np.maximum(np.bincount(groups, values)[groups] - values, 0)  # rounding may take it below


def _summed(weight: Floats) -> Floats:
    """The same for all pairs (t, d) of a cluster, by sums over the sets of detections that the first tracks have taken
    and that the last ones find taken."""
    tracks, detections = weight.shape
    sets = np.arange(2**detections)
    without = [sets[sets & 1 << j == 0] for j in range(detections)]
    taken = [np.eye(1, len(sets))[0]]
    for row in weight:
        after = taken[-1].copy()
        for j, those in enumerate(without):
            after[those | 1 << j] += row[j] * taken[-1][those]
        taken.append(after)
    left = np.ones(len(sets))
    found = np.empty((tracks, detections))
    for i in reversed(range(tracks)):
        before = left.copy()
        for j, those in enumerate(without):
            with_j = weight[i, j] * left[those | 1 << j]
            found[i, j] = taken[i][those] @ with_j
            before[those] += with_j
        left = before
    return found / left[0]
