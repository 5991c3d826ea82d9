"""Detections of two targets at once: when they are taken for that, and what they say."""

import numpy as np
from scipy.linalg import block_diag

from irst_pipeline.tracking.association import Pairs
from irst_pipeline.tracking.kalman import Gaussians, innovations, update
from irst_pipeline.tracking.unresolved import contested, each_of_two, seen_as_one

NOISE = np.eye(2)[None] * 0.1


def places(apart: float) -> Gaussians:
    return Gaussians(np.array([[[0.0, 0], [apart, 0]]]), np.tile(np.eye(2) * 0.2, (1, 2, 1, 1)))


def as_one(apart: float, detection: float, size: float = 5.0) -> bool:
    expected, measured = places(apart), np.array([[detection, 0.0]])
    spread = 0.2 + 0.1
    density = -0.5 * ((measured[:, None] - expected.mean) ** 2).sum(-1) / spread - np.log(2 * np.pi * spread)
    return bool(seen_as_one(expected, density, np.full((1, 2), 0.1), measured, NOISE, np.full((1, 2), size))[0])


def test_a_detection_between_two_targets_is_of_both_unless_it_is_too_small_to_hold_them() -> None:
    assert as_one(2.0, 1.0)
    assert as_one(0.5, 0.25)
    assert as_one(4.0, 1.2)
    assert not as_one(4.0, 1.2, size=2.0)
    assert not as_one(3.0, 0.0), "where the one is, the other was missed"


def test_only_a_detection_that_is_all_two_confirmed_tracks_have_is_contested() -> None:
    pairs = Pairs(np.array([0, 1, 2, 3, 4, 4, 5]), np.array([2, 0, 2, 0, 1, 3, 1]))
    confirmed = np.array([True, True, True, False, True, True])
    assert contested(pairs, confirmed, np.arange(len(confirmed))).tolist() == [[0, 2]]
    # One that has gone on as a younger one after a jump is the elder, wherever it stands.
    assert contested(pairs, confirmed, -np.arange(len(confirmed))).tolist() == [[2, 0]]


def test_each_track_moves_as_in_the_joint_update_of_both() -> None:
    rng = np.random.default_rng(0)
    roots = rng.normal(0, 1, (2, 2, 2))
    expected = Gaussians(rng.normal(0, 2, (2, 2)), roots @ np.swapaxes(roots, -1, -2) + 0.1 * np.eye(2))
    measured, noise = np.array([0.3, -0.2]), np.array([[0.3, 0.1], [0.1, 0.2]])
    covariance, h = block_diag(*expected.covariance), np.hstack([np.eye(2), np.eye(2)]) / 2
    gain = covariance @ h.T @ np.linalg.inv(h @ covariance @ h.T + noise)
    mean = expected.mean.ravel() + gain @ (measured - expected.mean.mean(0))
    covariance -= gain @ h @ covariance
    says = each_of_two(Gaussians(*(part[None] for part in expected)), measured[None], noise[None])
    alone = update(expected, innovations(expected, says.mean[0], says.covariance[0]), says.covariance[0])
    np.testing.assert_allclose(alone.mean.ravel(), mean, atol=1e-12)
    np.testing.assert_allclose(alone.covariance, [covariance[:2, :2], covariance[2:, 2:]], atol=1e-12)
