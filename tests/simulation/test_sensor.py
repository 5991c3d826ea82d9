"""Fixed pattern and defective pixels."""

from typing import Any

import numpy as np
import pytest

from irst_pipeline.types import Floats
from tests.simulation.small_scenes import frames_of, images


def pattern(frames: int = 30, **sensor: Any) -> Floats:
    """(H, W): the mean of the frames less the sky, in which the noise is small."""
    tree: dict[str, Any] = {"width_px": 128, "height_px": 96, "sensor": {"read_noise": 0.5, **sensor}}
    return images(frames_of(frames=frames, **tree)).mean(axis=0) - 7300


def test_offsets_have_the_set_standard_deviation() -> None:
    assert pattern(offset_sd=6.0).std() == pytest.approx(6.0, rel=0.03)


def test_columns_have_the_set_standard_deviation() -> None:
    stripes = pattern(column_sd=5.0)
    assert stripes.mean(axis=0).std() == pytest.approx(5.0, rel=0.15)
    assert stripes.std(axis=0).max() < 0.5, "the same all the way down"


def test_the_gain_is_in_proportion_to_the_level() -> None:
    assert pattern(gain_sd=0.1).std() == pytest.approx(7.3, rel=0.03)


def test_one_kind_of_pattern_does_not_change_another() -> None:
    both = pattern(offset_sd=6.0, column_sd=5.0, dead_pixels=3)
    difference = both - pattern(offset_sd=6.0) - pattern(column_sd=5.0)
    assert np.sort(np.abs(difference), axis=None)[:-3].max() < 2
    assert (both == -7300).sum() == 3


def test_defects_stay_where_they_are_while_the_camera_pans() -> None:
    sensor = {"dead_pixels": 7, "hot_pixels": 5, "hot_level": 9000, "offset_sd": 30}
    clouds = {"coverage": 0.5, "contrast": 100}
    frames = images(frames_of(clouds=clouds, camera={"pan_px_s": [60, 20], "jitter_px": 1}, sensor=sensor))
    for level, count in ((0, 7), (9000, 5)):
        stuck = frames == level
        assert stuck.sum(axis=(1, 2)).tolist() == [count] * len(frames)
        assert (stuck == stuck[0]).all()
    still = images(frames_of(sensor=sensor))
    assert (np.nonzero(still[0] == 0)[0] == np.nonzero(frames[0] == 0)[0]).all()
    rest = (frames[0] != 0) & (frames[0] != 9000)
    shared = np.corrcoef(frames.mean(axis=0)[rest], still.mean(axis=0)[rest])[0, 1]
    assert shared > 0.7, "the fixed pattern is the same as the still camera's"


def test_blinking_pixels_are_on_half_of_the_time() -> None:
    frames = images(frames_of(frames=2000, width_px=16, height_px=16, sensor={"blinking_pixels": 10}))
    levels = frames.reshape(len(frames), -1) - 7300
    blinking = levels.max(axis=0) > 30
    assert blinking.sum() == 10
    on = levels[:, blinking] > 25
    assert on.mean() == pytest.approx(0.5, abs=0.06)
    assert (on[1:] != on[:-1]).mean() == pytest.approx(0.1, abs=0.015)
    assert levels[:, blinking][on].mean() == pytest.approx(50, abs=0.5)
    assert np.abs(levels[:, ~blinking]).max() < 20


def test_a_seed_makes_one_sensor() -> None:
    sensor = {"offset_sd": 5, "gain_sd": 0.1, "dead_pixels": 3, "blinking_pixels": 9}
    one, again, other = (images(frames_of(seed, sensor=sensor)) for seed in (2, 2, 3))
    assert np.array_equal(one, again)
    assert not np.array_equal(one == 0, other == 0)
