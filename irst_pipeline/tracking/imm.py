"""Interacting multiple models: a filter for each motion model of a track, mixed by how well each has predicted.

After Bar-Shalom, Li and Kirubarajan, "Estimation with Applications to Tracking and Navigation", section 11.6.6.
n tracks, m models, d states.
"""

from typing import NamedTuple

import numpy as np
from scipy.special import ndtr

from irst_pipeline.tracking.kalman import Gaussians, innovations, log_density, positions, predict, update
from irst_pipeline.tracking.motion import Manoeuvres
from irst_pipeline.types import Floats, Integers


class Mixture(NamedTuple):
    """What is known of n targets: for each model a normal distribution of the state, if the target follows it."""

    mean: Floats
    """(n, m, d)"""
    covariance: Floats
    """(n, m, d, d)"""
    weight: Floats
    """(n, m): probability of the models."""

    @property
    def by_model(self) -> Gaussians:
        return Gaussians(self.mean, self.covariance)

    def take(self, rows: Integers) -> "Mixture":
        return Mixture(*(part[rows] for part in self))


def combined(mixture: Mixture) -> Gaussians:
    """The normal distributions (n, d) of the same first two moments."""
    mean = np.einsum("nm,nmd->nd", mixture.weight, mixture.mean)
    away = mixture.mean - mean[:, None]
    spread = mixture.covariance + away[..., None] * away[..., None, :]
    return Gaussians(mean, np.einsum("nm,nmij->nij", mixture.weight, spread))


def placed(mixture: Mixture) -> Gaussians:
    """What the same says of the positions (n, 2)."""
    return combined(Mixture(*positions(mixture.by_model), mixture.weight))


def inside(mixture: Mixture, shape: tuple[int, ...]) -> Floats:
    """(n,) probability that the targets are in an image (H, W), x and y taken as independent."""
    places = positions(mixture.by_model)
    sd = np.sqrt(places.covariance.diagonal(axis1=-2, axis2=-1))
    share = ndtr((np.array(shape[::-1]) - 0.5 - places.mean) / sd) - ndtr((-0.5 - places.mean) / sd)
    return np.asarray((mixture.weight * share[..., 0] * share[..., 1]).sum(1))


def predicted(mixture: Mixture, motion: Manoeuvres, dt: float) -> Mixture:
    """The mixture after `dt` seconds: models change, which mixes their states, and each predicts its own."""
    transition, process_noise, changes = motion.step(dt)
    joint = mixture.weight[:, :, None] * changes  # (n, i, j): model i before and j now
    weight = joint.sum(1)
    before = np.swapaxes(joint / np.maximum(weight[:, None], np.finfo(float).tiny), 1, 2)  # (n, j, i)
    mean = before @ mixture.mean
    away = mixture.mean[:, None] - mean[:, :, None]  # (n, j, i, d)
    shares = np.swapaxes(before[..., None] * away, -1, -2)
    flat = mixture.covariance.reshape(*weight.shape, mean.shape[2] ** 2)
    covariance = (before @ flat).reshape(mixture.covariance.shape) + shares @ away
    states = predict(Gaussians(mean, covariance), transition, process_noise)
    return Mixture(*states, weight)


def updated(mixture: Mixture, measured: Floats, noise: Floats) -> Mixture:
    """Each target with its own measurement (n, 2) of covariance (n, 2, 2)."""
    innovation = innovations(mixture.by_model, measured[:, None], noise[:, None])
    density = log_density(innovation)
    weight = mixture.weight * np.exp(density - density.max(1, initial=-np.inf, keepdims=True))
    states = update(mixture.by_model, innovation, noise[:, None])
    return Mixture(*states, weight / weight.sum(1, keepdims=True))


def updated_softly(mixture: Mixture, tracks: Integers, probability: Floats, measured: Floats, noise: Floats) -> Mixture:
    """n targets with their shares of k measurements, each of the target `tracks` (k,) with its `probability` (k,).

    What a target's probabilities leave of 1 is that none of them is. The moments of what would follow from each are
    those of one normal distribution for every model (Bar-Shalom, Li and Kirubarajan, section 3.4 of "Tracking and Data
    Fusion", for a bank of models). measured: (k, 2); noise: (k, 2, 2).
    """
    if len(tracks) == len(mixture.weight) and probability.min(initial=1) == 1:  # each has its own, whole
        order = tracks.argsort()
        return updated(mixture, measured[order], noise[order])
    each = updated(mixture.take(tracks), measured, noise)
    unseen = 1 - np.bincount(tracks, probability, len(mixture.weight)).clip(0, 1)
    weight = unseen[:, None] * mixture.weight
    step, covariance = np.zeros_like(mixture.mean), weight[..., None, None] * mixture.covariance
    shares, away = probability[:, None] * each.weight, each.mean - mixture.mean[tracks]
    spread = each.covariance + away[..., None] * away[..., None, :]
    np.add.at(weight, tracks, shares)
    np.add.at(step, tracks, shares[..., None] * away)
    np.add.at(covariance, tracks, shares[..., None, None] * spread)
    weight = np.maximum(weight, np.finfo(float).tiny)
    step /= weight[..., None]
    covariance = covariance / weight[..., None, None] - step[..., None] * step[..., None, :]
    return Mixture(mixture.mean + step, covariance, weight / weight.sum(1, keepdims=True))
