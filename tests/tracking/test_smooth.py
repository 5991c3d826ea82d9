"""Tracks with hindsight: nearer to the truth, as sure as they say, and whole."""

import tracemalloc
from collections.abc import Mapping
from dataclasses import replace
from types import MappingProxyType

import numpy as np
import pytest
from filterpy.kalman import KalmanFilter, rts_smoother
from scipy.stats import chi2

from irst_pipeline.tracking.kalman import Gaussians
from irst_pipeline.tracking.motion import ConstantVelocity
from irst_pipeline.tracking.smooth import SHAKES, WALKS, History, smooth, stitch

DT = 0.04
WALK = 30.0
NOISE = np.diag([0.25, 0.25])


def flight(count: int, rng: np.random.Generator, start: np.ndarray | None = None) -> np.ndarray:
    """States (count, 4) of nearly constant velocity."""
    states = [np.array([100.0, 30, 50, -20]) if start is None else start]
    model = ConstantVelocity(WALK)
    for _ in range(count - 1):
        states.append(model.transition(DT) @ states[-1] + rng.multivariate_normal(np.zeros(4), model.process_noise(DT)))
    return np.array(states)


def watched(
    truth: np.ndarray, rng: np.random.Generator, gaps: list[int], first: int = 0, noise: np.ndarray = NOISE
) -> History:
    """Detections of a flight, but in the frames of `gaps`."""
    frame = np.arange(first, first + len(truth))
    measured = truth[:, ::2] + rng.multivariate_normal(np.zeros(2), noise, len(truth))
    measured[gaps] = np.nan
    return History(
        frame, frame.astype(float) * DT, measured, np.tile(noise, (len(truth), 1, 1)), np.ones((len(truth), 4))
    )


def test_equals_filterpy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("irst_pipeline.tracking.smooth.WALKS", (WALK,))
    monkeypatch.setattr("irst_pipeline.tracking.smooth.SHAKES", (0.0,))
    rng = np.random.default_rng(0)
    history = watched(flight(30, rng), rng, [])
    found, model = smooth(history, 100.0), ConstantVelocity(WALK)
    one = KalmanFilter(4, 2)
    one.x = np.array([history.measured[0, 0], 0, history.measured[0, 1], 0])
    one.P, one.H = np.diag([0.25, 1e4, 0.25, 1e4]), np.eye(4)[::2]
    means, covariances = [one.x], [one.P]
    for z in history.measured[1:]:
        one.predict(F=model.transition(DT), Q=model.process_noise(DT))
        one.update(z, R=NOISE)
        means.append(one.x)
        covariances.append(one.P)
    f, q = [model.transition(DT)] * 30, [model.process_noise(DT)] * 30
    mean, covariance, *_ = rts_smoother(np.array(means), np.array(covariances), f, q)
    np.testing.assert_allclose(found.mean, mean, atol=1e-9)
    np.testing.assert_allclose(found.covariance, covariance, atol=1e-9)


def test_errors_are_smaller_than_those_of_detections_and_as_large_as_is_said() -> None:
    rng, nees, squares = np.random.default_rng(1), [], []
    for _ in range(60):
        truth = flight(40, rng)
        found = smooth(watched(truth, rng, [10, 11, 12, 30]), 100.0)
        error = (truth - found.mean)[20]
        nees.append(error @ np.linalg.solve(found.covariance[20], error))
        squares.append((error[::2] ** 2).mean())
    assert np.mean(squares) < 0.4 * NOISE[0, 0]
    low, high = (float(chi2.ppf(p, 4 * 60)) / 60 for p in (0.001, 0.999))
    assert low < np.mean(nees) < 1.3 * high, "the process noise is chosen from a few"


def test_the_likeliest_process_noise_is_taken() -> None:
    rng = np.random.default_rng(2)
    still = watched(np.tile([100.0, 0, 50, 0], (80, 1)), rng, [])
    wild = watched(flight(80, rng) + np.outer(np.cumsum(rng.normal(0, 3, 80)), [1, 0, 1, 0]), rng, [])
    spread = [smooth(history, 100.0).covariance[40, 1, 1] ** 0.5 for history in (still, wild)]
    assert spread[0] < WALKS[0]
    assert spread[1] > WALKS[1]


def test_a_camera_whose_motion_was_found_amiss_is_told_and_costs_less(monkeypatch: pytest.MonkeyPatch) -> None:
    rng, frames = np.random.default_rng(6), 120
    histories, places = [], []
    for _ in range(10):
        truth = np.outer(np.arange(frames) * DT, [25, 0, 10, 0]) + np.array([100.0, 25, 50, 10])
        truth[:, ::2] += np.cumsum(rng.normal(0, 0.2, (frames, 2)), axis=0)
        histories.append(watched(truth, rng, [], noise=NOISE / 25))
        places.append(truth[:, ::2])
    squares, sure = [], []
    for shakes in (SHAKES, (0.0,)):
        monkeypatch.setattr("irst_pipeline.tracking.smooth.SHAKES", shakes)
        found = [smooth(history, 100.0) for history in histories]
        away = np.concatenate([place - f.mean[:, ::2] for place, f in zip(places, found, strict=True)])
        covariance = np.concatenate([f.covariance[:, ::2, ::2] for f in found])
        squares.append((away**2).mean())
        sure.append((away[:, None] @ np.linalg.solve(covariance, away[..., None])).mean())
    assert squares[0] < 0.85 * squares[1]
    assert 1.5 < sure[0] < 2.6, "two coordinates; shakes are chosen from a few"
    assert sure[1] > 1.5 * sure[0]


def test_x_and_y_are_alike() -> None:
    rng, swapped = np.random.default_rng(7), [2, 3, 0, 1]
    shaken = flight(60, rng) + np.outer(np.cumsum(rng.normal(0, 0.2, 60)), [1, 0, 1, 0])
    history = watched(shaken, rng, [20, 21], noise=NOISE / 25)
    found, other = smooth(history, 100.0), smooth(replace(history, measured=history.measured[:, ::-1]), 100.0)
    np.testing.assert_allclose(other.mean, found.mean[:, swapped], atol=1e-9)
    np.testing.assert_allclose(other.covariance, found.covariance[:, swapped][..., swapped], atol=1e-9)


def stitched(
    parts: dict[int, History], frames: np.ndarray, jumps: Mapping[int, int] = MappingProxyType({})
) -> dict[int, History]:
    states = {id_: smooth(history, 100.0) for id_, history in parts.items()}
    return stitch(parts, states, frames, frames.astype(float) * DT, jumps)


def test_two_parts_of_one_flight_are_stitched_and_another_is_left_alone() -> None:
    rng = np.random.default_rng(3)
    truth = flight(100, rng)
    frames = np.arange(100)
    parts = {
        4: watched(truth[:40], rng, []),
        9: watched(truth[60:], rng, [], first=60),
        7: watched(flight(40, rng, np.array([200.0, -40, 20, 30])), rng, [], first=55),
    }
    joined = stitched(parts, frames)
    assert joined.keys() == {4, 7}
    whole, states = joined[4], smooth(joined[4], 100.0)
    assert whole.frame.tolist() == frames.tolist()
    assert np.flatnonzero(~whole.seen).tolist() == list(range(40, 60))
    error = (states.mean - truth)[:, ::2]
    assert np.abs(error).max() < 6
    assert np.abs(error[:40]).max() < 1.5
    for jumps in ({4: 5}, {5: 9}):
        assert 9 in stitched(parts, frames, jumps), "it was elsewhere"


def test_parts_that_overlap_or_lie_too_far_apart_are_two() -> None:
    rng = np.random.default_rng(4)
    truth, frames = flight(200, rng), np.arange(200)
    for second in (slice(30, 80), slice(140, 200)):
        parts = {1: watched(truth[:40], rng, []), 2: watched(truth[second], rng, [], first=second.start)}
        assert stitched(parts, frames).keys() == {1, 2}


def test_the_parts_of_a_long_recording_are_each_compared_with_the_next_few_alone() -> None:
    """All with all would take at least a byte for each pair, and minutes."""
    rng, count, frames = np.random.default_rng(8), 2000, np.arange(40_000)
    parts, states = {}, {}
    for id_, first in enumerate(rng.integers(0, len(frames) - 5, count).tolist()):
        parts[id_] = watched(np.tile([rng.uniform(0, 1e6), 0, 0, 0], (5, 1)), rng, [], first=first)
        states[id_] = Gaussians(np.tile([parts[id_].measured[0, 0], 0, 0, 0], (5, 1)), np.tile(np.eye(4), (5, 1, 1)))
    jumps = {2 * i: 2 * i + 1 for i in range(count // 10)}
    tracemalloc.start()
    assert len(stitch(parts, states, frames, frames.astype(float) * DT, jumps)) == count
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert most < count**2
