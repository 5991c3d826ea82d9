"""From maps to detections, on blobs whose place and strength are known."""

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from irst_pipeline.config import DetectionSettings
from irst_pipeline.detection import detect
from irst_pipeline.engine.base import above_threshold
from irst_pipeline.types import Detections, Floats, Frame, TargetPixels

SETTINGS = DetectionSettings()
SHAPE = (64, 80)
LEVEL = 1000.0


def found(probability: NDArray[np.floating], intensity: NDArray[np.floating]) -> TargetPixels:
    """What an engine would make of two maps."""
    return above_threshold(probability.astype(np.float32), intensity.astype(np.float32), SETTINGS.threshold)


def blob(x: float, y: float, sigma: float = 1.2) -> Floats:
    rows, columns = np.mgrid[0 : SHAPE[0], 0 : SHAPE[1]]
    return np.exp(-((columns - x) ** 2 + (rows - y) ** 2) / (2 * sigma**2))


def in_levels(image: Floats) -> Frame:
    return Frame(np.round(image).astype(np.uint16), 0, 0.0, "scene")


def shown(brightness: NDArray[np.floating]) -> Frame:
    return Frame((100 + 50 * brightness).astype(np.uint8), 0, 0.0, "scene")


def marked(probability: NDArray[np.floating], settings: DetectionSettings = SETTINGS) -> Detections:
    """Detections of a map in a frame that is as bright as it is probable."""
    return detect(shown(probability), found(probability, probability), settings)[0]


def seen(
    *targets: tuple[float, float, float], noise: float = 0.0, settings: DetectionSettings = SETTINGS
) -> Detections:
    """Detections of targets (x, y, peak) in a flat scene, with a map that marks where they reach half of their peak."""
    shapes = [(peak, blob(x, y)) for x, y, peak in targets]
    image = LEVEL + sum((peak * shape for peak, shape in shapes), np.zeros(SHAPE))
    image += np.random.default_rng(0).normal(0, noise, SHAPE) if noise else 0
    probability = np.maximum.reduce([np.zeros(SHAPE), *(shape for _, shape in shapes)])
    return detect(in_levels(image), found(probability, image - LEVEL), settings)[0]


@pytest.mark.parametrize(("x", "y"), [(30, 20), (30.5, 20.5), (41.3, 33.8), (11.75, 50.1)])
def test_the_centroid_is_the_targets_place(x: float, y: float) -> None:
    detections = seen((x, y, 500.0))
    np.testing.assert_allclose([detections.x[0], detections.y[0]], [x, y], atol=0.1)
    left, top, width, height = detections.box[0]
    assert left < x < left + width
    assert top < y < top + height
    assert detections.intensity[0] == pytest.approx(500, rel=0.2)


def test_errors_are_as_large_as_the_covariance_says() -> None:
    rng, errors, variances = np.random.default_rng(1), [], []
    for _ in range(200):
        x, y = rng.uniform(20, 40, 2)
        image = LEVEL + 60 * blob(x, y) + rng.normal(0, 6, SHAPE)
        one, _ = detect(in_levels(image), found(blob(x, y), blob(x, y)), SETTINGS)
        errors += [one.x[0] - x, one.y[0] - y]
        variances += [one.covariance[0, 0], one.covariance[0, 2]]
    ratio = np.mean(np.square(errors)) / np.mean(variances)
    assert 0.1 < ratio < 1.2, "the covariance may be cautious, for real targets change their shape, but not bold"


def test_snr_is_peak_over_local_noise() -> None:
    detections = seen((40, 30, 200.0), noise=10.0)
    assert detections.snr[0] == pytest.approx(20, rel=0.25)


def test_a_mirrored_frame_gives_mirrored_detections() -> None:
    targets = [(20.3, 15.2, 300.0), (60.7, 40.9, 200.0)]
    plain = seen(*targets)
    mirrored = seen(*((SHAPE[1] - 1 - x, y, peak) for x, y, peak in targets))
    order = np.argsort(plain.x), np.argsort(-mirrored.x)
    np.testing.assert_allclose(plain.x[order[0]], SHAPE[1] - 1 - mirrored.x[order[1]], atol=1e-9)
    np.testing.assert_allclose(plain.y[order[0]], mirrored.y[order[1]], atol=1e-9)
    np.testing.assert_allclose(plain.covariance[order[0]], mirrored.covariance[order[1]] * [1, -1, 1], atol=1e-9)


def test_a_cold_target_is_located_as_a_hot_one() -> None:
    hot, cold = (seen((30.4, 20.2, peak)) for peak in (300.0, -300.0))
    np.testing.assert_allclose([hot.x[0], hot.y[0], hot.snr[0]], [cold.x[0], cold.y[0], cold.snr[0]], rtol=0.02)


def test_a_neighbour_does_not_pull_the_centroid() -> None:
    alone, beside = seen((30, 20, 100.0)), seen((30, 20, 100.0), (37, 20, 1000.0))
    nearest = np.argmin(np.abs(beside.x - 30))
    assert beside.x[nearest] == pytest.approx(alone.x[0], abs=0.15)


def test_the_strongest_are_kept_and_come_first() -> None:
    rng = np.random.default_rng(0)
    probability = np.zeros(SHAPE, np.float32)
    probability[::4, ::4] = rng.uniform(0.6, 1, probability[::4, ::4].shape)
    detections, left_out = detect(
        shown(probability), found(probability, probability), DetectionSettings(max_detections=7)
    )
    strongest = np.sort(probability[::4, ::4].ravel())[::-1]
    np.testing.assert_allclose(detections.score, strongest[:7])
    assert left_out == len(strongest) - 7


def test_what_is_left_out_is_counted_also_where_some_of_the_rest_is_no_target() -> None:
    probability = np.zeros(SHAPE, np.float32)
    probability[::4, ::4] = 0.9
    settings = DetectionSettings(max_detections=7)
    detections, left_out = detect(shown(np.zeros(SHAPE)), found(probability, probability), settings)
    assert (len(detections), left_out) == (0, probability[::4, ::4].size - 7)


@pytest.mark.parametrize(("x", "y"), [(30, 20), (79, 63)])
def test_what_is_as_bright_as_all_around_it_is_no_target(x: int, y: int) -> None:
    probability = (blob(x, y) > 0.5).astype(np.float32)
    assert len(detect(shown(np.zeros(SHAPE)), found(probability, probability), SETTINGS)[0]) == 0
    assert len(marked(probability)) == 1


def test_small_blobs_can_be_left_out() -> None:
    assert len(seen((30, 20, 100.0))) == 1
    assert len(seen((30, 20, 100.0), settings=DetectionSettings(min_area=50))) == 0


def test_touching_corners_are_one_blob() -> None:
    probability = np.zeros(SHAPE, np.float32)
    probability[10, 10] = probability[11, 11] = 0.9
    detections = marked(probability)
    assert detections.area.tolist() == [2]
    assert (detections.x[0], detections.y[0]) == (10.5, 10.5)


@pytest.mark.parametrize(("x", "y"), [(0, 0), (79, 63), (0, 30)])
def test_targets_at_the_border(x: int, y: int) -> None:
    detections = seen((x, y, 300.0))
    assert len(detections) == 1
    assert abs(detections.x[0] - x) < 1
    assert abs(detections.y[0] - y) < 1
    assert np.isfinite(detections.covariance).all()


def test_a_target_that_the_border_cuts_off_is_as_far_beside_as_its_covariance_says() -> None:
    for beyond in np.arange(-1.0, 1.1, 0.25):
        for x, y in ((SHAPE[1] - 1 + beyond, 30.0), (-beyond, 30.0), (30.0, SHAPE[0] - 1 + beyond), (30.0, -beyond)):
            one = seen((x, y, 500.0))
            error = np.array([one.x[0] - x, one.y[0] - y])
            xx, xy, yy = one.covariance[0]
            assert error @ np.linalg.solve([[xx, xy], [xy, yy]], error) < 9
            along = yy if y == 30 else xx
            assert along < 0.1, "along the border it is seen whole"


def test_nothing_and_everything() -> None:
    assert len(seen()) == 0
    full = np.ones(SHAPE, np.float32)
    detections, _ = detect(shown(blob(30, 20)), found(full, full), SETTINGS)
    assert detections.area.tolist() == [SHAPE[0] * SHAPE[1]]
    assert detections.box.tolist() == [[-0.5, -0.5, SHAPE[1], SHAPE[0]]]


def test_a_blob_of_any_shape_is_one_and_its_neighbours_are_others() -> None:
    """A spiral, whose turns are two pixels apart, with a point in the middle."""
    rows = ["#######", "......#", "#####.#", "#...#.#", "#.#.#.#", "#...#.#", "#.###.#", "#.....#", "#######"]
    probability = np.zeros(SHAPE, np.float32)
    probability[5 : 5 + len(rows), 9 : 9 + len(rows[0])] = [[0.9 * (c == "#") for c in row] for row in rows]
    detections = marked(probability)
    assert sorted(detections.area.tolist()) == [1, sum(row.count("#") for row in rows) - 1]
    assert detections.box[np.argmax(detections.area)].tolist() == [8.5, 4.5, 7, 9]


def test_every_pixel_of_noise_is_in_one_blob() -> None:
    probability = np.random.default_rng(0).uniform(0, 1, SHAPE).astype(np.float32)
    detections = marked(probability, DetectionSettings(max_detections=10_000))
    assert detections.area.sum() == (probability > SETTINGS.threshold).sum()
    assert len(detections) == cv2.connectedComponents((probability > SETTINGS.threshold).astype(np.uint8))[0] - 1


def test_a_weak_blob_is_drawn_as_a_strong_one_of_its_shape() -> None:
    settings = DetectionSettings(weak_threshold=1e-4)
    strong, weak = blob(20, 20), 0.01 * blob(50, 40)
    frame = in_levels(LEVEL + 100 * blob(20, 20) + 30 * blob(50, 40))
    maps = (np.maximum(strong, weak).astype(np.float32), np.zeros(SHAPE, np.float32))
    both, _ = detect(frame, above_threshold(*maps, settings.lowest), settings)
    alone, _ = detect(frame, above_threshold(*maps, settings.threshold), settings)
    assert len(alone) == 1
    np.testing.assert_allclose(both.x, [alone.x[0], 50], atol=0.05)
    np.testing.assert_allclose(both.y, [alone.y[0], 40], atol=0.05)
    np.testing.assert_array_equal(both.area, alone.area[0])
    np.testing.assert_allclose(both.score, [1, 0.01], rtol=1e-5)
