"""Stripes are taken away from single frames, and nothing else is."""

from typing import Any

import cv2
import numpy as np
import pytest

from irst_pipeline.calibration.destripe import destripe, stripe_offsets
from irst_pipeline.types import Floats, Image
from tests.calibration.cameras import frames, mean_of

CLEAN, STRIPED = {"read_noise": 2}, {"read_noise": 2, "column_sd": 4}
SCENES: dict[str, tuple[dict[str, Any], float]] = {
    "sky": ({}, 6.0),
    "skyline": ({"urban": {"height_px": 16, "block_px": 20}}, 4.0),
    "trees": ({"terrain": {"height_px": 20, "trees_px": 3}}, 4.0),
    "clouds": ({"clouds": {"coverage": 0.5, "contrast": 60}}, 2.0),
}


def stripes(images: list[Image], clean: list[Image]) -> Floats:
    """(W,) how far each column is off in the mean."""
    return (mean_of(images) - mean_of(clean)).mean(axis=0)


@pytest.mark.parametrize("case", SCENES)
def test_stripes_fall_by_a_factor(case: str) -> None:
    scene, factor = SCENES[case]
    striped, clean = (frames(sensor, count=12, **scene) for sensor in (STRIPED, CLEAN))
    left = stripes([destripe(image, "columns") for image in striped], clean)
    assert left.std() < stripes(striped, clean).std() / factor


def test_stripes_are_known_as_well_in_a_sky_that_brightens_to_the_horizon() -> None:
    noise, slope = np.random.default_rng(0).normal(0, 2, (64, 96)), 3 * np.arange(64)[:, None]
    even, sloping = (stripe_offsets(np.rint(7000 + levels).astype(np.uint16)) for levels in (noise, noise + slope))
    assert sloping.std() == pytest.approx(even.std(), rel=0.1)


def test_rows_are_columns_of_the_frame_on_its_side() -> None:
    (image,) = frames(STRIPED, count=1)
    turned: Image = np.asarray(image.T, np.uint16)
    assert turned.shape != image.shape
    np.testing.assert_array_equal(destripe(turned, "rows"), destripe(image, "columns").T)


def test_off_is_off() -> None:
    (image,) = frames(STRIPED, count=1)
    assert destripe(image, "off") is image


@pytest.mark.parametrize("depth", ["uint8", "uint16"])
def test_targets_and_bad_pixels_leave_no_shadow(depth: str) -> None:
    rng = np.random.default_rng(0)
    levels = np.rint(rng.normal(100, 2, (64, 96)))
    without: Image = levels.astype(depth)
    levels[20:23, 40:43] += 60
    levels[50, 70], levels[10, 20] = np.iinfo(depth).max, 0
    image: Image = levels.astype(depth)
    cleaned = destripe(image, "columns")
    assert cleaned.dtype == depth
    changed = np.abs(stripe_offsets(image) - stripe_offsets(without))
    assert changed.max() < 0.3
    assert cleaned[20:23, 40:43].mean() == pytest.approx(160, abs=1.5)


@pytest.mark.parametrize("contrast", [20, 60, 200])
def test_an_edge_along_a_third_of_a_column_leaves_hardly_a_shadow(contrast: int) -> None:
    """Of less than two thirds of the noise."""
    sharp = np.zeros((64, 96))
    sharp[-20:, 40:] = contrast
    edge = np.asarray(cv2.GaussianBlur(sharp, (0, 0), 0.8), np.float64)
    for seed in range(3):
        without = np.random.default_rng(seed).normal(7000, 2, edge.shape)
        shadows = [stripe_offsets(np.rint(levels).astype(np.uint16)) for levels in (without, without + edge)]
        assert np.abs(shadows[1] - shadows[0]).max() < 2 * 2 / 3


def test_levels_stay_within_their_range() -> None:
    image = np.zeros((64, 96), np.uint16)
    image[:, ::3] = 65_535
    cleaned = destripe(image, "columns").astype(int)
    assert np.ptp(cleaned, axis=0).max() == 0
    assert cleaned.min() >= 0
