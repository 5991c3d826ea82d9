"""Joint association: probabilities against the sum over every way to pair, and what a track makes of them."""

from itertools import product

import numpy as np
import pytest

from irst_pipeline.tracking.association import Pairs
from irst_pipeline.tracking.imm import Mixture, combined, updated, updated_softly
from irst_pipeline.tracking.joint import joint_probabilities, joint_shares
from irst_pipeline.types import Floats


def ways(weight: Floats, missed: Floats) -> list[tuple[tuple[int, ...], float]]:
    """Every way to pair tracks (t,) with detections (d,), -1 for none, and its weight, which is not zero."""
    found = []
    for way in product(*([-1, *np.flatnonzero(row)] for row in weight)):
        taken = [j for j in way if j >= 0]
        if len(set(taken)) == len(taken):
            parts = [missed[i] if j < 0 else weight[i, j] for i, j in enumerate(way)]
            found.append((way, float(np.prod(parts))))
    return found


def shares_of(weight: Floats, missed: Floats) -> Floats:
    """(t, d) probabilities by the sum over all ways."""
    table, all_ways = np.zeros(weight.shape), ways(weight, missed)
    for way, value in all_ways:
        for i, j in enumerate(way):
            if j >= 0:
                table[i, j] += value
    return table / sum(value for _, value in all_ways)


def pairs_of(weight: Floats) -> tuple[Pairs, Floats]:
    rows, columns = np.nonzero(weight)
    return Pairs(rows, columns), weight[rows, columns]


@pytest.mark.parametrize("seed", range(20))
def test_probabilities_are_sums_over_all_ways_to_pair(seed: int) -> None:
    rng = np.random.default_rng(seed)
    weight = np.exp(rng.normal(1, 2, (4, 5))) * (rng.random((4, 5)) < 0.6)
    missed = rng.uniform(0.05, 1, 4)
    pairs, values = pairs_of(weight)
    found = joint_probabilities(pairs, values, missed)
    np.testing.assert_allclose(found, shares_of(weight, missed)[pairs], rtol=1e-5, atol=1e-7)


def test_a_chain_of_any_length_is_exact() -> None:
    weight, missed = np.zeros((7, 8)), np.full(7, 0.1)
    weight[range(7), range(7)], weight[range(7), range(1, 8)] = 2.0, 3.0
    pairs, values = pairs_of(weight)
    np.testing.assert_allclose(joint_probabilities(pairs, values, missed), shares_of(weight, missed)[pairs], rtol=1e-4)


def test_a_large_cluster_is_near_and_no_detection_is_given_twice() -> None:
    rng = np.random.default_rng(0)
    errors = []
    for _ in range(5):
        weight, missed = np.exp(rng.normal(1, 1.5, (4, 9))), np.full(4, 0.1)
        pairs, values = pairs_of(weight)
        found = joint_probabilities(pairs, values, missed)
        errors.append(np.abs(found - shares_of(weight, missed)[pairs]))
        assert np.bincount(pairs.detections, found).max() <= 1.02
    assert 1e-4 < np.mean(errors) < 0.01, "it is approximated, and well"
    assert np.max(errors) < 0.1


def test_the_evidence_is_the_ratio_with_and_without_the_target() -> None:
    rng, detected = np.random.default_rng(3), np.array([0.8, 0.9, 0.3])
    gain = rng.normal(1, 1.5, (3, 4))
    existence = np.array([1.0, 0.6, 0.01])
    pairs, values = pairs_of(np.exp(gain))
    shares = joint_shares(pairs, np.log(values), existence, detected)
    for i in range(3):
        sums = []
        for there in (1.0, 0.0):
            now = np.where(np.arange(3) == i, there, existence)
            sums.append(sum(value for _, value in ways(now[:, None] * np.exp(gain), 1 - now * detected)))
        assert shares.evidence[i] == pytest.approx(np.log(sums[0] / sums[1]), abs=1e-6)
        now = np.where(np.arange(3) == i, 1.0, existence)
        expected = shares_of(now[:, None] * np.exp(gain), 1 - now * detected)[i]
        np.testing.assert_allclose(shares.probability[pairs.tracks == i], expected, atol=1e-6)


def test_the_update_has_the_moments_of_what_may_be() -> None:
    rng = np.random.default_rng(1)
    mean = rng.normal(0, 20, (2, 2, 4))
    roots = rng.normal(0, 3, (2, 2, 4, 4))
    mixture = Mixture(mean, roots @ np.swapaxes(roots, -1, -2) + np.eye(4), np.array([[0.7, 0.3], [0.2, 0.8]]))
    noise = np.tile(np.diag([2.0, 3.0]), (2, 1, 1))
    measured = rng.normal(0, 20, (2, 2))
    both = updated_softly(mixture, np.array([0, 1]), np.array([1.0, 0.0]), measured, noise)
    for found, seen, before in zip(both, updated(mixture, measured, noise), mixture, strict=True):
        np.testing.assert_allclose(found[0], seen[0], rtol=1e-8, atol=1e-8)
        np.testing.assert_allclose(found[1], before[1], rtol=1e-8, atol=1e-8)
    soft = combined(updated_softly(mixture, np.array([0, 0]), np.array([0.5, 0.3]), measured, noise))
    first = mixture.take(np.array([0]))
    parts = [combined(first)]
    parts += [combined(updated(first, z[None], noise[:1])) for z in measured]
    expected = sum(p * part.mean[0] for p, part in zip((0.2, 0.5, 0.3), parts, strict=True))
    np.testing.assert_allclose(soft.mean[0], expected, rtol=1e-8)
    spread = sum(
        p * (part.covariance[0] + np.outer(part.mean[0] - expected, part.mean[0] - expected))
        for p, part in zip((0.2, 0.5, 0.3), parts, strict=True)
    )
    np.testing.assert_allclose(soft.covariance[0], spread, rtol=1e-8, atol=1e-8)


def test_a_crowd_of_tracks_around_few_detections_is_summed_as_any_other() -> None:
    alike, missed = np.full((1000, 2), 2.0), np.full(1000, 0.1)
    pairs, values = pairs_of(alike)
    crowded = joint_probabilities(pairs, values, missed)  # the product of all `missed` is 0, but for rounding
    np.testing.assert_allclose(np.bincount(pairs.detections, crowded), 1, atol=1e-3)
    np.testing.assert_allclose(crowded, crowded[0])


@pytest.mark.filterwarnings("error")
def test_what_fits_beyond_doubt_has_its_own_detection() -> None:
    weight = np.array([[1e20, 1e3], [3e19, 1e20]])
    pairs, values = pairs_of(np.kron(np.eye(6), weight))
    found = joint_probabilities(pairs, values, np.full(12, 0.1))
    np.testing.assert_allclose(found.reshape(6, 4), np.tile([1.0, 0.0, 0.0, 1.0], (6, 1)), atol=1e-6)
