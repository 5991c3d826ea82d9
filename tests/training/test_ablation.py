"""What is said of the worth of each part of the network."""

from collections.abc import Callable
from pathlib import Path

import pytest
import yaml
from safetensors.torch import load_file

from tests.running import read_csv

MODEL = Path(__file__).with_name("small.yaml")
VARIANTS = ("whole", "no scan", "no attention", "HQS (Y = 0)", "2 stages", "1 stage", "no decomposition loss")


def test_each_variant_is_trained_without_its_part_and_scored(
    data: Path, tmp_path: Path, start_tool: Callable[..., int], capsys: pytest.CaptureFixture[str]
) -> None:
    model, config, out = tmp_path / "model.yaml", tmp_path / "train.yaml", tmp_path / "out"
    model.write_text(MODEL.read_text().replace("stages: 2", "stages: 3"))
    sources = [{"folder": "points", "layout": "masked_images", "weight": 1.0}]
    config.write_text(yaml.safe_dump({"model": str(model), "sources": sources, "steps": 100, "batch": 2, "crop": 32}))
    arguments = ["--data", data, "--config", config, "--out", out, "--set", "steps=2"]
    assert start_tool("ablation", *arguments) == 0
    table = (out / "table.md").read_text()
    assert capsys.readouterr().out == table
    head, _, *rows = ([cell.strip() for cell in line.strip("|").split("|")] for line in table.splitlines())
    assert head == ["variant", "M parameters", "iou points", "pd points"]
    assert tuple(row[0] for row in rows) == VARIANTS
    assert all(0 <= float(score) <= 100 for row in rows for score in row[2:])

    folders = {name: out / name.replace(" ", "-") for name in VARIANTS}
    weights = {name: set(load_file(folder / "weights.safetensors")) for name, folder in folders.items()}
    left_out = {name: weights["whole"] - weights[name] for name in VARIANTS}
    for name, part in {"no scan": ".scan.", "no attention": ".attention.", "HQS (Y = 0)": ".multiplier."}.items():
        assert left_out[name] == {key for key in weights["whole"] if part in key} != set(), name
    for name, first in {"2 stages": ("stages.2.",), "1 stage": ("stages.1.", "stages.2.")}.items():
        assert left_out[name] == {key for key in weights["whole"] if key.startswith(first)} != set(), name
    assert weights["no decomposition loss"] == weights["whole"]
    losses = {name: float(read_csv(folder / "curve.csv")[-1]["loss"]) for name, folder in folders.items()}
    assert losses["no decomposition loss"] < losses["whole"]

    assert start_tool("ablation", *arguments) == 0, "what is complete is scored as before"
    assert (out / "table.md").read_text() == table
