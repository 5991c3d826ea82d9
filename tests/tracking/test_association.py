"""Which detection goes to which track: the choice is the best there is."""

from itertools import permutations

import numpy as np
import pytest

from irst_pipeline.tracking.association import Pairs, assign, gate
from irst_pipeline.tracking.imm import Mixture


def everybody(gain: np.ndarray) -> tuple[Pairs, np.ndarray]:
    """All pairs of a table of gains (n, k) but those that are not finite."""
    rows, columns = np.nonzero(np.isfinite(gain))
    return Pairs(rows, columns), gain[rows, columns]


@pytest.mark.parametrize("seed", range(30))
def test_no_other_choice_gains_more(seed: int) -> None:
    rng = np.random.default_rng(seed)
    gain = rng.normal(0.5, 1, (4, 5))
    gain[rng.random(gain.shape) < 0.4] = -np.inf
    pairs, values = everybody(gain)
    chosen = assign(pairs, values)
    assert len(set(pairs.tracks[chosen])) == len(set(pairs.detections[chosen])) == len(chosen)
    assert (values[chosen] > 0).all()
    best = max(np.maximum(gain[range(4), columns], 0).sum() for columns in permutations(range(5), 4))
    assert values[chosen].sum() == pytest.approx(best)


def test_clusters_apart_are_chosen_as_if_alone() -> None:
    rng = np.random.default_rng(1)
    tables = [rng.normal(1, 1, (3, 4)) for _ in range(20)]
    alone = [gain[tuple(part[assign(*everybody(gain))] for part in everybody(gain)[0])].sum() for gain in tables]
    whole = np.full((60, 80), -np.inf)
    for i, gain in enumerate(tables):
        whole[3 * i : 3 * i + 3, 4 * i : 4 * i + 4] = gain
    pairs, values = everybody(whole)
    assert values[assign(pairs, values)].sum() == pytest.approx(sum(alone))


def test_nothing_to_choose_from() -> None:
    none = np.empty(0, np.int64)
    assert len(assign(Pairs(none, none), np.empty(0))) == 0


def targets(n: int, rng: np.random.Generator) -> Mixture:
    mean = np.zeros((n, 2, 4))
    mean[:, :, [0, 2]] = rng.uniform(0, 300, (n, 1, 2)) + rng.normal(0, 2, (n, 2, 2))
    roots = rng.normal(0, 3, (n, 2, 4, 4))
    return Mixture(mean, roots @ np.swapaxes(roots, -1, -2) + np.eye(4), np.tile([0.7, 0.3], (n, 1)))


def test_the_gate_holds_every_pair_within_its_limit_and_no_other() -> None:
    rng = np.random.default_rng(3)
    tracks, measured, limit = targets(40, rng), rng.uniform(0, 300, (60, 2)), 9.2
    noise = np.tile([[2.0, 0.5], [0.5, 1.0]], (60, 1, 1)) * rng.uniform(0.5, 4, (60, 1, 1))
    pairs, likelihood = gate(tracks, measured, noise, limit)
    expected = {}
    for i in range(40):
        for j in range(60):
            away = measured[j] - tracks.mean[i][:, [0, 2]]
            s = tracks.covariance[i][:, [[0], [2]], [0, 2]] + noise[j]
            squares = np.array([d @ np.linalg.solve(c, d) for d, c in zip(away, s, strict=True)])
            if (squares <= limit).any():
                densities = np.exp(-squares / 2) / (2 * np.pi * np.sqrt(np.linalg.det(s)))
                expected[i, j] = np.log(tracks.weight[i] @ densities)
    assert len(expected) > 30
    found = dict(zip(zip(pairs.tracks.tolist(), pairs.detections.tolist(), strict=True), likelihood, strict=True))
    assert found.keys() == expected.keys()
    for key, value in expected.items():
        assert found[key] == pytest.approx(value)
