"""Calibrations from fields of one temperature."""

from collections.abc import Sequence

import numpy as np
import pytest

from irst_pipeline.calibration.flat import CUT_OFF_MAX, calibrate_flat, cut_off
from irst_pipeline.calibration.maps import Calibration, Defect
from irst_pipeline.errors import IrstError
from irst_pipeline.types import Image
from tests.calibration.cameras import DEFECTS, KNOWN_BAD, bad_pixels, field, flat, frames, mean_of


def pattern(images: Sequence[Image], calibration: Calibration | None = None) -> float:
    """Standard deviation over the frame of what every frame has in common, grey levels."""
    return float(mean_of([calibration.apply(image) for image in images] if calibration else images).std())


def test_running_sums_are_the_mean_and_the_standard_deviation() -> None:
    images = flat(7300)
    collected = field(images)
    stack = np.stack(images).astype(float)
    stack -= (stack - stack[0]).mean(axis=(1, 2), keepdims=True)
    np.testing.assert_allclose(collected.mean, np.mean(images, axis=0), atol=1e-3)
    np.testing.assert_allclose(collected.sd, stack.std(axis=0, ddof=1), atol=1e-3)


def test_one_field_takes_the_pattern_away_at_its_temperature() -> None:
    calibration = calibrate_flat([field(flat(7300))])
    assert pattern(flat(7300)) > 70
    assert pattern(flat(7300), calibration) < 0.3


def test_two_fields_hold_at_a_third_temperature() -> None:
    """Where offsets alone do not: 300 levels away, a gain that is 1 % off is 3 levels off."""
    alone, both = calibrate_flat([field(flat(7000))]), calibrate_flat([field(flat(7000)), field(flat(7600))])
    assert pattern(flat(7300), alone) == pytest.approx(3, rel=0.1)
    assert pattern(flat(7300), both) < 0.4
    assert mean_of([both.apply(image) for image in flat(7300)]).mean() == pytest.approx(7300, abs=1)


def test_the_order_of_two_fields_does_not_matter() -> None:
    one, other = (calibrate_flat([field(flat(level)) for level in levels]) for levels in ((7000, 7600), (7600, 7000)))
    np.testing.assert_allclose(one.gain, other.gain, rtol=1e-5)


@pytest.mark.parametrize("levels", [[7300], [7000, 7600]])
def test_bad_pixels_are_found_and_no_others(levels: list[float]) -> None:
    calibration = calibrate_flat([field(flat(level, defects=True)) for level in levels])
    assert bad_pixels(calibration) == KNOWN_BAD
    stack = np.stack(flat(7300, defects=True))
    assert (stack[:, calibration.bad == Defect.DEAD] == 0).all()
    assert (stack[:, calibration.bad == Defect.HOT] == DEFECTS["hot_level"]).all()


@pytest.mark.parametrize("share", [0.2, 0.8, 1.0])
@pytest.mark.parametrize("end", [0, 16383])
def test_a_field_that_is_black_or_saturated_in_part_is_told_from_a_good_one(share: float, end: int) -> None:
    images = flat(7300, defects=True)
    assert cut_off(field(images)) < CUT_OFF_MAX
    limit = np.quantile(mean_of(images), 1 - share if end else share)
    gone = mean_of(images) >= limit if end else mean_of(images) <= limit
    clipped = [np.where(gone, np.uint16(end), image) for image in images]
    assert cut_off(field(clipped)) == pytest.approx(share, abs=0.02)


@pytest.mark.parametrize("end", [16383, 65535])
def test_stuck_pixels_do_not_hide_that_all_others_are_saturated(end: int) -> None:
    image = np.full((48, 64), end, np.uint16)
    image[::8, ::8] = 150
    image[4, 4] = 65535
    assert cut_off(field([image] * 20)) > CUT_OFF_MAX


def test_a_field_of_few_levels_without_noise_is_not_taken_for_a_saturated_one() -> None:
    levels = np.random.default_rng(1).integers(127, 130, (48, 64)).astype(np.uint8)
    assert cut_off(field([levels] * 20)) == 0


def test_a_pixel_that_responds_too_little_is_bad() -> None:
    fields = [[image.copy() for image in flat(level)] for level in (7000, 7600)]
    for image in fields[1]:
        image[30, 40] -= 500
    calibration = calibrate_flat([field(images) for images in fields])
    assert calibration.bad[30, 40] == Defect.GAIN
    assert (calibration.bad > 0).sum() == 1


def test_a_pixel_that_hardly_responds_is_dead_and_does_not_blink() -> None:
    images = [image.copy() for image in flat(7300)]
    for image in images:
        image[20, 30] = 5600 + 0.2 * image[20, 30]  # 240 levels lower, where the others differ by 70
    calibration = calibrate_flat([field(images)])
    assert calibration.bad[20, 30] == Defect.DEAD
    assert (calibration.bad > 0).sum() == 1


def test_a_field_that_warms_up_is_no_noise() -> None:
    steady = flat(7300, defects=True)
    warming = [(image + np.uint16(index)) for index, image in enumerate(steady)]
    for image, raw in zip(warming, steady, strict=True):
        image[raw == 0] = 0
    one, other = (calibrate_flat([field(images)]) for images in (steady, warming))
    np.testing.assert_array_equal(one.bad > 0, other.bad > 0)
    good = one.bad == 0
    assert np.std((one.offset - other.offset)[good]) < 0.05


def test_8_bits_are_calibrated_as_far_as_they_go() -> None:
    images = [(image // 16).astype(np.uint8) for image in flat(2000)]
    calibration = calibrate_flat([field(images)])
    assert calibration.depth == "uint8"
    assert pattern(images, calibration) < 0.6 * pattern(images)
    assert not calibration.bad.any()


def test_two_fields_of_one_temperature_are_refused() -> None:
    other = field(frames(sky={"level": 7005, "glow": 0}))
    with pytest.raises(IrstError, match=r"5.* grey levels from the first.*different temperatures"):
        calibrate_flat([field(flat(7000)), other])
