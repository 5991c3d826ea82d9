"""Calibrations from a scene that moves."""

import weakref
from collections.abc import Sequence
from functools import cache
from typing import Any

import numpy as np
import pytest

from irst_pipeline.calibration.maps import Calibration, Defect
from irst_pipeline.calibration.scene import SceneSample, calibrate_scene, scene_change
from irst_pipeline.types import Floats, Image
from tests.calibration.cameras import DEFECTS, KNOWN_BAD, SEED, bad_pixels, collected, fine, frames, mean_of
from tests.simulation.small_scenes import frames_of, path_of, target

SENSOR = {"psf_sigma_px": 0.8, "read_noise": 2, "offset_sd": 3, "column_sd": 2, **DEFECTS}
SKYLINE: dict[str, Any] = {
    "width_px": 96,
    "height_px": 64,
    "sensor": SENSOR,
    "clouds": {"coverage": 0.5, "contrast": 60},
    "urban": {"height_px": 20, "block_px": 15},
}
PAN = [40.0, 6.0]
SLOW = target(x_px=20.0, y_px=15.0, vx_px_s=PAN[0] + 2, vy_px_s=PAN[1], snr=15)  # 0.08 px a frame in the image


@cache
def panned() -> tuple[list[Image], Floats]:
    """200 frames over a skyline, and where a target is in them that nearly stands still in the image."""
    seen = frames_of(SEED, frames=200, camera={"pan_px_s": PAN}, targets=[SLOW], **SKYLINE)
    return [frame.image for frame in seen], path_of(seen)


def sample(images: Sequence[Image]) -> SceneSample:
    return collected(SceneSample, images)


def test_of_a_decoded_frame_nothing_but_its_grey_levels_is_kept() -> None:
    planes = np.zeros((3, 64, 96), np.uint8)  # as of YUV
    kept, decoded = sample([planes[0]]), weakref.ref(planes)
    del planes
    assert len(kept.frames) == 1
    assert decoded() is None


@cache
def calibration() -> Calibration:
    return calibrate_scene(sample(panned()[0]))


def test_the_pattern_is_taken_away() -> None:
    """By a factor of 2.5 in all and of 4 in what is as fine as targets are."""
    raw, good = frames(SENSOR), calibration().bad == 0
    before, after = (
        mean_of([np.where(good, image, 7300) for image in images])
        for images in (raw, [calibration().apply(image) for image in raw])
    )
    assert after.std() < before.std() / 2.5
    assert fine(after).std() < fine(before).std() / 4


def test_bad_pixels_are_found_and_no_others() -> None:
    assert bad_pixels(calibration()) == KNOWN_BAD


@pytest.mark.parametrize("offset_sd", [0.0, 0.3, 0.6])
def test_a_pattern_of_parts_of_a_level_is_no_defect(offset_sd: float) -> None:
    sensor = {"read_noise": 3, "offset_sd": offset_sd}
    seen = frames_of(SEED, frames=100, camera={"pan_px_s": PAN}, **SKYLINE | {"sensor": sensor})
    assert not calibrate_scene(sample([frame.image for frame in seen])).bad.any()


def test_in_an_even_sky_of_8_bits_no_pixel_is_bad() -> None:
    """Its noise is less than a level, so that many pixels read the same in all frames."""
    random, sky = np.random.default_rng(2), np.linspace(100, 106, 48)[:, None] + np.zeros(64)
    images = [np.rint(sky + random.normal(0, 0.16, sky.shape)).astype(np.uint8) for _ in range(100)]
    assert (np.ptp(images, axis=0) == 0).mean() > 0.1
    assert not calibrate_scene(sample(images)).bad.any()


def noisy(sd: Floats, count: int = 100) -> list[Image]:
    """Frames of an even sky, whose pixels have a noise of their own, (H, W) grey levels."""
    rng = np.random.default_rng(4)
    return [np.rint(rng.normal(7300, sd)).astype(np.uint16) for _ in range(count)]


@pytest.mark.parametrize(("times", "blinks"), [(1.6, False), (3.0, True)])
def test_a_pixel_blinks_that_changes_more_than_twice_as_much_as_those_around_it(times: float, blinks: bool) -> None:
    sd = np.full((48, 64), 4.0)
    sd[20, 30] *= times
    expected = np.zeros(sd.shape, np.uint8)
    expected[20, 30] = Defect.BLINKING * blinks
    np.testing.assert_array_equal(calibrate_scene(sample(noisy(sd))).bad, expected)


def test_an_offset_depends_on_what_is_around_it_and_on_nothing_else() -> None:
    images = noisy(np.full((48, 64), 4.0))
    offset, of_part = (calibrate_scene(sample([image[first:] for image in images])).offset for first in (0, 3))
    np.testing.assert_array_equal(of_part[2:], offset[5:])


def test_a_slow_target_is_not_taken_away() -> None:
    images, path = panned()
    contrasts = []
    for image, (x, y) in zip(images, path[:, :2], strict=True):
        row, column = round(y), round(x)
        around = slice(row - 3, row + 4), slice(column - 3, column + 4)
        both = image, calibration().apply(image)
        contrasts.append([float(frame[row, column]) - float(np.median(frame[around])) for frame in both])
    before, after = np.mean(contrasts, axis=0)
    assert before > 15
    assert after > 0.85 * before


def test_whether_the_scene_moves_is_known() -> None:
    still = [frame.image for frame in frames_of(SEED, frames=64, **SKYLINE)]
    assert scene_change(sample(still)) < 0.03
    assert scene_change(sample(panned()[0])) > 0.12


def test_noise_before_a_soft_scene_is_no_motion() -> None:
    sky: dict[str, Any] = {"width_px": 96, "height_px": 64, "frames": 64, "sensor": {"read_noise": 4}}
    sky |= {"clouds": {"coverage": 0.5, "contrast": 20, "drift_px_s": [0, 0]}}
    still, moved = ([f.image for f in frames_of(SEED, camera={"pan_px_s": pan}, **sky)] for pan in ([0, 0], PAN))
    assert scene_change(sample(still)) < 0.03
    assert scene_change(sample(moved)) > 0.12


def test_a_sample_is_spread_evenly_over_any_length() -> None:
    spread = sample([np.full((4, 4), index, np.uint16) for index in range(1000)])
    kept = [int(image[0, 0]) for image in spread.frames]
    assert spread.count == 1000
    assert kept == list(range(0, 1000, 4))
