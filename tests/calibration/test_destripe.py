"""Stripes are taken away from single frames, and nothing else is."""

from typing import Any

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


def test_levels_stay_within_their_range() -> None:
    image = np.zeros((64, 96), np.uint16)
    image[:, ::3] = 65_535
    cleaned = destripe(image, "columns").astype(int)
    assert np.ptp(cleaned, axis=0).max() == 0
    assert cleaned.min() >= 0
