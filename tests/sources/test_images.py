"""Folders and globs of images, written with OpenCV and read back through open_source."""

import os
import re
import struct
import time
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from irst_pipeline.errors import IrstError, UsageError
from irst_pipeline.sources import open_source
from irst_pipeline.types import Frame


def picture(seed: int = 0, levels: int = 256, size: tuple[int, int] = (48, 64)) -> NDArray[Any]:
    kind = np.uint8 if levels <= 256 else np.uint16
    return np.random.default_rng(seed).integers(0, levels, size).astype(kind)


def save(path: Path, image: NDArray[Any]) -> None:
    assert cv2.imwrite(str(path), image)


def read(uri: Path, image_rate: float = 30.0) -> tuple[list[Frame], int]:
    """All frames, and how many failed."""
    source = open_source(str(uri), image_rate)
    frames = list(source)
    source.close()
    return frames, source.frames_failed


@pytest.mark.parametrize("suffix", ["png", "tif", "TIFF"])
def test_16_bit_images_keep_every_level(tmp_path: Path, suffix: str) -> None:
    image = np.arange(64 * 64, dtype=np.uint16).reshape(64, 64) * 16
    save(tmp_path / f"a.{suffix}", image)
    (frame,), failed = read(tmp_path)
    assert failed == 0
    assert frame.image.dtype == np.uint16
    np.testing.assert_array_equal(frame.image, image)
    assert len(np.unique(frame.image)) == 4096


@pytest.mark.parametrize("suffix", ["png", "tiff", "bmp"])
def test_8_bit_images_come_back_bit_for_bit(tmp_path: Path, suffix: str) -> None:
    save(tmp_path / f"a.{suffix}", picture())
    (frame,), _ = read(tmp_path)
    assert frame.image.dtype == np.uint8
    np.testing.assert_array_equal(frame.image, picture())


def test_jpeg_is_read_and_a_file_is_a_sequence_of_one(tmp_path: Path) -> None:
    save(tmp_path / "a.jpg", np.full((48, 64), 77, np.uint8))
    (frame,), _ = read(tmp_path / "a.jpg")
    assert frame.image.shape == (48, 64)
    assert abs(float(frame.image.mean()) - 77) < 1


def test_an_image_is_what_it_holds_and_not_what_it_is_called(tmp_path: Path) -> None:
    save(tmp_path / "a.png", picture(0, 65536))
    (tmp_path / "a.png").rename(tmp_path / "a.jpg")
    frames, failed = read(tmp_path / "a.jpg")
    assert (len(frames), failed) == (1, 0)
    np.testing.assert_array_equal(frames[0].image, picture(0, 65536))


def test_frames_come_in_natural_order_at_the_given_rate(tmp_path: Path) -> None:
    for number in (10, 2, 1, 100):
        save(tmp_path / f"frame{number}.png", np.full((20, 20), number, np.uint8))
    (tmp_path / "notes.txt").write_text("not an image")
    source = open_source(str(tmp_path), image_rate=50.0)
    assert (source.name, source.frame_rate, source.frame_count) == (tmp_path.name, 50.0, 4)
    frames = list(source)
    source.close()
    assert [int(frame.image[0, 0]) for frame in frames] == [1, 2, 10, 100]
    assert [frame.index for frame in frames] == [0, 1, 2, 3]
    np.testing.assert_allclose([frame.time for frame in frames], [0, 0.02, 0.04, 0.06])


def test_a_glob_chooses_images(tmp_path: Path) -> None:
    for name in ("left1.png", "left2.png", "right1.png"):
        save(tmp_path / name, picture())
    frames, _ = read(tmp_path / "left*.png")
    assert len(frames) == 2
    assert frames[0].source == tmp_path.name


def test_a_tiff_whose_name_opencv_cannot_take_is_refused(tmp_path: Path) -> None:
    path = Path(os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9.tif"))
    save(tmp_path / "a.tif", picture())
    (tmp_path / "a.tif").rename(path)
    with pytest.raises(UsageError, match="that is not UTF-8; rename it"):
        open_source(str(tmp_path))


def test_a_folder_whose_name_looks_like_a_glob_is_a_folder(tmp_path: Path) -> None:
    folder = tmp_path / "run[1]"
    folder.mkdir()
    save(folder / "a.png", picture())
    assert len(read(folder)[0]) == 1


@pytest.mark.parametrize("levels", [256, 65536])
def test_colour_becomes_luminance_and_is_said_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, levels: int
) -> None:
    image = picture(0, levels, (48, 64 * 3)).reshape(48, 64, 3)
    alpha = np.full((48, 64, 1), levels - 1, image.dtype)
    save(tmp_path / "a.png", image)
    save(tmp_path / "b.png", np.concatenate([image, alpha], 2))
    frames, failed = read(tmp_path)
    assert (len(frames), failed) == (2, 0)
    for frame in frames:
        assert frame.image.dtype == image.dtype
        np.testing.assert_allclose(frame.image, image @ np.array([0.114, 0.587, 0.299]), atol=levels / 256)
    assert sum("luminance" in r.message for r in caplog.records) == 1


def test_float_images_share_one_affine_map(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """290 .. 310 K: the map covers 270 .. 330 K, and the same kelvin give the same level in every frame, as long as
    most of them fit: before a shutter opens they do not."""
    kelvin = np.linspace(290, 310, 48 * 64, dtype=np.float32).reshape(48, 64)
    save(tmp_path / "a.tif", kelvin)
    save(tmp_path / "b.tif", kelvin + np.float32(5))
    save(tmp_path / "c.tif", kelvin + np.float32(500))
    frames, failed = read(tmp_path)
    assert failed == 0
    for frame, least in zip(frames, (270, 265, 270), strict=True):
        assert frame.image.dtype == np.uint16
        np.testing.assert_allclose(frame.image, (kelvin.astype(float) - least) / 60 * 65535, atol=0.6)
    first, again = [r.message for r in caplog.records]
    assert "270 .. 330 becomes 0 .. 65535" in first
    assert "770 .. 830 becomes 0 .. 65535" in again


def stack(path: Path, count: int, seed: int = 0) -> list[NDArray[Any]]:
    """A TIFF of so many 16-bit pages."""
    pages = [picture(seed + i, 65536) for i in range(count)]
    assert cv2.imwritemulti(str(path), pages)
    return pages


def test_every_page_of_a_tiff_is_a_frame(tmp_path: Path) -> None:
    pages = stack(tmp_path / "b.tif", 70)
    frames, failed = read(tmp_path / "b.tif", image_rate=50)
    assert failed == 0
    assert [frame.time for frame in frames] == [i / 50 for i in range(70)]
    for frame, page in zip(frames, pages, strict=True):
        np.testing.assert_array_equal(frame.image, page)
    # Beside others, in the files' order.
    more = stack(tmp_path / "a.tif", 3, seed=100)
    save(tmp_path / "c.tif", picture(200, 65536))
    frames, _ = read(tmp_path)
    for frame, page in zip(frames, [*more, *pages, picture(200, 65536)], strict=True):
        np.testing.assert_array_equal(frame.image, page)


def test_a_long_stack_takes_about_as_long_page_by_page_as_all_at_once(tmp_path: Path) -> None:
    path = tmp_path / "long.tif"
    assert cv2.imwritemulti(str(path), [picture(0, 65536)] * 2000)
    begun = time.process_time()
    cv2.imreadmulti(str(path), flags=cv2.IMREAD_UNCHANGED)
    at_once = time.process_time() - begun
    frames = sum(1 for _ in open_source(str(path)))
    assert frames == 2000
    assert time.process_time() - begun - at_once < 10 * at_once


def test_a_stack_of_which_only_the_first_image_is_a_page_is_refused(tmp_path: Path) -> None:
    """As ImageJ writes one of over 4 GB: the other images lie behind the first, and nothing points at them."""
    path = tmp_path / "stack.tif"
    save(path, picture(0, 65536))
    with path.open("r+b") as file:
        file.truncate((1 << 32) + 1)  # takes no space on the disk
    with pytest.raises(UsageError, match=r"stack\.tif: a stack .*; save it as an image sequence"):
        read(path)


def test_a_page_that_claims_to_be_huge_costs_that_page(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    pages = stack(tmp_path / "a.tif", 4)
    data = (tmp_path / "a.tif").read_bytes()
    width = struct.pack("<HHII", 256, 3, 1, 64)  # ImageWidth, as one short
    assert data.count(width) == 4
    at = [match.start() for match in re.finditer(re.escape(width), data)][2]
    (tmp_path / "a.tif").write_bytes(data[:at] + struct.pack("<HHII", 256, 4, 1, 2_000_000) + data[at + 12 :])
    frames, failed = read(tmp_path / "a.tif")
    assert failed == 1
    assert "cannot read page 3" in caplog.text
    assert [frame.index for frame in frames] == [0, 1, 3]
    for frame in frames:
        np.testing.assert_array_equal(frame.image, pages[frame.index])


def test_a_page_that_is_damaged_costs_that_page(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Pixels of LZW's that nothing could have packed; the page's directory is whole."""
    pages = stack(tmp_path / "a.tif", 5)
    data = bytearray((tmp_path / "a.tif").read_bytes())
    at = len(data) // 2
    data[at : at + 64] = bytes(range(255, 191, -1))
    (tmp_path / "a.tif").write_bytes(data)
    frames, failed = read(tmp_path / "a.tif")
    assert failed == 1
    assert "cannot read page 3" in caplog.text
    assert [frame.index for frame in frames] == [0, 1, 3, 4]
    for frame in frames:
        np.testing.assert_array_equal(frame.image, pages[frame.index])


@pytest.mark.parametrize(("share", "whole", "lost"), [(0.1, 0, 2), (0.502, 3, 1), (0.7, 4, 2), (0.97, 5, 1)])
@pytest.mark.parametrize("big", [False, True])
def test_a_stack_that_is_cut_short_is_told(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, big: bool, share: float, whole: int, lost: int
) -> None:
    """As one that is still being written: in a page's pixels, or where the next one should begin."""
    pages = [picture(i, 65536) for i in range(6)]
    first, *others = [Image.fromarray(page) for page in pages]
    first.save(path := tmp_path / "a.tif", save_all=True, append_images=others, big_tiff=big)
    path.write_bytes(path.read_bytes()[: int(share * path.stat().st_size)])
    save(tmp_path / "b.tif", pages[5])
    frames, failed = read(tmp_path)
    assert (len(frames), failed) == (whole + 1, lost)
    for frame, page in zip(frames, [*pages[:whole], pages[5]], strict=True):
        np.testing.assert_array_equal(frame.image, page)
    assert f"a.tif: cannot read page {whole + lost} or find one behind it; if it is whole, save it" in caplog.text


@pytest.mark.parametrize("pages", [1, 2])
def test_a_tiff_of_a_compression_that_is_not_read_is_told_how_to_be_saved(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, pages: int
) -> None:
    path = tmp_path / "a.tif"
    assert cv2.imwritemulti(str(path), [picture(i, 65536) for i in range(pages)], [cv2.IMWRITE_TIFF_COMPRESSION, 1])
    plain, zstd = (struct.pack("<HHII", 259, 3, 1, compression) for compression in (1, 50000))
    data = path.read_bytes()
    assert data.count(plain) == pages
    path.write_bytes(data.replace(plain, zstd))
    with pytest.raises(IrstError, match="not one frame could be read"):
        read(path)
    assert caplog.text.count("; if it is whole, save it uncompressed, or with LZW or deflate\n") == pages


@pytest.mark.parametrize("mark", [-9999.0, 65535.0])
def test_a_pixel_without_data_leaves_the_levels_to_the_others(tmp_path: Path, mark: float) -> None:
    """Of a sky of 20 mK noise, in K, with a target of 50 times that: both keep their shape."""
    kelvin = np.random.default_rng(0).normal(300, 0.02, (48, 64)).astype(np.float32)
    kelvin[20:22, 30:32] += 1.0
    kelvin[5, 5] = mark
    save(tmp_path / "a.tif", kelvin)
    (frame,), failed = read(tmp_path)
    assert failed == 0
    above, levels = kelvin[kelvin != mark].astype(float) - 300, frame.image[kelvin != mark]
    slope, offset = np.polyfit(above, levels, 1)
    assert np.abs((levels - offset) / slope - above).max() < 0.001
    assert frame.image[5, 5] == (0 if mark < 0 else 65535)


def test_signed_16_bit_images_keep_every_level(tmp_path: Path) -> None:
    image = np.linspace(-32768, 32767, 4096).astype(np.int16).reshape(64, 64)
    save(tmp_path / "a.tif", image)
    (frame,), _ = read(tmp_path)
    np.testing.assert_array_equal(frame.image.astype(np.int32), image.astype(np.int32) + 32768)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, -3e307])
def test_a_pixel_without_a_value_gets_the_usual_one(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, value: float
) -> None:
    good = np.linspace(290, 310, 48 * 64).reshape(48, 64)
    dead = good.copy()
    dead[3, 5] = dead[40:42, 60] = value
    for name, image in (("a", dead), ("b", good), ("c", dead)):
        save(tmp_path / f"{name}.tif", image)
    frames, failed = read(tmp_path)
    assert failed == 0
    marked = ~np.isfinite(dead) | (dead < 0)
    for frame in frames[::2]:
        np.testing.assert_allclose(frame.image[~marked].astype(float), frames[1].image[~marked], atol=1)
        assert np.abs(frame.image[marked].astype(float) - 32768).max() < 20
    said = [r.message for r in caplog.records if "NaN" in r.message]
    assert len(said) == 1
    assert "pixels of a.tif are NaN, infinite or beyond 1e+30; such get the median of the others" in said[0]


@pytest.mark.parametrize("value", [np.nan, np.inf, -3e307])
def test_what_has_too_few_values_costs_that_frame(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, value: float
) -> None:
    good = np.linspace(0, 1, 48 * 64).reshape(48, 64)
    bad = good.copy()
    bad[3] = value
    for name, image in (("a", bad), ("b", good), ("c", bad), ("d", good)):
        save(tmp_path / f"{name}.tif", image)
    frames, failed = read(tmp_path)
    assert failed == 2
    assert [frame.index for frame in frames] == [1, 3]
    assert [frame.time for frame in frames] == [1 / 30, 3 / 30]
    said = "c.tif: 2% of its pixels are NaN, infinite or beyond 1e+30; fill in all but 1%"
    assert sum(said in r.message for r in caplog.records) == 1


@pytest.mark.parametrize("suffix", ["png", "tif", "bmp", "jpg"])
def test_an_image_cut_short_is_counted_and_named(tmp_path: Path, caplog: pytest.LogCaptureFixture, suffix: str) -> None:
    for name in ("a", "b", "c"):
        save(tmp_path / f"{name}.{suffix}", picture())
    cut = tmp_path / f"b.{suffix}"
    cut.write_bytes(cut.read_bytes()[: cut.stat().st_size * 6 // 10])
    frames, failed = read(tmp_path)
    assert ([frame.index for frame in frames], failed) == ([0, 2], 1)
    assert f"b.{suffix}" in caplog.records[0].message
    assert "1 frame(s) could not be read" in caplog.records[-1].message
    caplog.clear()
    with pytest.raises(IrstError, match="not one frame could be read"):
        read(cut)
    assert caplog.messages[0].count(cut.name) == 1, "of one that is alone, the name is the source's"


def test_a_folder_of_unreadable_images_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(b"")
    (tmp_path / "b.png").write_bytes(b"not a picture")
    with pytest.raises(IrstError, match=r"not one frame could be read \(2 failed\)"):
        read(tmp_path)


def test_many_failures_are_counted_but_not_all_named(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    save(tmp_path / "0.png", picture())
    for number in range(1, 31):
        (tmp_path / f"{number}.png").write_bytes(b"not a picture")
    frames, failed = read(tmp_path)
    assert (len(frames), failed) == (1, 30)
    assert len(caplog.records) == 12


@pytest.mark.parametrize("other", [picture(size=(40, 64)), picture(levels=65536)])
def test_frames_of_another_size_or_depth_are_skipped_counted_and_said_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, other: NDArray[Any]
) -> None:
    for name, image in (("a", picture()), ("b", other), ("c", other), ("d", picture())):
        save(tmp_path / f"{name}.png", image)
    frames, failed = read(tmp_path)
    assert ([frame.index for frame in frames], failed) == ([0, 3], 2)
    said = [record.message.partition(": ")[2] for record in caplog.records]
    assert said[0].startswith("b.png is ")
    assert said[0].endswith("frames unlike the first are skipped")
    assert said[1:] == ["2 frame(s) unlike the first were skipped"]


def test_damage_among_many_frames_of_another_size_is_named(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    for number in range(20):
        save(tmp_path / f"{number}.png", picture(size=(48, 64) if number % 20 else (40, 64)))
    (tmp_path / "20.png").write_bytes(b"not a picture")
    frames, failed = read(tmp_path)
    assert (len(frames), failed) == (1, 20)
    said = "\n".join(record.message for record in caplog.records)
    assert "20.png: not a readable image" in said
    assert "19 frame(s) unlike the first were skipped; most are: take the first away if it does not belong" in said
    assert "1 frame(s) could not be read" in said


def test_an_empty_name_is_no_source() -> None:
    with pytest.raises(UsageError, match="an empty name: give a video file, a folder of images or a glob"):
        open_source("")


@pytest.mark.parametrize("uri", ["", "*.mp4", "*.png"])
def test_nothing_to_read_is_a_usage_error_that_names_the_suffixes(tmp_path: Path, uri: str) -> None:
    (tmp_path / "video.mp4").write_bytes(b"")
    with pytest.raises(UsageError, match=r"no images here; images end in \.png, \.tif") as error:
        open_source(str(tmp_path / uri))
    assert str(tmp_path) in str(error.value)
    assert ("of videos give each by its name" in str(error.value)) == (uri != "*.png")
