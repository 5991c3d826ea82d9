"""`irst evaluate detection`: the command, its files and its figures."""

import json
import re
import shutil
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch

from irst_pipeline.cli import main
from irst_pipeline.datasets import read_masked_images
from irst_pipeline.engine import load_model
from irst_pipeline.evaluation.detectors import BASELINES, score, score_network
from irst_pipeline.lsnet.weights import SHIPPED
from tests.running import read_csv, short_of_memory

NAMES = ["lsnet-nano", "white top-hat", "max-median", "MPCM", "PSTNN"]
FILES = {"summary.json", "images.csv", "curve.csv", "curve.png"}


def summary(out: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((out / "summary.json").read_text())
    return found


def evaluate(folder: Path, out: Path, *more: str) -> int:
    return main(["evaluate", "detection", str(folder), "--out", str(out), "--device", "cpu", *more])


def test_network_and_baselines_are_scored_on_the_same_frames(
    field_set: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    assert evaluate(field_set, out, "--split", "train") == 0
    assert {path.name for path in out.iterdir()} == FILES
    found = summary(out)
    assert [found[key] for key in ("dataset", "split", "model", "images")] == ["SET", "train", "lsnet-nano", 2]
    assert [d["name"] for d in found["detectors"]] == NAMES
    nano = found["detectors"][0]
    assert (nano["threshold"], nano["targets"], nano["pd"]) == (0.5, 2, 1)
    assert nano["iou"] > 0.3
    images = read_csv(out / "images.csv")
    assert [(r["detector"], r["image"]) for r in images] == [(name, image) for name in NAMES for image in "ab"]
    own = images[:2]
    overlap, union = (sum(int(r[key]) for r in own) for key in ("overlap", "union"))
    assert overlap / union == nano["iou"]
    assert sum(int(r["pixels"]) for r in own) == 64 * (48 + 56)
    curve = [r for r in read_csv(out / "curve.csv") if r["detector"] == "lsnet-nano"]
    assert len(curve) > 30
    assert [float(r["iou"]) for r in curve if r["threshold"] == "0.5"] == [nano["iou"]]
    picture = cv2.imread(str(out / "curve.png"))
    assert picture is not None
    assert np.ptp(picture) == 255
    printed = capsys.readouterr().out
    assert "SET train: 2 images, 2 targets" in printed
    assert f"{100 * nano['iou']:.2f}" in printed
    assert all(name in printed for name in NAMES)


def test_results_are_not_replaced_unasked(field_set: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "out"
    out.mkdir()
    (out / "curve.csv").write_text("mine")
    assert evaluate(field_set, out) == 2
    assert "not empty; add --overwrite" in capsys.readouterr().err
    assert (out / "curve.csv").read_text() == "mine"
    assert evaluate(field_set, out, "--overwrite") == 0
    assert {path.name for path in out.iterdir()} == FILES


def test_without_out_the_folder_is_named_after_what_ran(field_set: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(field_set.parent)
    assert main(["evaluate", "detection", "SET"]) == 0
    assert summary(field_set.parent / "runs" / "evaluate-SET-test-lsnet-nano")["images"] == 1


def test_a_network_is_not_taken_for_the_baseline_of_its_name(
    field_set: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copy(SHIPPED / "lsnet-nano.safetensors", named := tmp_path / "MPCM.safetensors")
    assert evaluate(field_set, tmp_path / "out", "--split", "train", "--model", str(named)) == 2
    assert f"--model {named}: MPCM is also the name of a baseline" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_a_set_without_targets_has_no_pd(field_set: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    cv2.imwrite(str(field_set / "masks" / "c.png"), np.zeros((64, 64), np.uint8))
    assert evaluate(field_set, tmp_path / "out") == 0
    assert summary(tmp_path / "out")["detectors"][0]["pd"] is None
    assert re.search(r"^lsnet-nano .* - +[\d.]+$", capsys.readouterr().out, re.MULTILINE)
    assert read_csv(tmp_path / "out" / "curve.csv")[0]["pd"] == ""


@pytest.mark.parametrize(
    ("name", "said"),
    [("masks/c.png", "SET/masks/c: no image"), ("img_idx/test_SET.txt", "there are: train_SET")],
)
def test_what_a_set_lacks_is_told_before_anything_is_written(
    field_set: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str, said: str
) -> None:
    (field_set / name).unlink()
    assert evaluate(field_set, tmp_path / "out") == 2
    assert said in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_a_frame_too_small_for_the_network_is_named(
    field_set: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for kind in ("images", "masks"):
        cv2.imwrite(str(field_set / kind / "c.png"), np.zeros((10, 12), np.uint8))
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "curve.csv").write_text("scored before")
    assert evaluate(field_set, tmp_path / "out", "--overwrite") == 2
    assert "images/c.png: 12x10 px; the network takes 16x16 and more; strike it out in" in capsys.readouterr().err
    assert (tmp_path / "out" / "curve.csv").read_text() == "scored before"


@pytest.mark.parametrize("earlier", [["curve.csv"], []])
def test_a_scoring_that_fails_leaves_earlier_results_or_nothing(
    earlier: list[str], field_set: Path, tmp_path: Path
) -> None:
    for kind in ("images", "masks"):
        cv2.imwrite(str(field_set / kind / "c.png"), np.zeros((6000, 6000), np.uint8))
    out = tmp_path / "out"
    for name in earlier:
        out.mkdir()
        (out / name).write_text("scored before")
    flags = ["--device", "cpu", "--overwrite", "--out", out]
    failed = short_of_memory("evaluate", "detection", field_set, *flags)
    assert "c: cpu: out of memory with frames of 6000x6000" in failed.stderr
    assert out.exists() == bool(earlier)
    assert [(out / name).read_text() for name in earlier] == ["scored before"] * len(earlier)


def test_results_replace_no_image_of_the_set(field_set: Path, capsys: pytest.CaptureFixture[str]) -> None:
    image = field_set / "images" / "curve.png"
    image.write_bytes((field_set / "images" / "a.png").read_bytes())
    before = image.read_bytes()
    assert evaluate(field_set, field_set / "images", "--overwrite") == 2
    assert f"{image}: would be replaced by the results" in capsys.readouterr().err
    assert image.read_bytes() == before


def test_scores_of_a_network_in_hand_are_those_of_the_command(field_set: Path, tmp_path: Path) -> None:
    network = load_model("lsnet-nano").network
    scores = score_network(network, read_masked_images(field_set, "train"), torch.device("cpu"))
    assert evaluate(field_set, tmp_path / "out", "--split", "train") == 0
    found = summary(tmp_path / "out")["detectors"][0]
    assert (scores.iou, scores.niou, scores.f1, scores.pd, scores.fa) == tuple(
        found[key] for key in ("iou", "niou", "f1", "pd", "fa")
    )


@pytest.mark.real
def test_network_and_baselines_find_real_targets(real_data: Path) -> None:
    """A fifth of a published test split."""
    samples = read_masked_images(real_data / "NUAA-SIRST", "test")[::5]
    scores = score_network(load_model("lsnet-nano").network, samples, torch.device("cpu"))
    assert scores.pd > 0.9
    for baseline in BASELINES:
        classical = score(baseline, samples, curve=False).scores()
        assert classical.pd > 0.6, baseline.name
        assert classical.fa < 1e-3, baseline.name
