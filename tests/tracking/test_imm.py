"""The vectorised bank of filters against filterpy, one track at a time, and against its own statistics."""

import numpy as np
import pytest
from filterpy.kalman import IMMEstimator, KalmanFilter
from scipy.linalg import expm
from scipy.stats import chi2

from irst_pipeline.tracking.imm import Mixture, combined, inside, predicted, updated
from irst_pipeline.tracking.motion import (
    ConstantAcceleration,
    ConstantVelocity,
    CoordinatedTurn,
    Manoeuvres,
    Unaccelerated,
)

RNG = np.random.default_rng(2)
DT = 0.04
MOTION = Manoeuvres([ConstantVelocity(5.0), ConstantVelocity(200.0), CoordinatedTurn(1.0, 5.0)], [2.0, 0.2, 0.5])


ACCELERATING = Manoeuvres(
    [
        Unaccelerated(ConstantVelocity(5.0), 40.0),
        ConstantAcceleration(100.0),
        Unaccelerated(CoordinatedTurn(1.0, 5.0), 40.0),
    ],
    [2.0, 0.2, 0.5],
)


def fresh(n: int, motion: Manoeuvres) -> Mixture:
    models, dimensions = motion.transition(DT).shape[:2]
    order = dimensions // 2
    mean, sd = RNG.normal(0, 30, (n, dimensions)), np.full(dimensions, 50.0)
    mean[:, ::order] = RNG.uniform(0, 300, (n, 2))
    sd[::order] = 1.0
    covariance = np.tile(np.diag(sd**2), (n, models, 1, 1))
    return Mixture(np.repeat(mean[:, None], models, 1), covariance, np.tile(motion.shares, (n, 1)))


@pytest.mark.parametrize("motion", [MOTION, ACCELERATING], ids=["velocity", "acceleration"])
def test_equals_filterpy(motion: Manoeuvres) -> None:
    mixture, banks = fresh(5, motion), []
    d = mixture.mean.shape[-1]
    h = np.eye(d)[:: d // 2]
    for mean, covariance, weight in zip(*mixture, strict=True):
        filters = []
        for x, p in zip(mean, covariance, strict=True):
            one = KalmanFilter(h.shape[1], 2)
            one.x, one.P, one.H = x.copy(), p.copy(), h
            filters.append(one)
        for one, f, q in zip(filters, motion.transition(DT), motion.process_noise(DT), strict=True):
            one.F, one.Q = f, q
        banks.append(IMMEstimator(filters, weight.copy(), motion.changes(DT)))
    for _ in range(8):
        measured, noise = mixture.mean[:, 0] @ h.T + RNG.normal(0, 2, (5, 2)), np.diag([0.5, 0.8])
        mixture = updated(predicted(mixture, motion, DT), measured, np.tile(noise, (5, 1, 1)))
        for bank, z in zip(banks, measured, strict=True):
            for one in bank.filters:
                one.R = noise
            bank.predict()
            bank.update(z)
    np.testing.assert_allclose(mixture.weight, [bank.mu for bank in banks], rtol=0, atol=1e-9)
    states = combined(mixture)
    np.testing.assert_allclose(states.mean, [bank.x for bank in banks], rtol=0, atol=1e-9)
    np.testing.assert_allclose(states.covariance, [bank.P for bank in banks], rtol=1e-9, atol=1e-9)


def test_changes_are_a_markov_chain_in_continuous_time() -> None:
    stays = np.array([2.0, 0.2, 0.5])
    rates = np.where(np.eye(3), -1, 0.5) / stays[:, None]
    np.testing.assert_allclose(MOTION.changes(0.3), expm(0.3 * rates), atol=1e-12)
    np.testing.assert_allclose(MOTION.changes(0.1) @ MOTION.changes(0.2), MOTION.changes(0.3), atol=1e-12)
    np.testing.assert_allclose(MOTION.shares @ MOTION.changes(0.3), MOTION.shares, atol=1e-12)


@pytest.mark.parametrize("motion", [MOTION, ACCELERATING], ids=["velocity", "acceleration"])
def test_no_change_has_a_negative_probability_however_short_the_time(motion: Manoeuvres) -> None:
    mixture = fresh(50, motion)
    mixture.weight[:] = [1e-18, 1.0, 1e-18]
    for dt in (0.0, 1e-12, 1e-6, 1.0, 1e3):
        assert (motion.changes(dt) >= 0).all()
        assert (predicted(mixture, motion, dt).covariance.diagonal(axis1=-2, axis2=-1) > 0).all()


def test_errors_are_as_large_as_the_mixture_says() -> None:
    """Targets that change between cruise and manoeuvre as the models say: NEES within its 99.8 % chi-square bounds."""
    runs, rng = 600, np.random.default_rng(5)
    motion = Manoeuvres([ConstantVelocity(3.0), ConstantVelocity(120.0)], [1.0, 0.5])
    mode = rng.choice(2, runs, p=motion.shares)
    first, noise = np.diag([0.25, 900.0, 0.25, 900.0]), np.diag([0.25, 0.25])
    truth = np.tile([100.0, 30.0, 50.0, -20.0], (runs, 1))
    start = truth + rng.multivariate_normal(np.zeros(4), first, runs)
    mixture = Mixture(
        np.repeat(start[:, None], 2, 1), np.tile(first, (runs, 2, 1, 1)), np.tile(motion.shares, (runs, 1))
    )
    for _ in range(50):
        mode = np.where(rng.random(runs) < motion.changes(DT)[mode, 1 - mode], 1 - mode, mode)
        roots = np.linalg.cholesky(motion.process_noise(DT))[mode]
        truth = truth @ ConstantVelocity(1.0).transition(DT).T + (roots @ rng.normal(size=(runs, 4, 1)))[..., 0]
        measured = truth[:, ::2] + rng.multivariate_normal(np.zeros(2), noise, runs)
        mixture = updated(predicted(mixture, motion, DT), measured, np.tile(noise, (runs, 1, 1)))
    states = combined(mixture)
    error = truth - states.mean
    nees = np.einsum("ni,nij,nj->n", error, np.linalg.inv(states.covariance), error).mean()
    low, high = (float(chi2.ppf(p, 4 * runs)) / runs for p in (0.001, 0.999))
    # A mixture of two normal distributions has longer tails than one, which the mean of squares feels.
    assert low < nees < 1.1 * high
    share = (mixture.weight.argmax(1) == mode).mean()
    assert share > 0.8, "it knows who manoeuvres"


def test_a_manoeuvre_is_noticed_and_forgotten() -> None:
    motion = Manoeuvres([ConstantVelocity(3.0), ConstantVelocity(300.0)], [3.0, 0.2])
    mixture = Mixture(np.zeros((1, 2, 4)), np.tile(np.eye(4), (1, 2, 1, 1)), motion.shares[None])
    x, speed, manoeuvring = 0.0, 0.0, []
    for step in range(120):
        speed = 60.0 if step >= 40 else 0.0  # a jump of its velocity
        x += speed * DT
        mixture = updated(predicted(mixture, motion, DT), np.array([[x, 0.0]]), 0.09 * np.eye(2)[None])
        manoeuvring.append(mixture.weight[0, 1])
    assert max(manoeuvring[20:40]) < 0.2
    assert max(manoeuvring[40:46]) > 0.8
    assert max(manoeuvring[-20:]) < 0.2
    assert abs(combined(mixture).mean[0, 1] - 60) < 2


def test_a_target_is_in_the_picture_as_often_as_its_distribution_says() -> None:
    mean = np.zeros((3, 2, 4))
    mean[:, :, ::2] = np.array([[[-2.0, 30], [4, 20]], [[63.5, 47.5], [63.5, 47.5]], [[-500, 20], [-500, 20]]])
    covariance = np.zeros((3, 2, 4, 4)) + np.diag([16.0, 9, 25, 9])
    weight = np.array([[0.3, 0.7], [0.5, 0.5], [1.0, 0]])
    found = inside(Mixture(mean, covariance, weight), (48, 64))
    places = RNG.normal(mean[..., None, ::2], [4, 5], (3, 2, 200_000, 2))
    there = ((places > -0.5) & (places < [63.5, 47.5])).all(-1).mean(-1)
    np.testing.assert_allclose(found, (weight * there).sum(1), atol=0.005)
    assert found[1] == pytest.approx(0.25, abs=1e-6), "in a corner"
    assert found[2] == 0
