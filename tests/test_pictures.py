"""What stands in figures."""

import warnings
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from irst_pipeline import bench, explain
from irst_pipeline.datasets import Sample
from irst_pipeline.evaluation.detection import DetectionScores
from irst_pipeline.evaluation.report import draw_curves
from irst_pipeline.lsnet.weights import load_weights
from irst_pipeline.pictures import png
from irst_pipeline.training.preview import draw_preview

IMAGE = np.random.default_rng(0).integers(50, 60, (16, 24)).astype(np.uint8)


def explained(name: str, path: Path) -> None:
    part = IMAGE.astype(np.float32)
    view = explain.StageView(part, part, part, part, explain.singular_values(part))
    path.write_bytes(png(explain.draw(IMAGE, [view], name)))


def curves(name: str, path: Path) -> None:
    scores = DetectionScores()
    scores.add(name, IMAGE / 255, np.zeros(IMAGE.shape, np.uint8))
    path.write_bytes(draw_curves(name, {name: scores}))


def preview(name: str, path: Path) -> None:
    sample = Sample(name, IMAGE, np.zeros(IMAGE.shape, np.uint8))
    draw_preview(load_weights("lsnet-nano").network, [sample], torch.device("cpu"), path)


@pytest.mark.parametrize(
    "draw", [explained, curves, preview, lambda name, path: path.write_bytes(bench.draw(name, []))]
)
def test_a_name_is_drawn_as_it_is_written(draw: Callable[[str, Path], object], tmp_path: Path) -> None:
    """And not as a formula, which this is not."""
    draw("$_$.png", tmp_path / "a.png")
    assert cv2.imread(str(tmp_path / "a.png")) is not None


def test_letters_that_the_font_lacks_are_no_matter(tmp_path: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        explained("\u7ea2\u5916.png", tmp_path / "a.png")
    assert cv2.imread(str(tmp_path / "a.png")) is not None
