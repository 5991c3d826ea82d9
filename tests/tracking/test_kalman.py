"""The vectorised filter against filterpy, one track at a time, and against its own statistics."""

import numpy as np
import pytest
from filterpy.common import Q_continuous_white_noise
from filterpy.kalman import KalmanFilter
from scipy.stats import chi2, multivariate_normal

from irst_pipeline.tracking.kalman import Gaussians, innovations, log_density, mahalanobis, predict, update
from irst_pipeline.tracking.motion import ConstantAcceleration, ConstantVelocity, CoordinatedTurn

RNG = np.random.default_rng(1)
OBSERVATION = np.eye(4)[[0, 2]]


def spread(n: int, d: int) -> np.ndarray:
    roots = RNG.normal(size=(n, d, d))
    return roots @ np.swapaxes(roots, 1, 2) + np.eye(d)


def test_equals_filterpy() -> None:
    n, model = 7, ConstantVelocity(50.0)
    states = Gaussians(RNG.normal(size=(n, 4)) * 100, spread(n, 4))
    filters = []
    for mean, covariance in zip(states.mean, states.covariance, strict=True):
        one = KalmanFilter(4, 2)
        one.x, one.P, one.H = mean.copy(), covariance.copy(), OBSERVATION
        filters.append(one)
    for dt in (1 / 30, 0.5, 1e-3, 0.04):
        measured, noise = RNG.normal(size=(n, 2)) * 100, spread(n, 2)
        states = predict(states, model.transition(dt), model.process_noise(dt))
        states = update(states, innovations(states, measured, noise), noise)
        for one, z, r in zip(filters, measured, noise, strict=True):
            one.predict(F=model.transition(dt), Q=model.process_noise(dt))
            one.update(z, R=r)
    np.testing.assert_allclose(states.mean, [one.x for one in filters], rtol=0, atol=1e-9)
    np.testing.assert_allclose(states.covariance, [one.P for one in filters], rtol=0, atol=1e-9)


def test_two_half_steps_are_one_whole_step() -> None:
    model, states = ConstantVelocity(50.0), Gaussians(RNG.normal(size=(3, 4)), spread(3, 4))
    halves = states
    for _ in range(2):
        halves = predict(halves, model.transition(0.1), model.process_noise(0.1))
    whole = predict(states, model.transition(0.2), model.process_noise(0.2))
    np.testing.assert_allclose(halves.mean, whole.mean, atol=1e-12)
    np.testing.assert_allclose(halves.covariance, whole.covariance, atol=1e-12)


@pytest.mark.parametrize("dt", [1 / 60, 1 / 8])
def test_errors_are_as_large_as_the_filter_says(dt: float) -> None:
    """Normalised estimation error squared, averaged over 400 runs, lies in its 99.8 % chi-square bounds."""
    runs, model = 400, ConstantVelocity(40.0)
    rng = np.random.default_rng(5)
    truth = np.tile([100.0, 30.0, 50.0, -20.0], (runs, 1))
    first, noise = np.diag([0.25, 900.0, 0.25, 900.0]), np.diag([0.25, 0.25])
    states = Gaussians(truth + rng.multivariate_normal(np.zeros(4), first, runs), np.tile(first, (runs, 1, 1)))
    for _ in range(60):
        q = model.process_noise(dt)
        truth = truth @ model.transition(dt).T + rng.multivariate_normal(np.zeros(4), q, runs)
        measured = truth @ OBSERVATION.T + rng.multivariate_normal(np.zeros(2), noise, runs)
        states = predict(states, model.transition(dt), q)
        states = update(states, innovations(states, measured, noise), noise)
    error = truth - states.mean
    nees = np.einsum("ni,nij,nj->n", error, np.linalg.inv(states.covariance), error).sum()
    low, high = (float(chi2.ppf(p, 4 * runs)) for p in (0.001, 0.999))
    assert low < nees < high


def test_covariances_stay_positive_definite_and_symmetric() -> None:
    model, states = ConstantVelocity(100.0), Gaussians(np.zeros((1, 4)), np.eye(4)[None] * 1e6)
    noise = np.eye(2)[None] * 1e-4
    for step in range(20_000):
        dt = 1e-3 if step % 2 else 3.0
        states = predict(states, model.transition(dt), model.process_noise(dt))
        states = update(states, innovations(states, np.zeros((1, 2)), noise), noise)
    covariance = states.covariance[0]
    np.testing.assert_allclose(covariance, covariance.T, atol=1e-9)
    assert np.linalg.eigvalsh(covariance).min() > 0


def test_mahalanobis_of_innovations() -> None:
    states = Gaussians(np.array([[0.0, 0, 0, 0]]), np.diag([3.0, 1, 8, 1])[None])
    found = innovations(states, np.array([[4.0, 0.0], [0.0, 6.0]]), np.tile(np.eye(2), (2, 1, 1)))
    np.testing.assert_allclose(mahalanobis(found), [16 / 4, 36 / 9])
    expected = [multivariate_normal(np.zeros(2), s).logpdf(m) for m, s in zip(*found, strict=True)]
    np.testing.assert_allclose(log_density(found), expected, rtol=1e-12)


def test_motion_models_are_those_of_the_books() -> None:
    """filterpy's noise, by which two half steps of any model are one whole step, and a circle of the right radius."""
    model = ConstantVelocity(50.0)
    noise = Q_continuous_white_noise(2, 0.3, 50.0**2)
    np.testing.assert_allclose(model.process_noise(0.3), np.kron(np.eye(2), noise), rtol=1e-12)
    steady = ConstantAcceleration(20.0)
    noise = Q_continuous_white_noise(3, 0.3, 20.0**2)
    np.testing.assert_allclose(steady.process_noise(0.3), np.kron(np.eye(2), noise), rtol=1e-12)
    np.testing.assert_allclose(steady.transition(0.1) @ steady.transition(0.2), steady.transition(0.3), atol=1e-12)
    np.testing.assert_allclose(steady.transition(2.0) @ [0, 0, 3, 1, 2, 0], [6, 6, 3, 5, 2, 0])
    turn = CoordinatedTurn(np.pi / 2, 50.0)
    np.testing.assert_allclose(turn.transition(0.1) @ turn.transition(0.2), turn.transition(0.3), atol=1e-12)
    radius = 30 / (np.pi / 2)  # at 30 px/s; a quarter of a circle a second, from x towards y
    np.testing.assert_allclose(turn.transition(1.0) @ [0, 30, 0, 0], [radius, 0, radius, 30], atol=1e-9)
