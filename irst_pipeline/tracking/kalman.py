"""The Kalman filter over all tracks and motion models at once.

d states, 2 measured coordinates; leading dimensions, here `...`, are those of the batch and are broadcast.
"""

from typing import NamedTuple

import numpy as np

from irst_pipeline.types import Floats

LOG_TWO_PI = np.log(2 * np.pi)


class Gaussians(NamedTuple):
    """Normal distributions."""

    mean: Floats
    """(..., d)"""
    covariance: Floats
    """(..., d, d)"""


def predict(states: Gaussians, transition: Floats, process_noise: Floats) -> Gaussians:
    """One step of F (..., d, d) and Q (..., d, d)."""
    return Gaussians(
        (transition @ states.mean[..., None])[..., 0],
        transition @ states.covariance @ np.swapaxes(transition, -1, -2) + process_noise,
    )


def innovations(states: Gaussians, observation: Floats, measured: Floats, noise: Floats) -> Gaussians:
    """Innovations (..., 2) and their covariances S (..., 2, 2). measured: (..., 2); noise: (..., 2, 2)."""
    spread = observation @ states.covariance @ observation.T + noise
    return Gaussians(measured - states.mean @ observation.T, spread)


def update(states: Gaussians, observation: Floats, measured: Floats, noise: Floats) -> Gaussians:
    """Each state with its own measurement, in Joseph form, which keeps covariances positive definite.

    measured: (..., 2); noise: (..., 2, 2).
    """
    innovation = innovations(states, observation, measured, noise)
    gain = states.covariance @ observation.T @ inverse(innovation.covariance)
    keep = np.eye(states.mean.shape[-1]) - gain @ observation
    return Gaussians(
        states.mean + (gain @ innovation.mean[..., None])[..., 0],
        keep @ states.covariance @ np.swapaxes(keep, -1, -2) + gain @ noise @ np.swapaxes(gain, -1, -2),
    )


def inverse(matrices: Floats) -> Floats:
    """Inverses of symmetric (..., 2, 2), many times faster than the general way."""
    a, b, c = matrices[..., 0, 0], matrices[..., 0, 1], matrices[..., 1, 1]
    inverses = np.empty_like(matrices)
    inverses[..., 0, 0], inverses[..., 1, 1] = c, a
    inverses[..., 0, 1] = inverses[..., 1, 0] = -b
    inverses /= (a * c - b * b)[..., None, None]
    return inverses


def mahalanobis(differences: Gaussians) -> Floats:
    """Squared Mahalanobis length of differences (..., 2) with covariances (..., 2, 2)."""
    x, y = differences.mean[..., 0], differences.mean[..., 1]
    s = differences.covariance
    a, b, c = s[..., 0, 0], s[..., 0, 1], s[..., 1, 1]
    return (c * x * x - 2 * b * x * y + a * y * y) / (a * c - b * b)


def log_density(differences: Gaussians) -> Floats:
    """Logarithm of the normal density at differences (..., 2) from the mean, with covariances (..., 2, 2); per px^2."""
    s = differences.covariance
    determinant = s[..., 0, 0] * s[..., 1, 1] - s[..., 0, 1] ** 2
    return -0.5 * (mahalanobis(differences) + np.log(determinant)) - LOG_TWO_PI
