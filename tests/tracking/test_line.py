"""Straight lines fitted to detections as they come."""

import numpy as np
import pytest

from irst_pipeline.tracking.line import begun, carried, extended, fitted, fly, misfit_to
from irst_pipeline.types import STANDS_STILL, CameraMotion, Floats, Integers

DT = 1 / 30
NOISE = np.array([[0.3, 0.1], [0.1, 0.2]])
TURNS_AND_ZOOMS = CameraMotion(np.array([[1.01, 0.02, -1.5], [-0.02, 1.01, 0.7], [0, 0, 1]]), known=True)
UNKNOWN = 1e6  # px/s
LONG = int(1.2 / DT)
SPEED = 6.0  # px/s


def drawn(places: Floats, noise: Floats = NOISE) -> tuple[Floats, Integers]:
    """Misfit (1, 5, 5) and count of detections (n, 2), one a frame."""
    misfit, count = begun(misfit_to(places[:1], noise[None]), UNKNOWN), np.ones(1, np.int64)
    for place in places[1:]:
        misfit, count = extended(carried(misfit, DT, STANDS_STILL), count, misfit_to(place[None], noise[None]), UNKNOWN)
    return misfit, count


def flight(frames: int, vx: float, vy: float, spread: float, bend: float = 0.0, seed: int = 0) -> Floats:
    """Places (frames, 2), px, of what flies at px/s; `spread`: px around them; `bend`: px/s^2 across."""
    time = np.arange(frames)[:, None] * DT
    path = np.array([100.0, 80.0]) + time * (vx, vy) + time**2 / 2 * (0.0, bend)
    return np.asarray(path + np.random.default_rng(seed).normal(0, spread, (frames, 2)))


def flies(places: Floats, noise: Floats = NOISE) -> bool:
    return bool(fly(*drawn(places, noise), SPEED)[0])


def test_the_least_misfit_is_that_of_least_squares() -> None:
    places = flight(12, vx=15, vy=-4, spread=0.5)
    time = (np.arange(12) - 11) * DT
    root = np.linalg.inv(np.linalg.cholesky(NOISE))
    design = np.concatenate([root @ [[1, t, 0, 0], [0, 0, 1, t]] for t in time])
    line, (least,), _, _ = np.linalg.lstsq(design, (places @ root.T).ravel())
    states, misfit = fitted(drawn(places)[0])
    assert states.mean[0] == pytest.approx(line, rel=1e-6)
    assert states.covariance[0] == pytest.approx(np.linalg.inv(design.T @ design), rel=1e-6)
    assert misfit[0] == pytest.approx(least, rel=1e-6)


def test_a_camera_that_turns_and_zooms_changes_no_misfit() -> None:
    places = flight(12, vx=15, vy=-4, spread=0.5)
    turn = np.eye(2)
    misfit, count = begun(misfit_to(places[:1], NOISE[None]), UNKNOWN), np.ones(1, np.int64)
    for frame, place in enumerate(places[1:], 1):
        for _ in range(frame):
            place = TURNS_AND_ZOOMS.apply(place)
        turn = TURNS_AND_ZOOMS.matrix[:2, :2] @ turn
        noise = turn @ NOISE @ turn.T  # it looks turned and magnified as well
        misfit, count = extended(
            carried(misfit, DT, TURNS_AND_ZOOMS), count, misfit_to(place[None], noise[None]), UNKNOWN
        )
    assert fitted(misfit)[1] == pytest.approx(fitted(drawn(places)[0])[1], rel=1e-4)


def test_a_line_that_began_with_what_was_of_another_target_begins_anew() -> None:
    places = flight(21, 20, 5, 0.5)
    places[0] += 60
    assert flies(places, 0.5**2 * np.eye(2))


def test_what_flies_straight_is_soon_known_to() -> None:
    noise = 0.5**2 * np.eye(2)
    assert np.mean([flies(flight(20, 20, 5, 0.5, seed=seed), noise) for seed in range(100)]) > 0.95


@pytest.mark.parametrize(
    ("vx", "spread", "bend"),
    [(0.0, 0.5, 0.0), (4.0, 0.5, 0.0), (20.0, 2.0, 0.0), (20.0, 0.5, 60.0)],
    ids=["at rest", "drifting", "led about", "turning"],
)
def test_what_does_not_fly_straight_is_not_said_to(vx: float, spread: float, bend: float) -> None:
    noise = 0.5**2 * np.eye(2)
    assert np.mean([flies(flight(LONG, vx, 0, spread, bend, seed), noise) for seed in range(200)]) < 0.02


@pytest.mark.parametrize("frames", [3, 5, 8, 12])
def test_a_few_detections_of_what_rests_are_not_said_to_fly_however_fast_they_seem_to(frames: int) -> None:
    noise = 0.5**2 * np.eye(2)
    assert np.mean([flies(flight(frames, 0, 0, 0.5, seed=seed), noise) for seed in range(200)]) < 0.02


def test_of_two_detections_nothing_is_known() -> None:
    assert not flies(flight(2, 100, 0, 0.0))


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("seconds", [10.0, 3600.0, 1e5])
def test_gaps_of_any_length_leave_a_line_that_is_not_known_to_fly(seconds: float) -> None:
    noise = 0.01 * np.eye(2)[None]
    misfit = begun(misfit_to(np.array([[100.0, 80.0]]), noise), 1000.0)
    for _ in range(3):
        misfit = carried(misfit, seconds, TURNS_AND_ZOOMS)
    assert (fitted(misfit)[0].covariance.diagonal(axis1=1, axis2=2) > 0).all()
    longer = extended(misfit, np.ones(1, np.int64), misfit_to(np.array([[140.0, 80.0]]), noise), 1000.0)
    assert not fly(*longer, SPEED)[0]
