"""Scenes of points: their statistics."""

from dataclasses import astuple
from itertools import pairwise
from typing import Any

import numpy as np
import pytest

from irst_pipeline.simulation.points import PointFrame, PointSettings, point_frames
from irst_pipeline.types import Floats


def frames(seed: int = 1, **settings: Any) -> list[PointFrame]:
    return list(point_frames(PointSettings(**settings), seed))


def measured(frame: PointFrame) -> Floats:
    """(n, 2) px"""
    return np.column_stack([frame.detections.x, frame.detections.y])


def test_targets_are_detected_with_the_set_probability() -> None:
    counts = [len(frame.detections) for frame in frames(targets=200, false_alarms=0, detection_probability=0.8)]
    assert np.mean(counts) / 200 == pytest.approx(0.8, abs=0.01)
    assert np.var(counts) == pytest.approx(200 * 0.8 * 0.2, rel=0.5)  # each target by itself


def test_every_frame_has_the_same_number_of_false_alarms_anywhere_in_it() -> None:
    found = frames(targets=0, false_alarms=20, frames=500)
    assert {len(frame.detections) for frame in found} == {20}
    positions = np.concatenate([measured(frame) for frame in found])
    column, row = ((positions + 0.5) // [160, 128]).astype(int).T
    assert np.bincount(4 * row + column, minlength=16) == pytest.approx(np.full(16, 10_000 / 16), rel=0.2)


def test_a_measurement_has_the_noise_that_its_covariance_says() -> None:
    found = frames(targets=1, velocity_sd_px=0, false_alarms=0, detection_probability=1, frames=5000, noise_px=2)
    xx, xy, yy = found[0].detections.covariance[0]
    errors = np.concatenate([measured(frame) - frame.position for frame in found])
    assert errors.mean(axis=0) == pytest.approx([0, 0], abs=0.1)
    assert np.cov(errors.T) == pytest.approx(np.array([[xx, xy], [xy, yy]]), abs=0.3)
    assert (xx, xy, yy) == (4, 0, 4)


def test_targets_are_in_the_frame_and_reach_its_borders() -> None:
    position = np.stack([frame.position for frame in frames(width_px=40, height_px=30, targets=50)])
    assert position.min(axis=(0, 1)) == pytest.approx([-0.5, -0.5], abs=0.2)
    assert position.max(axis=(0, 1)) == pytest.approx([39.5, 29.5], abs=0.2)
    assert (position >= -0.5).all()
    assert (position <= [39.5, 29.5]).all()


def test_velocity_is_the_derivative_of_the_position_between_bounces() -> None:
    bounces = 0
    for before, after in pairwise(frames(width_px=60, height_px=50, frame_rate_hz=25)):
        straight = before.velocity == after.velocity
        step = (after.position - before.position) / (after.time - before.time)
        assert step[straight] == pytest.approx(before.velocity[straight])
        assert after.velocity[~straight] == pytest.approx(-before.velocity[~straight])
        bounces += (~straight).sum()
    assert bounces > 20


def test_velocities_have_the_set_spread() -> None:
    (frame,) = frames(targets=5000, frames=1, velocity_sd_px=2.0, frame_rate_hz=25)
    assert frame.velocity.std(axis=0) == pytest.approx([50, 50], rel=0.05)
    assert frame.velocity.mean(axis=0) == pytest.approx([0, 0], abs=2.5)


def test_scores_tell_targets_from_false_alarms_only_in_part() -> None:
    targets = frames(targets=2000, false_alarms=0, frames=5)
    clutter = frames(targets=0, false_alarms=2000, frames=5)
    true, false = (np.concatenate([frame.detections.score for frame in found]) for found in (targets, clutter))
    assert (true.mean(), true.std()) == pytest.approx((0.80, 0.10), abs=0.01)
    assert (false.mean(), false.std()) == pytest.approx((0.55, 0.15), abs=0.01)
    assert 0 <= min(true.min(), false.min()) < max(true.max(), false.max()) <= 1


def test_detections_come_strongest_first_and_carry_what_a_detector_says() -> None:
    for frame in frames(targets=30, frames=5):
        found = frame.detections
        assert len(found) > 20
        assert (np.diff(found.score) <= 0).all()
        assert (np.diff(found.snr) <= 0).all()
        assert (np.diff(found.intensity) <= 0).all()
        assert found.box[:, :2] + found.box[:, 2:] / 2 == pytest.approx(measured(frame))


def test_a_seed_gives_one_scene() -> None:
    def values(seed: int) -> list[Floats]:
        return [np.column_stack(astuple(frame.detections)) for frame in frames(seed, frames=5)]

    assert all(np.array_equal(a, b) for a, b in zip(values(3), values(3), strict=True))
    assert not any(np.array_equal(a, b) for a, b in zip(values(3), values(4), strict=True))
