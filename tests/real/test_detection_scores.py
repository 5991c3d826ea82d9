"""The shipped network on a part of the test splits, with floors a little below the figures of its card."""

from pathlib import Path

import pytest
import torch

from irst_pipeline.datasets import read_masked_images
from irst_pipeline.evaluation.detectors import score_network
from irst_pipeline.lsnet.weights import load_weights

EVERY = 6  # of the images, one in so many


@pytest.mark.real
@pytest.mark.parametrize(
    ("name", "iou", "pd", "fa"), [("NUDT-SIRST", 0.76, 0.93, 50e-6), ("NUAA-SIRST", 0.68, 0.93, 60e-6)]
)
def test_targets_are_found_and_outlined(real_data: Path, name: str, iou: float, pd: float, fa: float) -> None:
    samples = read_masked_images(real_data / name, "test")[::EVERY]
    scores = score_network(load_weights("lsnet-nano").network, samples, torch.device("cpu"))
    assert scores.iou > iou
    assert scores.pd > pd
    assert scores.fa < fa
