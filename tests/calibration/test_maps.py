"""A frame is corrected in its own levels, and bad pixels are filled in."""

import numpy as np
import pytest
from numpy.typing import NDArray

from irst_pipeline.calibration.maps import Calibration, Defect


def calibration(shape: tuple[int, int], depth: str = "uint16", gain: float = 1, offset: float = 0) -> Calibration:
    gains, offsets = np.full(shape, gain, np.float32), np.full(shape, offset, np.float32)
    return Calibration(gains, offsets, np.zeros(shape, np.uint8), depth)


@pytest.mark.parametrize("depth", ["uint8", "uint16"])
def test_a_frame_keeps_its_depth_and_its_levels(depth: str) -> None:
    frame = np.random.default_rng(0).integers(0, np.iinfo(depth).max, (40, 60), depth, endpoint=True)
    before = frame.copy()
    same = calibration(frame.shape, depth).apply(frame)
    assert same.dtype == frame.dtype
    np.testing.assert_array_equal(same, before)
    np.testing.assert_array_equal(frame, before)


@pytest.mark.parametrize("depth", ["uint8", "uint16"])
def test_levels_are_rounded_to_the_nearest_and_clipped(depth: str) -> None:
    top = np.iinfo(depth).max
    frame = np.array([[0, 1, 100, top - 1, top]] * 3, depth)
    assert calibration(frame.shape, depth, offset=-0.6).apply(frame)[0].tolist() == [0, 0, 99, top - 2, top - 1]
    assert calibration(frame.shape, depth, offset=0.4).apply(frame)[0].tolist() == [0, 1, 100, top - 1, top]
    assert calibration(frame.shape, depth, gain=1.5).apply(frame)[0].tolist() == [0, 2, 150, top, top]


def test_what_is_said_to_be_added_at_a_level_is_what_is_added() -> None:
    rng, frame = np.random.default_rng(0), np.full((40, 60), 7300, np.uint16)
    gain, offset = rng.normal(1, 0.05, frame.shape), rng.normal(0, 30, frame.shape)
    some = Calibration(gain.astype(np.float32), offset.astype(np.float32), np.zeros(frame.shape, np.uint8), "uint16")
    np.testing.assert_allclose(some.apply(frame) - 7300.0, some.correction(7300), rtol=0, atol=0.51)


BAD: dict[str, list[tuple[int, int]]] = {
    "one": [(20, 30)],
    "corner": [(0, 0)],
    "cluster": [(y, x) for y in range(20, 23) for x in range(30, 34)],
    "column": [(y, 17) for y in range(40)],
    "border": [(39, x) for x in range(50, 60)],
}


@pytest.mark.parametrize("case", BAD)
def test_bad_pixels_become_like_those_around_them(case: str) -> None:
    """On a slope of 4 levels a pixel, whatever the bad pixels read."""
    rows, columns = np.mgrid[0:40, 0:60]
    scene = 7000 + 4 * columns + 2 * rows
    frame, bad = scene.astype(np.uint16), np.zeros(scene.shape, np.uint8)
    for index, place in enumerate(BAD[case]):
        bad[place] = Defect.HOT
        frame[place] = 0 if index % 2 else 65_535
    ones = np.ones(scene.shape, np.float32)
    filled = Calibration(ones, 0 * ones, bad, "uint16").apply(frame).astype(int)
    assert np.abs(filled - scene).max() <= 8
    np.testing.assert_array_equal(filled[bad == 0], scene[bad == 0])


def test_a_target_beside_a_bad_pixel_is_kept() -> None:
    frame = np.full((40, 60), 7000, np.uint16)
    frame[20, 30:32] = 7200
    bad: NDArray[np.uint8] = np.zeros(frame.shape, np.uint8)
    bad[20, 31] = Defect.DEAD
    ones = np.ones(frame.shape, np.float32)
    filled = Calibration(ones, 0 * ones, bad, "uint16").apply(frame)
    assert filled[20, 30] == 7200
    assert filled[20, 31] == 7033, "a sixth of it: of the eight around, four are at 1 px and four at sqrt(2)"
