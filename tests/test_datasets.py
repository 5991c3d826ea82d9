"""Masks and crops made for training."""

import shutil
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest

from irst_pipeline.datasets import (
    MASKED,
    UNKNOWN,
    held_out,
    mask_in_box,
    read_backgrounds,
    read_boxed_videos,
    read_boxes,
    read_image,
    read_masked_images,
    read_simulated,
)
from irst_pipeline.errors import UsageError
from irst_pipeline.sources import open_source
from tests.running import CLOUDS


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


@pytest.mark.parametrize(
    "box", [[-20, -20, 5, 5], [-20, 20, 10, 20], [30, -20, 20, 5], [90, 22, 5, 16], [1e308, 22, 1e308, 16]]
)
def test_a_box_beside_the_frame_marks_nothing_in_it(box: list[float]) -> None:
    assert not mask_in_box(scene(120), box).any()


@pytest.mark.parametrize(
    ("row", "said"),
    [
        ("0,nan,2,10,10", "x is 'nan'; expected a number"),
        ("0,5,2,inf,10", "w is 'inf'; expected a number"),
        ("0,5,2,10", "h is missing; expected a number"),
        ("0,,2,10,10", "x is missing; expected a number"),
        ("0,5,2,10,10,0", "more cells than columns"),
        ("0.5,5,2,10,10", "frame is no index"),
        ("-1,5,2,10,10", "frame is no index"),
        ("0,5,2,10," + 200_000 * "1", "cannot read it"),
        ('0,5,2,10,"1' + 200_000 * "0", "cannot read it"),
    ],
    ids=lambda words: words[:20],
)
def test_a_box_that_is_no_box_is_told_with_its_line(tmp_path: Path, row: str, said: str) -> None:
    labels = tmp_path / "a.gt.csv"
    labels.write_text(f"frame,x,y,w,h\n\n0,5,2,10,10\n{row}\n")
    with pytest.raises(UsageError, match=rf"a\.gt\.csv line 4: {said}"):
        read_boxes(labels)


@pytest.mark.parametrize(
    ("text", "said"), [(b"frame,x,y,w\n", " line 1: no column h"), (b"\xff", ": not text in UTF-8")]
)
def test_a_table_of_boxes_that_is_none_is_told(tmp_path: Path, text: bytes, said: str) -> None:
    labels = tmp_path / "a.gt.csv"
    labels.write_bytes(text)
    with pytest.raises(UsageError, match=rf"a\.gt\.csv{said}"):
        read_boxes(labels)


def test_a_table_of_boxes_may_begin_with_a_byte_order_mark(tmp_path: Path) -> None:
    (tmp_path / "a.gt.csv").write_text("\ufeffframe,x,y,w,h\n3,5,2,10,9\n3,40,2,7,8\n", "utf-8")
    assert read_boxes(tmp_path / "a.gt.csv") == {3: [[5, 2, 10, 9], [40, 2, 7, 8]]}


def test_the_fields_layout_is_read(field_set: Path) -> None:
    found = read_masked_images(field_set, "train")
    assert [s.name for s in found] == ["a", "b"]
    for sample, height in zip(found, (48, 56), strict=True):
        assert sample.image.shape == sample.mask.shape == (height, 64)
        assert set(np.unique(sample.mask)) == {0, MASKED}
        assert sample.image[sample.mask == MASKED].mean() > sample.image[sample.mask == 0].mean() + 40
    assert [s.name for s in read_masked_images(field_set, "test_SET")] == ["c"]


def test_masks_that_are_all_black_are_said(field_set: Path, caplog: pytest.LogCaptureFixture) -> None:
    read_masked_images(field_set, "train")
    assert not caplog.records
    for path in (field_set / "masks").iterdir():
        edit(path, np.zeros_like)
    read_masked_images(field_set, "train")
    assert "train_SET.txt has a target; are they saved with targets as 255?" in caplog.text


def edit(path: Path, change: Callable[[np.ndarray], np.ndarray], to: Path | None = None) -> None:
    """Change an image in place, or into another file instead of it."""
    image = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
    assert image is not None
    path.unlink()
    cv2.imwrite(str(to or path), change(image))


def test_lists_may_hold_suffixes_and_images_have_others(field_set: Path) -> None:
    before = read_masked_images(field_set, "train")
    (field_set / "img_idx" / "train_SET.txt").write_text("\ufeffa.png\r\n\r\n b.bmp \r\na\r\n", "utf-8")
    edit(field_set / "images" / "b.png", lambda i: i, field_set / "images" / "b.BMP")
    edit(field_set / "masks" / "b.png", lambda m: m, field_set / "masks" / "b.tif")
    for one, two in zip(before, read_masked_images(field_set, "train"), strict=True):
        assert one.name == two.name
        np.testing.assert_array_equal(one.image, two.image)
        np.testing.assert_array_equal(one.mask, two.mask)


def test_masks_may_be_called_as_those_of_nuaa_sirst_were(field_set: Path) -> None:
    before = read_masked_images(field_set, "train")
    (field_set / "masks" / "a.png").rename(field_set / "masks" / "a_pixels0.png")
    for kind in ("images", "masks"):  # an image may be so called itself
        (field_set / kind / "b.png").rename(field_set / kind / "b_pixels0.png")
    (field_set / "img_idx" / "train_SET.txt").write_text("a\nb_pixels0")
    for one, two in zip(before, read_masked_images(field_set, "train"), strict=True):
        np.testing.assert_array_equal(one.mask, two.mask)


@pytest.mark.parametrize(
    "change", [lambda m: m // 255, lambda m: np.dstack([m, m, m]), lambda m: m.astype(np.uint16) * 257]
)
def test_masks_of_two_levels_are_taken(field_set: Path, change: Callable[[np.ndarray], np.ndarray]) -> None:
    before = read_masked_images(field_set, "train")[0].mask
    edit(field_set / "masks" / "a.png", change)
    after = read_masked_images(field_set, "train")[0].mask
    assert after.dtype == np.uint8
    np.testing.assert_array_equal(after, before)


def test_any_colour_in_a_mask_is_target_and_an_alpha_channel_is_not_guessed_at(field_set: Path) -> None:
    before, path = read_masked_images(field_set, "train")[0].mask, field_set / "masks" / "a.png"
    dark = np.zeros((*before.shape, 3), np.uint8)
    dark[before > 0] = 3, 0, 0  # of a luminance that rounds to 0
    cv2.imwrite(str(path), dark)
    np.testing.assert_array_equal(read_masked_images(field_set, "train")[0].mask, before)
    cv2.imwrite(str(path), np.dstack([dark, np.full(before.shape, 255)]))
    np.testing.assert_array_equal(read_masked_images(field_set, "train")[0].mask, before)
    cv2.imwrite(str(path), np.dstack([0 * dark, before]))
    with pytest.raises(UsageError, match=r"a\.png: its alpha channel is not the same everywhere; save the mask as 0"):
        read_masked_images(field_set, "train")


Bgr = tuple[int, int, int]
BLACK, BLUE, WHITE = (0, 0, 0), (255, 0, 0), (255, 255, 255)


@pytest.mark.parametrize(
    ("background", "target", "said"),
    [
        (BLUE, WHITE, r"not a binary mask, it holds 2 levels \(0/0/255, 255/255/255\); save it as a PNG of 0 and 255"),
        (BLACK, (BLUE, WHITE), r"not a binary mask, it holds 3 levels \(0/0/0, 0/0/255, 255/255/255\)"),
        (WHITE, BLACK, "more than half of it is target; if it is inverted, save it with the background as 0"),
    ],
)
def test_colours_that_do_not_say_what_is_target_are_refused(
    field_set: Path, background: Bgr, target: Bgr | tuple[Bgr, Bgr], said: str
) -> None:
    """A palette's colours come as these do, whatever their indices are."""
    path = field_set / "masks" / "a.png"
    colours = np.full((48, 64, 3), background, np.uint8)
    colours[20, 30:32] = target
    cv2.imwrite(str(path), colours)
    with pytest.raises(UsageError, match=rf"a\.png: {said}"):
        read_masked_images(field_set, "train")


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_mask_of_what_is_no_number_is_refused(field_set: Path, value: float) -> None:
    masks = field_set / "masks"
    edit(masks / "a.png", lambda m: np.where(m > 0, value, 0).astype(np.float32), masks / "a.tif")
    with pytest.raises(UsageError, match=r"a\.tif: not a binary mask, it holds NaN or infinite values"):
        read_masked_images(field_set, "train")


def test_a_list_may_name_paths_and_is_text_in_utf_8(field_set: Path) -> None:
    before, names = read_masked_images(field_set, "train"), field_set / "img_idx" / "train_SET.txt"
    names.write_text("images/a\nimages/b.png\n")
    assert [sample.name for sample in read_masked_images(field_set, "train")] == [sample.name for sample in before]
    names.write_text("images/a\n\nother/a.png\nb\n")
    with pytest.raises(UsageError, match=r"train_SET\.txt: line 3: a is there already, in another folder; give images"):
        read_masked_images(field_set, "train")
    names.write_text("a\nb\n", "utf-16")
    with pytest.raises(UsageError, match=r"train_SET\.txt: not text in UTF-8; save it so"):
        read_masked_images(field_set, "train")
    names.unlink()
    names.mkdir()
    with pytest.raises(UsageError, match=r"train_SET\.txt: cannot read it \(Is a directory\)"):
        read_masked_images(field_set, "train")


def test_16_bit_images_keep_every_level(field_set: Path) -> None:
    before = read_masked_images(field_set, "train")[0]
    edit(field_set / "images" / "a.png", lambda i: i.astype(np.uint16) * 64 + 7)
    after = read_masked_images(field_set, "train")[0]
    np.testing.assert_array_equal(after.image, before.image.astype(np.uint16) * 64 + 7)


def test_images_without_targets_have_empty_masks(field_set: Path) -> None:
    edit(field_set / "images" / "a.png", lambda i: i, field_set / "images" / "a.bmp")
    found = read_backgrounds(field_set)
    assert [s.name for s in found] == ["a", "b", "c"]
    assert not any(s.mask.any() for s in found)


def write_levels(path: Path) -> None:
    mask = np.zeros((48, 64), np.uint8)
    mask[20, 30:33] = 100, 255, 17
    cv2.imwrite(str(path), mask)


def write_pages(path: Path) -> None:
    image = read_image(path)
    path.unlink()
    cv2.imwritemulti(str(path.with_suffix(".tif")), [image] * 3)


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (lambda s: (s / "masks/b.png").unlink(), r"SET/masks/b: no image of this name, but .*train_SET\.txt names"),
        (
            lambda s: (s / "images/b.png").unlink(),
            r"SET/images/b: no image of this name, but .*train_SET\.txt names it",
        ),
        (lambda s: shutil.rmtree(s / "masks"), "SET/masks: no such folder"),
        (
            lambda s: (s / "images/b.bmp").write_bytes(b"another"),
            r"SET/images/b\.png: b\.bmp is there as well; take out the one that is not meant",
        ),
        (lambda s: (s / "masks/b.png").write_bytes(b"no"), r"SET/masks/b\.png: not a readable image"),
        (lambda s: edit(s / "masks/b.png", lambda m: m[:40, :63]), r"masks/b\.png: 63x40 px, but its image has 64x56"),
        (
            lambda s: write_levels(s / "masks/a.png"),
            r"a\.png: not a binary mask, it holds 4 levels \(0, 17, 100, 255\)",
        ),
        (lambda s: (s / "img_idx/train_SET.txt").write_text(" \n"), r"img_idx/train_SET\.txt: an empty list"),
        (lambda s: (s / "img_idx/train_SET.txt").unlink(), r"no list train\.txt or train_\*\.txt; there are: test_SET"),
        (lambda s: shutil.rmtree(s / "img_idx"), "there are: no lists; give the name of one, or add it"),
        (lambda s: (s / "img_idx/train_B.txt").write_text("a"), r"more than one .* \(train_B, train_SET\)"),
        (lambda s: edit(s / "images/a.png", lambda i: i.astype(np.float32), s / "images/a.tif"), "holds float32"),
        (lambda s: write_pages(s / "images/a.png"), r"images/a\.tif: holds 3 images; save each in a file of its own"),
        (lambda s: shutil.rmtree(s), "SET: no such folder"),
    ],
)
def test_a_set_that_does_not_fit_is_told_in_one_line(
    field_set: Path, spoil: Callable[[Path], object], said: str
) -> None:
    spoil(field_set)
    with pytest.raises(UsageError, match=said) as caught:
        read_masked_images(field_set, "train")
    assert "\n" not in str(caught.value)


def test_about_a_tenth_is_held_out_and_always_the_same() -> None:
    names = [f"recording_{i}" for i in range(1000)]
    assert 60 < sum(map(held_out, names)) < 140
    assert list(map(held_out, names)) == list(map(held_out, names))


def test_labels_far_apart_all_count_and_of_those_close_together_one(tmp_path: Path) -> None:
    shutil.copy(CLOUDS, tmp_path / "a.mp4")
    labelled = [0, 1, 7, 14, 37]
    (tmp_path / "a.gt.csv").write_text("frame,x,y,w,h\n" + "".join(f"{i},10,10,12,12\n" for i in labelled))
    frames = [frame.image for frame in open_source(str(CLOUDS))]
    samples = read_boxed_videos(tmp_path, 10)
    for index, sample in zip([0, 14, 37], samples, strict=True):
        np.testing.assert_array_equal(sample.image, frames[index])


def test_boxes_that_hold_no_target_are_said(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    shutil.copy(CLOUDS, tmp_path / "a.mp4")
    (tmp_path / "a.gt.csv").write_text("frame,x,y,w,h\n0,0.1,0.2,0.05,0.05\n")  # shares of the frame
    read_boxed_videos(tmp_path, 10)
    assert "no box has a target in it; are they in px" in caplog.text


@pytest.mark.real
def test_most_boxes_of_the_recordings_become_masks(real_data: Path) -> None:
    samples = read_boxed_videos(real_data / "drone-ir" / "val", 100)
    masked = [s for s in samples if (s.mask == MASKED).any()]
    assert len(samples) > 150
    assert len(masked) > 0.8 * len(samples)


@pytest.mark.real
@pytest.mark.parametrize(("name", "images"), [("NUDT-SIRST", 664), ("NUAA-SIRST", 86)])
def test_the_published_sets_are_taken_whole(real_data: Path, name: str, images: int) -> None:
    samples = read_masked_images(real_data / name, "test")
    assert len(samples) == images
    assert all((s.mask == MASKED).any() for s in samples)


def test_simulated_scenes_are_labelled_where_their_targets_are(tmp_path: Path) -> None:
    (tmp_path / "calm.yaml").write_text(
        "{width_px: 64, height_px: 64, frames: 2, frame_rate_hz: 1, clouds: {coverage: 0}, sky: {glow: 0},"
        " targets: [{x_px: 20.2, y_px: 30.4, vx_px_s: 8, vy_px_s: 0, snr: 40}]}"
    )
    samples = read_simulated(tmp_path, seeds=2)
    assert [s.name for s in samples] == ["calm 0", "calm 0", "calm 1", "calm 1"]
    assert not np.array_equal(samples[0].image, samples[2].image)
    for frame, sample in enumerate(samples):
        rows, columns = np.nonzero(sample.mask == MASKED)
        assert 1 <= len(rows) <= 9
        assert abs(rows.mean() - 30.4) < 1
        assert abs(columns.mean() - (20.2 + 8 * (frame % 2))) < 1
        assert sample.image[sample.mask == MASKED].min() > np.median(sample.image) + 5 * 3
