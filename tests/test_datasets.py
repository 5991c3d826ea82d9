"""Masks and crops made for training."""

from pathlib import Path

import cv2
import numpy as np
import pytest

from irst_pipeline.datasets import (
    MASKED,
    UNKNOWN,
    Sample,
    held_out,
    mask_in_box,
    read_boxed_videos,
    read_masked_images,
)
from irst_pipeline.errors import UsageError
from irst_pipeline.training.augment import random_crop


def scene(peak: float, noise: float = 2.0) -> np.ndarray:
    """A blob of 2 px spread at (40, 30) on a noisy level of 100."""
    rows, columns = np.mgrid[0:64, 0:80]
    blob = np.exp(-((columns - 40) ** 2 + (rows - 30) ** 2) / (2 * 2.0**2))
    image = 100 + peak * blob + np.random.default_rng(0).normal(0, noise, blob.shape)
    return np.clip(np.round(image), 0, 255).astype(np.uint8)


def test_a_loose_box_becomes_the_blob_at_half_maximum() -> None:
    mask = mask_in_box(scene(120), [30, 22, 20, 16])
    rows, columns = np.nonzero(mask == MASKED)
    assert abs(rows.mean() - 30) < 0.3
    assert abs(columns.mean() - 40) < 0.3
    # A Gaussian reaches half of its maximum at 1.18 spreads.
    assert len(rows) == pytest.approx(np.pi * (1.18 * 2.0) ** 2, rel=0.25)
    assert (mask[23:37, 31:49] != 0).all(), "the rest of the box is not to be judged"
    assert (mask[:20] == 0).all()


def test_a_box_without_a_clear_blob_is_not_judged() -> None:
    mask = mask_in_box(scene(0), [30, 22, 20, 16])
    assert set(np.unique(mask)) == {0, UNKNOWN}


@pytest.mark.parametrize("box", [[-5, -5, 12, 12], [75, 58, 20, 20], [10, 10, 2, 2], [200, 200, 5, 5]])
def test_boxes_at_and_beyond_the_border(box: list[float]) -> None:
    assert mask_in_box(scene(50), box).shape == (64, 80)


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


def test_the_fields_layout_is_read(tmp_path: Path) -> None:
    for kind in ("images", "masks", "img_idx"):
        (tmp_path / kind).mkdir()
    for name in ("a", "b", "c"):
        cv2.imwrite(str(tmp_path / "images" / f"{name}.png"), scene(100))
        cv2.imwrite(str(tmp_path / "masks" / f"{name}.png"), np.eye(64, 80, dtype=np.uint8) * 255)
    (tmp_path / "img_idx" / "train_mine.txt").write_text("a\nc\n")
    found = read_masked_images(tmp_path, "train")
    assert [s.name for s in found] == ["a", "c"]
    assert (found[0].mask == MASKED).sum() == 64
    with pytest.raises(UsageError, match="no img_idx/test"):
        read_masked_images(tmp_path, "test")
    (tmp_path / "img_idx" / "train_mine.txt").write_text("a\nmissing\n")
    with pytest.raises(UsageError, match=r"missing\.png: not a readable image"):
        read_masked_images(tmp_path, "train")


def test_about_a_tenth_is_held_out_and_always_the_same() -> None:
    names = [f"recording_{i}" for i in range(1000)]
    assert 60 < sum(map(held_out, names)) < 140
    assert list(map(held_out, names)) == list(map(held_out, names))


@pytest.mark.real
def test_most_boxes_of_the_recordings_become_masks(real_data: Path) -> None:
    samples = read_boxed_videos(real_data / "drone-ir" / "val", 100)
    masked = [s for s in samples if (s.mask == MASKED).any()]
    assert len(samples) > 150
    assert len(masked) > 0.8 * len(samples)
