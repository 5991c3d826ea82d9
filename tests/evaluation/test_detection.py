"""Scores of maps whose right answer is known."""

import math

import numpy as np
import pytest
from numpy.typing import NDArray

from irst_pipeline.datasets import MASKED, UNKNOWN
from irst_pipeline.evaluation.detection import DetectionScores, DetectorCounts, count, pool

SIZE = (60, 80)
Found = NDArray[np.bool_]
Mask = NDArray[np.uint8]


def squares(*corners: tuple[int, int], side: int = 3) -> Found:
    """Squares with their top left corners at these rows and columns."""
    found = np.zeros(SIZE, bool)
    for row, column in corners:
        found[row : row + side, column : column + side] = True
    return found


def mask_of(found: Found) -> Mask:
    return np.where(found, MASKED, 0).astype(np.uint8)


def one(found: Found, mask: Mask) -> DetectionScores:
    return pool([count(found, mask)])


def test_a_perfect_map_scores_everything() -> None:
    truth = squares((10, 10), (30, 50))
    scores = one(truth, mask_of(truth))
    assert (scores.iou, scores.niou, scores.f1, scores.pd, scores.fa) == (1, 1, 1, 1, 0)
    assert (scores.images, scores.targets) == (1, 2)


def test_an_empty_map_finds_nothing_and_raises_no_alarm() -> None:
    scores = one(squares(), mask_of(squares((10, 10))))
    assert (scores.iou, scores.f1, scores.pd, scores.fa) == (0, 0, 0, 0)


@pytest.mark.parametrize(
    ("rows", "columns", "pd"), [(2, 0, 1), (0, 3, 0), (3, 0, 0), (0, 4, 0), (4, 0, 0), (2, 2, 1), (3, 3, 0)]
)
def test_a_target_is_found_less_than_3_px_away(rows: int, columns: int, pd: float) -> None:
    scores = one(squares((10 + rows, 10 + columns)), mask_of(squares((10, 10))))
    assert scores.pd == pd
    assert scores.fa == pytest.approx((1 - pd) * 9 / (60 * 80))


def test_a_target_is_found_alike_wherever_in_the_picture_it_lies() -> None:
    """Of three pixels, whose centroid no float holds exactly; what is found is 3 px further, too far."""
    for column in range(3, 40):
        truth = squares((10, column), side=2)
        truth[10, column] = False
        for away in (-3, 3):
            counts = count(np.roll(truth, away, axis=1), mask_of(truth))
            assert (counts.hits, counts.false_pixels) == (0, 3), (column, away)


def test_pixel_scores_by_hand() -> None:
    """Two squares of 9 px, 2 columns apart: 3 px in common, 15 in either."""
    scores = one(squares((10, 12)), mask_of(squares((10, 10))))
    assert scores.iou == pytest.approx(3 / 15)
    assert scores.f1 == pytest.approx(2 * 3 / (9 + 9))


def test_a_false_blob_as_large_as_a_right_one_is_false() -> None:
    scores = one(squares((10, 10), (40, 60)), mask_of(squares((10, 10))))
    assert scores.pd == 1
    assert scores.fa == pytest.approx(9 / (60 * 80))


def test_one_blob_serves_one_target() -> None:
    """Between two targets 4 px apart, 2 px from each."""
    targets = squares((10, 10), (10, 14))
    assert one(squares((10, 12)), mask_of(targets)).pd == 0.5


def test_of_two_blobs_at_one_target_the_other_is_false() -> None:
    counts = count(squares((20, 20), (20, 22), side=1), mask_of(squares((20, 20), side=1)))
    assert (counts.hits, counts.false_pixels) == (1, 1)


def test_as_many_targets_as_can_be_are_served() -> None:
    """To match the nearest pair first, 1 px apart, would leave the second target and the other blob alone."""
    targets, found = squares((20, 20), (20, 23), side=1), squares((20, 18), (20, 21), side=1)
    assert count(found, mask_of(targets)).hits == 2


def test_blobs_touch_at_their_corners() -> None:
    diagonal = np.zeros(SIZE, bool)
    diagonal[20, 20] = diagonal[21, 21] = True
    assert count(diagonal, mask_of(diagonal)).targets == 1


def test_unknown_pixels_are_neither_right_nor_wrong() -> None:
    mask = mask_of(squares((12, 12)))
    mask[8:20, 8:20][mask[8:20, 8:20] == 0] = UNKNOWN
    mask[40:50, 40:50] = UNKNOWN
    found = squares((12, 12)) | squares((42, 42), side=5)
    found[10:18, 10:18] = True  # the target's soft edge as well
    scores = one(found, mask)
    assert (scores.iou, scores.f1, scores.pd, scores.fa) == (1, 1, 1, 0)
    # What reaches out of an unknown region is false as far as it does, of the pixels that are judged.
    found[45, 48:53] = True
    assert count(found, mask).false_pixels == 3
    assert count(found, mask).pixels == 60 * 80 - 100 - (12 * 12 - 9)


def test_iou_pools_pixels_and_niou_averages_frames() -> None:
    large, small = squares((10, 10), side=20), squares((10, 10), side=2)
    rows = [count(large, mask_of(large)), count(squares(), mask_of(small))]
    scores = pool(rows)
    assert scores.iou == pytest.approx(400 / 404)
    assert scores.niou == 0.5


def test_a_frame_without_targets_can_be_right() -> None:
    scores = one(squares(), mask_of(squares()))
    assert scores.niou == 1
    assert math.isnan(scores.pd)
    assert math.isnan(scores.iou)
    assert one(squares((3, 3)), mask_of(squares())).niou == 0


def test_a_map_of_another_size_is_refused() -> None:
    with pytest.raises(ValueError, match="does not fit"):
        count(np.zeros((4, 4), bool), np.zeros((4, 5), np.uint8))


def test_the_curve_falls_from_alarms_to_misses() -> None:
    response = np.random.default_rng(0).uniform(0, 0.4, SIZE).astype(np.float32)
    truth = squares((10, 10))
    response[truth] = 0.8
    scores = DetectorCounts(0.5, [0.1, 0.3, 0.7, 0.9])
    for name in ("a", "b"):
        scores.add(name, response, mask_of(truth))
    curve = scores.curve()
    assert list(curve) == [0.1, 0.3, 0.5, 0.7, 0.9]
    assert curve[0.3].fa > curve[0.5].fa == 0
    assert [curve[t].pd for t in (0.5, 0.7, 0.9)] == [1, 1, 0]
    assert scores.scores() == curve[0.5]
    assert set(scores.by_image) == {"a", "b"}
    assert scores.by_image["a"].iou == 1


def test_found_is_what_is_above_the_threshold() -> None:
    scores = DetectorCounts(0.5, ())
    scores.add("a", np.full(SIZE, 0.5, np.float32), mask_of(squares()))
    assert scores.scores().fa == 0
