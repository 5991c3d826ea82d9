"""`irst predict`: maps of image folders, read back from disk."""

from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from irst_pipeline.cli import main
from irst_pipeline.engine import load_model
from irst_pipeline.engine.exact import Prediction, predict
from irst_pipeline.errors import UsageError
from irst_pipeline.predict import output_names
from irst_pipeline.sources.images import ImageFile
from tests.running import short_of_memory

CPU = torch.device("cpu")


def picture(height: int, width: int, kind: type = np.uint8) -> NDArray[Any]:
    """A bright point at (20, 15) on a slope, of 8 bits or of 16 with a pedestal."""
    rows, columns = np.mgrid[0:height, 0:width]
    point = 90 * np.exp(-((rows - 15) ** 2 + (columns - 20) ** 2) / (2 * 1.3**2))
    noise = np.random.default_rng(height).normal(0, 1.5, rows.shape)
    levels = 60 + 0.5 * columns + point + noise
    return np.rint(levels if kind is np.uint8 else 30 * levels + 20000).astype(kind)


def save(path: Path, image: NDArray[Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    assert cv2.imwrite(str(path), image)


def load(path: Path) -> NDArray[Any]:
    image = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
    assert image is not None, path
    return np.asarray(image)


def nano(image: NDArray[Any]) -> Prediction:
    return predict(load_model("lsnet-nano").network, image, CPU)


def files(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}


def test_maps_have_the_names_sizes_and_probabilities_of_their_images(tmp_path: Path) -> None:
    """Of sizes and depths that differ."""
    images = {"a.png": picture(48, 64), "b.tif": picture(40, 100, np.uint16), "c.bmp": picture(33, 47)}
    for name, image in images.items():
        save(tmp_path / "in" / name, image)
    assert main(["predict", str(tmp_path / "in"), "--out", str(tmp_path / "out")]) == 0
    assert files(tmp_path / "out") == {"a.png", "b.png", "c.png"}
    for name, image in images.items():
        found = load(tmp_path / "out" / Path(name).with_suffix(".png"))
        assert found.dtype == np.uint8
        assert found.shape == image.shape
        np.testing.assert_array_equal(found, np.rint(nano(image).probability * 255))
        assert found[15, 20] > 127
        assert found[:5].max() < 128


@pytest.mark.parametrize("kind", [np.uint8, np.uint16])
def test_parts_keep_their_grey_levels(tmp_path: Path, kind: type) -> None:
    image = picture(48, 64, kind)
    save(tmp_path / "in" / "a.png", image)
    assert main(["predict", str(tmp_path / "in" / "a.png"), "--out", str(tmp_path / "out"), "--parts"]) == 0
    assert files(tmp_path / "out") == {"a.png", "target/a.tiff", "background/a.tiff"}
    target, background = (load(tmp_path / "out" / part / "a.tiff") for part in ("target", "background"))
    expected = nano(image)
    np.testing.assert_array_equal(target, expected.target)
    np.testing.assert_array_equal(background, expected.background)
    assert target.dtype == background.dtype == np.float32
    assert target.min() < 0 < target.max()
    # The background is the image but for the target and the noise: in its levels, not in the network's units.
    assert abs(np.median(background - image)) < 0.1 * np.ptp(image)


def test_gain_and_pedestal_of_the_camera_scale_the_parts_alone() -> None:
    image = picture(48, 64)
    low, high = nano(image), nano(image.astype(np.uint16) * 100 + 5000)
    np.testing.assert_allclose(high.probability, low.probability, atol=1e-3)
    np.testing.assert_allclose(high.target, 100 * low.target, atol=2)
    np.testing.assert_allclose(high.background, 100 * low.background + 5000, atol=20)


def test_each_image_of_another_depth_is_mapped_to_16_bits_by_itself(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """In a folder of images the first says nothing of the others: a flat one, a faint one and a strong one."""
    image = picture(48, 64)
    for name, levels in (("a", np.zeros(image.shape)), ("b", image / 255), ("c", image * 1e3)):
        save(tmp_path / "in" / f"{name}.tiff", levels.astype(np.float32))
    assert main(["predict", str(tmp_path / "in"), "--out", str(tmp_path / "out")]) == 0
    faint, strong = load(tmp_path / "out" / "b.png"), load(tmp_path / "out" / "c.png")
    for found in (faint, strong):
        assert found[15, 20] > 127
        assert found[:5].max() < 128
    np.testing.assert_allclose(faint.astype(int), strong.astype(int), atol=1)
    assert not load(tmp_path / "out" / "a.png").any()
    assert all(f"{name}.tiff: float32 levels; " in caplog.text for name in "abc")


def test_pages_of_a_file_are_mapped_alike_and_said_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "in").mkdir()
    for name, gain in (("a", 1.0), ("b", 1e3)):
        pages = [(gain * picture(48, 64)).astype(np.float32) for _ in range(3)]
        assert cv2.imwritemulti(str(tmp_path / "in" / f"{name}.tif"), pages)
    assert main(["predict", str(tmp_path / "in"), "--out", str(tmp_path / "out")]) == 0
    assert [message.partition(";")[0] for message in caplog.messages] == [
        "a.tif: float32 levels",
        "b.tif: float32 levels",
    ]


def test_images_that_differ_in_the_suffix_alone_keep_both_maps(tmp_path: Path) -> None:
    for name, size in (("a.png", 40), ("a.tif", 50), ("b.tif", 60)):
        save(tmp_path / "in" / name, picture(size, 64))
    assert main(["predict", str(tmp_path / "in"), "--out", str(tmp_path / "out")]) == 0
    heights = {name: len(load(tmp_path / "out" / name)) for name in files(tmp_path / "out")}
    assert heights == {"a.png": 40, "a.tif.png": 50, "b.png": 60}


def test_pages_of_a_tiff_are_numbered(tmp_path: Path) -> None:
    cv2.imwritemulti(str(tmp_path / "a.tif"), [picture(40, 64) for _ in range(3)])
    assert main(["predict", str(tmp_path / "a.tif"), "--out", str(tmp_path / "out")]) == 0
    assert files(tmp_path / "out") == {"a-000001.png", "a-000002.png", "a-000003.png"}


def test_a_glob_over_folders_keeps_them(tmp_path: Path) -> None:
    for name in ("one/a.png", "two/a.png", "two/b.png"):
        save(tmp_path / "in" / name, picture(40, 64))
    arguments = ["predict", str(tmp_path / "in/**/*.png"), "--out", str(tmp_path / "out"), "--parts"]
    assert main(arguments) == 0
    assert {"one/a.png", "two/a.png", "two/b.png", "target/two/b.tiff"} <= files(tmp_path / "out")


def test_names_that_no_rule_can_tell_apart_are_refused() -> None:
    with pytest.raises(UsageError, match=r"would write a\.tif\.png"):
        output_names([ImageFile(Path("in") / name) for name in ("a.png", "a.tif", "a.tif.png")])


def test_images_that_cannot_be_taken_are_said_and_left_out(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    save(tmp_path / "in" / "a.png", picture(48, 64))
    save(tmp_path / "in" / "tiny.png", picture(48, 64)[:10, :12])
    (tmp_path / "in" / "broken.png").write_bytes(b"no image")
    assert main(["predict", str(tmp_path / "in"), "--out", str(tmp_path / "out")]) == 0
    assert files(tmp_path / "out") == {"a.png"}
    assert "1 images, 2 failed" in capsys.readouterr().out
    assert "tiny.png: 12x10 px; the network takes 16x16 and more" in caplog.text
    assert "broken.png: not a readable image" in caplog.text
    assert main(["predict", str(tmp_path / "in/[bt]*.png"), "--out", str(tmp_path / "none")]) == 1
    assert "not one image could be read (2 failed)" in capsys.readouterr().err


def test_an_image_that_is_too_large_for_the_memory_is_said_and_the_others_go_on(tmp_path: Path) -> None:
    save(tmp_path / "in" / "a.png", np.zeros((8192, 8192), np.uint8))
    save(tmp_path / "in" / "b.png", picture(48, 64))
    said = "out of memory with frames of 8192x8192; use smaller ones, or end other programs"
    ran = short_of_memory("predict", tmp_path / "in", "--out", tmp_path / "out", "--device", "cpu")
    assert (ran.returncode, files(tmp_path / "out")) == (0, {"b.png"})
    assert ran.stdout.startswith("1 images, 1 failed\n")
    assert f"a.png: cpu: {said}" in ran.stderr
    ran = short_of_memory("explain", tmp_path / "in" / "a.png", "--out", tmp_path / "explained")
    assert (ran.returncode, ran.stderr) == (1, f"irst: error: {tmp_path}/in/a.png: {said}\n")


def test_nothing_is_replaced_unasked(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    images, out = tmp_path / "in", tmp_path / "out"
    save(images / "a.png", picture(48, 64))
    out.mkdir()
    (out / "mine.txt").write_text("keep me")
    assert main(["predict", str(images), "--out", str(out)]) == 2
    assert "not empty; add --overwrite" in capsys.readouterr().err
    assert main(["predict", str(images), "--out", str(out), "--overwrite"]) == 0
    assert files(out) == {"a.png", "mine.txt"}
    assert main(["predict", str(images), "--out", str(images), "--overwrite"]) == 2
    assert "would be replaced by the results" in capsys.readouterr().err
    np.testing.assert_array_equal(load(images / "a.png"), picture(48, 64))


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["nowhere"], "nowhere: no such file or folder"),
        (["nowhere/*.png"], "nowhere/*.png: no images here"),
        ([str(Path(__file__).parents[1] / "videos/horizon/sequence8.mp4")], "no images here; images end in"),
        ([".", "--model", "other"], "other: no such model"),
        ([".", "--device", "tpu"], "device tpu: expected"),
    ],
)
def test_what_cannot_be_done_is_told_in_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], said: str
) -> None:
    assert main(["predict", *arguments, "--out", str(tmp_path / "out")]) == 2
    error = capsys.readouterr().err
    assert said in error
    assert error.count("\n") == 1
    assert not (tmp_path / "out").exists()
