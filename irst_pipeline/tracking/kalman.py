"""The Kalman filter over all tracks at once. n tracks, d states, 2 measured coordinates."""

from typing import NamedTuple

import numpy as np

from irst_pipeline.types import Floats


class Gaussians(NamedTuple):
    """n normal distributions."""

    mean: Floats
    """(n, d)"""
    covariance: Floats
    """(n, d, d)"""


def predict(states: Gaussians, transition: Floats, process_noise: Floats) -> Gaussians:
    """One step of F (d, d) and Q (d, d), the same for all tracks."""
    return Gaussians(states.mean @ transition.T, transition @ states.covariance @ transition.T + process_noise)


def innovations(states: Gaussians, observation: Floats, measured: Floats, noise: Floats) -> Gaussians:
    """Innovation of every track with every measurement, as means (n, m, 2) and covariances S (n, m, 2, 2).

    measured: (m, 2); noise: (m, 2, 2).
    """
    expected = states.mean @ observation.T
    spread = observation @ states.covariance @ observation.T
    return Gaussians(measured[None] - expected[:, None], spread[:, None] + noise[None])


def update(states: Gaussians, observation: Floats, measured: Floats, noise: Floats) -> Gaussians:
    """Each track with its own measurement, in Joseph form, which keeps covariances positive definite.

    measured: (n, 2); noise: (n, 2, 2).
    """
    spread = observation @ states.covariance @ observation.T + noise
    gain = np.swapaxes(np.linalg.solve(spread, observation @ states.covariance), -1, -2)
    innovation = measured - states.mean @ observation.T
    keep = np.eye(states.mean.shape[1]) - gain @ observation
    return Gaussians(
        states.mean + (gain @ innovation[..., None])[..., 0],
        keep @ states.covariance @ np.swapaxes(keep, -1, -2) + gain @ noise @ np.swapaxes(gain, -1, -2),
    )


def mahalanobis(differences: Gaussians) -> Floats:
    """Squared Mahalanobis length of differences (..., 2) with covariances (..., 2, 2)."""
    solved = np.linalg.solve(differences.covariance, differences.mean[..., None])[..., 0]
    return np.asarray((differences.mean * solved).sum(-1))
