"""The Kalman filter over all tracks and motion models at once.

d states, the position and as many of its derivatives, first in x and then in y, of which the position is measured;
leading dimensions, here `...`, are those of the batch and are broadcast.
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


def positions(states: Gaussians) -> Gaussians:
    """What is said of the position (..., 2): views."""
    order = states.mean.shape[-1] // 2
    return Gaussians(states.mean[..., ::order], states.covariance[..., ::order, ::order])


def innovations(states: Gaussians, measured: Floats, noise: Floats) -> Gaussians:
    """Innovations (..., 2) and their covariances S (..., 2, 2). measured: (..., 2); noise: (..., 2, 2)."""
    expected = positions(states)
    return Gaussians(measured - expected.mean, expected.covariance + noise)


def update(states: Gaussians, innovation: Gaussians, noise: Floats) -> Gaussians:
    """Each state with its own innovation, in Joseph form, which keeps covariances positive definite.

    noise: (..., 2, 2) of the measurements.
    """
    d = states.mean.shape[-1]
    gain = states.covariance[..., :: d // 2] @ inverse(innovation.covariance)
    keep = np.zeros((*gain.shape[:-1], d)) + np.eye(d)
    keep[..., :: d // 2] -= gain
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


def likelihoods(differences: Gaussians) -> tuple[Floats, Floats]:
    """Squared Mahalanobis lengths of differences (..., 2) from the mean, with covariances (..., 2, 2), and the
    logarithms of the normal densities there, per px^2."""
    x, y = differences.mean[..., 0], differences.mean[..., 1]
    s = differences.covariance
    a, b, c = s[..., 0, 0], s[..., 0, 1], s[..., 1, 1]
    determinant = a * c - b * b
    squares = (c * x * x - 2 * b * x * y + a * y * y) / determinant
    return squares, -0.5 * (squares + np.log(determinant)) - LOG_TWO_PI


def mahalanobis(differences: Gaussians) -> Floats:
    """Squared Mahalanobis lengths alone, of such differences."""
    return likelihoods(differences)[0]


def log_density(differences: Gaussians) -> Floats:
    """Logarithms of normal densities alone, of such differences; per px^2."""
    return likelihoods(differences)[1]
