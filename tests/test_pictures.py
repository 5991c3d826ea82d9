"""What stands in figures."""

import warnings
from collections.abc import Callable

import cv2
import numpy as np
import pytest
import torch

from irst_pipeline import explain
from irst_pipeline.bench import report
from irst_pipeline.datasets import Sample
from irst_pipeline.evaluation.detection import DetectorCounts
from irst_pipeline.evaluation.detection_report import draw_curves
from irst_pipeline.lsnet.weights import load_weights
from irst_pipeline.training.preview import draw_preview

IMAGE = np.random.default_rng(0).integers(50, 60, (16, 24)).astype(np.uint8)


def explained(name: str) -> bytes:
    part = IMAGE.astype(np.float32)
    view = explain.StageView(part, part, part, part, explain.singular_values(part))
    return explain.draw(IMAGE, [view], name)


def curves(name: str) -> bytes:
    scores = DetectorCounts(0.5, ())
    scores.add(name, IMAGE / 255, np.zeros(IMAGE.shape, np.uint8))
    return draw_curves(name, {name: scores})


def preview(name: str) -> bytes:
    sample = Sample(name, IMAGE, np.zeros(IMAGE.shape, np.uint8))
    return draw_preview(load_weights("lsnet-nano").network, [sample], torch.device("cpu"))


def is_picture(data: bytes) -> bool:
    return cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR) is not None


@pytest.mark.parametrize("draw", [explained, curves, preview, lambda name: report.draw(name, [])])
def test_a_name_is_drawn_as_it_is_written(draw: Callable[[str], bytes]) -> None:
    """And not as a formula, which this is not."""
    assert is_picture(draw("$_$.png"))


def test_letters_that_the_font_lacks_are_no_matter() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert is_picture(explained("\u7ea2\u5916.png"))
