"""Interacting multiple models: a filter for each motion model of a track, mixed by how well each has predicted.

After Bar-Shalom, Li and Kirubarajan, "Estimation with Applications to Tracking and Navigation", section 11.6.6.
n tracks, m models, d states.
"""

from typing import NamedTuple

import numpy as np

from irst_pipeline.tracking.kalman import Gaussians, innovations, log_density, predict, update
from irst_pipeline.tracking.motion import OBSERVATION, Manoeuvres
from irst_pipeline.types import Floats


class Mixture(NamedTuple):
    """What is known of n targets: for each model a normal distribution of the state, if the target follows it."""

    mean: Floats
    """(n, m, d)"""
    covariance: Floats
    """(n, m, d, d)"""
    weight: Floats
    """(n, m): probability of the models."""

    @property
    def states(self) -> Gaussians:
        return Gaussians(self.mean, self.covariance)


def combined(mixture: Mixture) -> Gaussians:
    """The normal distributions (n, d) of the same first two moments."""
    mean = (mixture.weight[..., None] * mixture.mean).sum(1)
    away = mixture.mean - mean[:, None]
    spread = mixture.covariance + away[..., None] * away[..., None, :]
    return Gaussians(mean, (mixture.weight[..., None, None] * spread).sum(1))


def predicted(mixture: Mixture, motion: Manoeuvres, dt: float) -> Mixture:
    """The mixture after `dt` seconds: models change, which mixes their states, and each predicts its own."""
    joint = mixture.weight[:, :, None] * motion.changes(dt)  # (n, i, j): model i before and j now
    weight = joint.sum(1)
    before = joint / np.maximum(weight[:, None], np.finfo(float).tiny)
    mean = np.einsum("nij,nid->njd", before, mixture.mean)
    away = mixture.mean[:, :, None] - mean[:, None]  # (n, i, j, d)
    covariance = np.einsum("nij,nide->njde", before, mixture.covariance)
    covariance += np.einsum("nij,nijd,nije->njde", before, away, away)
    states = predict(Gaussians(mean, covariance), motion.transition(dt), motion.process_noise(dt))
    return Mixture(*states, weight)


def updated(mixture: Mixture, measured: Floats, noise: Floats) -> Mixture:
    """Each target with its own measurement (n, 2) of covariance (n, 2, 2)."""
    measured, noise = measured[:, None], noise[:, None]
    density = log_density(innovations(mixture.states, OBSERVATION, measured, noise))
    weight = mixture.weight * np.exp(density - density.max(1, initial=-np.inf, keepdims=True))
    return Mixture(*update(mixture.states, OBSERVATION, measured, noise), weight / weight.sum(1, keepdims=True))
