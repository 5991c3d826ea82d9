"""Random crops: what they hold and what they leave alone."""

import cv2
import numpy as np

from irst_pipeline.datasets import (
    MASKED,
    UNKNOWN,
    Sample,
)
from irst_pipeline.training.augment import random_crop
from tests.test_datasets import scene


def sample(mask: np.ndarray) -> Sample:
    return Sample("s", scene(120), mask)


def test_most_crops_hold_a_target() -> None:
    mask = np.zeros((64, 80), np.uint8)
    mask[29:32, 39:42] = MASKED
    crops = [random_crop(sample(mask), 32, False, np.random.default_rng(i)) for i in range(100)]
    assert 70 <= sum(c.mask.any() for c in crops) < 100
    for crop in crops:
        assert crop.frame.shape == crop.mask.shape == crop.weight.shape == (32, 32)
        assert set(np.unique(crop.mask)) <= {0, 1}
        if crop.mask.sum() > 6:  # where a target is marked, it is bright
            assert crop.frame[crop.mask > 0].mean() > crop.frame[crop.mask == 0].mean() + 1


def test_a_crop_is_a_function_of_its_generator() -> None:
    mask = np.zeros((64, 80), np.uint8)
    one, two = (random_crop(sample(mask), 32, True, np.random.default_rng(5)) for _ in range(2))
    np.testing.assert_array_equal(one.frame, two.frame)


def test_implants_are_labelled_and_stand_out() -> None:
    flat = Sample("flat", scene(0), np.zeros((64, 80), np.uint8))
    crops = [random_crop(flat, 48, True, np.random.default_rng(i)) for i in range(30)]
    assert all(1 <= cv2.connectedComponents(c.mask.astype(np.uint8))[0] - 1 <= 3 for c in crops)
    for crop in crops:
        assert crop.frame[crop.mask > 0].mean() > crop.frame[crop.mask == 0].mean()


def test_what_is_not_to_be_judged_stays_so() -> None:
    crop = random_crop(sample(np.full((64, 80), UNKNOWN, np.uint8)), 32, True, np.random.default_rng(0))
    assert not crop.weight.any()
    assert not crop.mask.any()
