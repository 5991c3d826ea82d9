"""Random crops: what they hold and what they leave alone."""

import cv2
import numpy as np

from irst_pipeline.datasets import (
    MASKED,
    UNKNOWN,
    Sample,
)
from irst_pipeline.lsnet.normalise import IMPULSE_MAX
from irst_pipeline.training.augment import Crop, Shape, cut_outs, overlaid, patched, random_crop
from tests.test_datasets import scene


def sample(mask: np.ndarray) -> Sample:
    return Sample("s", scene(120), mask)


def test_most_crops_hold_a_target() -> None:
    mask = np.zeros((64, 80), np.uint8)
    mask[29:32, 39:42] = MASKED
    crops = [random_crop(sample(mask), 32, False, [], False, np.random.default_rng(i)) for i in range(100)]
    assert 70 <= sum(c.mask.any() for c in crops) < 100
    for crop in crops:
        assert crop.frame.shape == crop.mask.shape == crop.weight.shape == (32, 32)
        assert set(np.unique(crop.mask)) <= {0, 1}
        if crop.mask.sum() > 6:  # where a target is marked, it is bright
            assert crop.frame[crop.mask > 0].mean() > crop.frame[crop.mask == 0].mean() + 1


def test_a_crop_is_a_function_of_its_generator() -> None:
    mask = np.zeros((64, 80), np.uint8)
    one, two = (random_crop(sample(mask), 32, True, [], False, np.random.default_rng(5)) for _ in range(2))
    np.testing.assert_array_equal(one.frame, two.frame)


def test_implants_are_labelled_and_stand_out() -> None:
    flat = Sample("flat", scene(0), np.zeros((64, 80), np.uint8))
    crops = [random_crop(flat, 32, True, [], False, np.random.default_rng(i)) for i in range(30)]
    assert all(1 <= cv2.connectedComponents(c.mask.astype(np.uint8))[0] - 1 <= 3 for c in crops)
    for crop in crops:
        assert crop.frame[crop.mask > 0].mean() > crop.frame[crop.mask == 0].mean()


def test_what_is_not_to_be_judged_stays_so() -> None:
    crop = random_crop(sample(np.full((64, 80), UNKNOWN, np.uint8)), 32, True, [], False, np.random.default_rng(0))
    assert not crop.weight.any()
    assert not crop.mask.any()


def test_a_frame_smaller_than_the_crop_is_not_enlarged_and_nothing_beyond_it_is_judged() -> None:
    mask = np.zeros((64, 80), np.uint8)
    mask[29:32, 39:42] = MASKED
    for seed in range(10):
        crop = random_crop(sample(mask), 128, False, [], True, np.random.default_rng(seed))
        assert crop.mask.sum() == 9
        assert crop.weight.sum() == 64 * 80


def test_a_crop_is_normalised_as_a_frame_is() -> None:
    image = np.random.default_rng(0).normal(1000, 5, (64, 80)).astype(np.uint16)
    image[20, 30] = 60000
    crop = random_crop(
        Sample("hot", image, np.zeros((64, 80), np.uint8)), 64, False, [], True, np.random.default_rng(2)
    )
    assert crop.frame.max() < 5 * IMPULSE_MAX, "a defective pixel is limited"


def test_a_cut_out_is_the_target_without_its_surroundings() -> None:
    mask = np.zeros((64, 80), np.uint8)
    mask[20:26, 30:34] = MASKED
    mask[60:, 78:] = MASKED
    mask[40:45, 10:15] = MASKED
    image = np.where(mask, 900, 500).astype(np.uint16)
    image[60:, 78:] = 400  # a cold one
    image[40:45, 10:15] = 400  # another, with a pixel that noise has raised above its surroundings
    image[44, 14] = 501
    (shape,) = cut_outs(Sample("s", image, mask))
    assert shape.mask.sum() == 24
    assert shape.level.max() == 1
    assert shape.level[shape.mask].min() > 0.5
    assert shape.level[0].max() == 0


def implanted(shapes: list[Shape], settled: bool) -> list[int]:
    """Lengths, px, of what is implanted into a frame without targets."""
    flat = Sample("flat", scene(0), np.zeros((64, 80), np.uint8))
    lengths: list[int] = []
    for seed in range(40):
        crop = random_crop(flat, 48, True, shapes, settled, np.random.default_rng(seed))
        _, _, stats, _ = cv2.connectedComponentsWithStats(crop.mask.astype(np.uint8))
        lengths += stats[1:, cv2.CC_STAT_WIDTH : cv2.CC_STAT_HEIGHT + 1].max(1).tolist()
        if crop.mask.any():
            assert crop.frame[crop.mask > 0].mean() > crop.frame[crop.mask == 0].mean()
    return lengths


def test_implants_are_cut_outs_of_many_sizes_or_points_where_there_are_none() -> None:
    mask = np.zeros((64, 80), np.uint8)
    mask[20:21, 30:45] = MASKED
    shapes = cut_outs(Sample("s", np.where(mask, 900, 500).astype(np.uint16), mask))
    assert max(implanted([], settled=False)) < 9
    changed = implanted(shapes, settled=False)
    assert min(changed) >= 9
    assert len(set(changed)) > 3, "they come in many sizes"


def test_a_settled_crop_keeps_the_size_of_targets_and_the_noise() -> None:
    mask = np.zeros((64, 80), np.uint8)
    mask[20:21, 30:41] = MASKED
    frame = Sample("s", np.where(mask, 900, 500).astype(np.uint16), mask)
    own = implanted(cut_outs(frame), settled=True)
    assert set(own) >= {11}
    assert sum(length != 11 for length in own) < 0.1 * len(own), "but where two touch"
    for seed in range(20):
        crop = random_crop(frame, 48, False, [], True, np.random.default_rng(seed))
        steps = np.abs(np.diff(crop.frame / np.ptp(crop.frame)))
        assert not ((steps > 0.1) & (steps < 0.5)).any(), "shading is smooth: no noise, and no edge is resampled"


def test_a_patch_is_laid_over_frame_and_mask_alike_and_its_edge_is_not_judged() -> None:
    dark, bright = np.zeros((48, 48), np.float32), np.ones((48, 48), np.float32)
    areas = []
    for seed in range(50):
        frame, mask, weight = patched(
            Crop(dark, dark, bright), Crop(bright, bright, bright), np.random.default_rng(seed)
        )
        judged = weight > 0
        np.testing.assert_allclose(frame[judged], mask[judged], atol=0.05)
        assert 0.2 < judged.mean() < 1
        rows, columns = np.nonzero(mask)
        assert mask.sum() == (np.ptp(rows) + 1) * (np.ptp(columns) + 1), "a rectangle"
        areas.append(mask.mean())
    assert 1 / 16 <= min(areas) < 0.2 < max(areas) <= 9 / 16
    assert not dark.any(), "crops are left as they were"


def test_what_shines_through_adds_clutter_and_leaves_the_targets_as_they_were() -> None:
    dark, bright = np.zeros((48, 48), np.float32), np.ones((48, 48), np.float32)
    own, others = dark.copy(), dark.copy()
    own[10:13, 10:13], others[30:33, 30:33] = 1, 1
    frame, mask, weight = overlaid(Crop(own, own, bright), Crop(others, others, bright), np.random.default_rng(1))
    np.testing.assert_array_equal(mask, own)
    np.testing.assert_array_equal(frame[10:13, 10:13], 1)
    assert 0.2 <= frame[31, 31] <= 0.7, "fainter than it was"
    assert not weight[27:36, 27:36].any(), "so faint, nobody knows whether it is a target"
    assert weight.sum() == 48 * 48 - 9 * 9
