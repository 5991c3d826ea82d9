"""What `irst explain` says of a frame."""

import json
from pathlib import Path

import cv2
import numpy as np
import pytest

from irst_pipeline.cli import main
from irst_pipeline.explain import (
    QUANTISATION,
    StageView,
    draw,
    effective_rank,
    noise_level,
    singular_values,
    sparsity,
    unfold_image,
)
from irst_pipeline.lsnet.model import LSNet
from irst_pipeline.lsnet.weights import load_weights
from irst_pipeline.sources import open_source
from irst_pipeline.types import Image, Map
from tests.running import CLOUDS


@pytest.fixture(scope="module")
def network() -> LSNet:
    return load_weights("lsnet-nano").network


@pytest.fixture(scope="module")
def clouds() -> Image:
    return next(iter(open_source(str(CLOUDS)))).image


def test_effective_rank_of_equal_values_is_their_number() -> None:
    assert effective_rank(np.array([3.0, 3.0, 3.0, 0.0])) == pytest.approx(3)
    assert effective_rank(np.array([7.0, 0.0])) == pytest.approx(1)
    assert effective_rank(np.zeros(4)) == 0
    assert 1 < effective_rank(np.array([10.0, 1.0])) < 2


def test_rank_does_not_feel_offset_and_gain() -> None:
    image = np.random.default_rng(0).normal(0, 30, (40, 56)).astype(np.float32)
    rank = effective_rank(singular_values(image))
    assert rank == pytest.approx(effective_rank(singular_values(5 * image + 20000)), rel=1e-3)


def test_a_ramp_has_rank_one_and_noise_nearly_a_full_one() -> None:
    ramp = np.tile(np.arange(64, dtype=np.float32), (48, 1))
    assert effective_rank(singular_values(ramp)) == pytest.approx(1)
    noise = np.random.default_rng(0).normal(0, 1, (48, 64)).astype(np.float32)
    assert effective_rank(singular_values(noise)) > 0.8 * 48
    assert effective_rank(singular_values(np.full((20, 20), 9, np.uint8))) == 0


def test_sparsity() -> None:
    point = np.zeros((40, 50), np.float32)
    assert sparsity(point) == 1
    point[3, 4] = -8
    assert sparsity(point) == pytest.approx(1)
    assert sparsity(np.ones((40, 50), np.float32)) == pytest.approx(0)
    noise = np.random.default_rng(0).normal(0, 1, (200, 200)).astype(np.float32)
    assert sparsity(noise) == pytest.approx(1 - np.sqrt(2 / np.pi), abs=0.01)


@pytest.mark.parametrize("sigma", [2.0, 40.0])
def test_noise_is_told_from_a_smooth_scene(sigma: float) -> None:
    rows, columns = np.mgrid[0:200, 0:300]
    scene = 8000 + 5 * rows - 7 * columns + 500 * np.sin(columns / 40)
    image = np.rint(scene + np.random.default_rng(0).normal(0, sigma, scene.shape)).astype(np.uint16)
    assert noise_level(image) == pytest.approx(sigma, rel=0.05)


def test_rounding_is_noise() -> None:
    assert noise_level(np.full((32, 32), 77, np.uint8)) == QUANTISATION


def test_parts_are_in_grey_levels_and_add_up(network: LSNet, clouds: Image) -> None:
    views = unfold_image(network, clouds)
    assert len(views) == network.config.stages
    for view in views:
        total = view.background + view.target + view.noise + view.residual
        np.testing.assert_allclose(total, clouds, rtol=1e-5)
    assert views[-1].background.mean() == pytest.approx(clouds.mean(), rel=0.02)


def test_gain_and_offset_of_the_camera_change_nothing_but_the_scale(network: LSNet, clouds: Image) -> None:
    shifted = (clouds.astype(np.int64) * 2 + 1000).astype(np.uint16)
    for one, other in zip(unfold_image(network, clouds), unfold_image(network, shifted), strict=True):
        assert other.effective_rank == pytest.approx(one.effective_rank, rel=1e-3)
        assert other.sparsity == pytest.approx(one.sparsity, rel=1e-3)
        assert other.residual_rms == pytest.approx(2 * one.residual_rms, rel=1e-3)


def test_explain_writes_a_figure_arrays_and_numbers(network: LSNet, clouds: Image, tmp_path: Path) -> None:
    out = tmp_path / "explained"
    assert main(["explain", str(CLOUDS), "--out", str(out)]) == 0
    figure = cv2.imread(str(out / "explain.png"))
    assert figure is not None
    assert min(figure.shape[:2]) > 600
    numbers = json.loads((out / "stages.json").read_text())
    with np.load(out / "stages.npz") as arrays:
        np.testing.assert_array_equal(arrays["image"], clouds)
        parts = {name: arrays[name] for name in ("background", "target", "noise", "residual")}
        values = arrays["singular_values"]
    assert {part.shape for part in parts.values()} == {(network.config.stages, *clouds.shape)}
    assert values.shape == (network.config.stages, min(clouds.shape))
    for index, stage in enumerate(numbers["stages"]):
        assert stage["stage"] == index + 1
        assert stage["effective_rank"] == pytest.approx(effective_rank(values[index]))
        assert stage["sparsity"] == pytest.approx(sparsity(parts["target"][index]))
        assert stage["residual_rms"] == pytest.approx(np.sqrt(np.square(parts["residual"][index]).mean()), rel=1e-3)
    assert main(["explain", str(CLOUDS), "--out", str(out)]) == 2
    assert main(["explain", str(CLOUDS), "--out", str(out), "--overwrite"]) == 0


def test_a_single_pixel_of_a_large_map_is_seen_in_the_figure() -> None:
    """Wherever it is: two figures with it at two places differ at both, in the map of T and in that of the residual."""
    flat = np.zeros((1024, 1280), np.float32)
    last = StageView(flat, flat + 50, flat + 50, flat, np.ones(4))  # it sets the reach of the colours

    def figure(row: int, column: int) -> Map:
        target, residual = flat.copy(), flat.copy()
        target[row, column], residual[row, column] = 50, -50
        views = [StageView(flat, target, flat, residual, np.ones(4)), last]
        picture = cv2.imdecode(np.frombuffer(draw(flat.astype(np.uint8), views, ""), np.uint8), cv2.IMREAD_COLOR)
        assert picture is not None
        return picture.astype(np.float32)

    here, there = figure(300, 401), figure(701, 902)
    changed = (np.abs(here - there).max(axis=-1) > 60).astype(np.uint8)
    _, _, (_, *boxes), _ = cv2.connectedComponentsWithStats(changed)  # the first is what did not change
    drawn = []
    for left, top, width, height, _ in boxes:
        assert min(width, height) >= 2
        spot = np.s_[top : top + height, left : left + width]
        blue, _, red = min((here[spot], there[spot]), key=np.mean).mean(axis=(0, 1))
        drawn.append((left > here.shape[1] / 2, red > blue))
    assert sorted(drawn) == [(False, True), (False, True), (True, False), (True, False)]


def test_a_flat_frame_is_explained(tmp_path: Path) -> None:
    cv2.imwrite(str(tmp_path / "flat.png"), np.full((32, 48), 7, np.uint8))
    assert main(["explain", str(tmp_path / "flat.png"), "--out", str(tmp_path / "out")]) == 0


@pytest.mark.parametrize("source", ["", "*.png"])
def test_the_figure_replaces_no_image_of_a_folder(
    source: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    image = tmp_path / "explain.png"
    cv2.imwrite(str(image), np.full((32, 48), 7, np.uint8))
    before = image.read_bytes()
    assert main(["explain", str(tmp_path / source), "--out", str(tmp_path), "--overwrite"]) == 2
    assert "would be replaced" in capsys.readouterr().err
    assert image.read_bytes() == before


@pytest.mark.parametrize(
    ("name", "model", "code", "reason"),
    [
        ("none.png", "lsnet-nano", 2, "no such file or folder"),
        ("small.png", "lsnet-nano", 1, "small.png: 40x15 px; the network takes 16x16 and more"),
        ("broken.png", "lsnet-nano", 1, "not one frame could be read"),
        ("small.png", "lsnet-tiny", 2, "lsnet-tiny: no such model"),
    ],
)
def test_what_cannot_be_explained_is_said(
    name: str, model: str, code: int, reason: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    cv2.imwrite(str(tmp_path / "small.png"), np.zeros((15, 40), np.uint8))
    (tmp_path / "broken.png").write_bytes(b"no image")
    out = tmp_path / "out"
    assert main(["explain", str(tmp_path / name), "--out", str(out), "--model", model]) == code
    assert reason in capsys.readouterr().err
    assert not out.exists()
