"""Calibration moves the logits to where targets are outlined best."""

from pathlib import Path

import numpy as np
import pytest
import torch

from irst_pipeline.datasets import MASKED, Sample
from irst_pipeline.lsnet.normalise import normalise_image
from irst_pipeline.training.finish import bring_to_scale, shift_logits
from irst_pipeline.training.run import build_network

MODELS = Path(__file__).parents[2] / "configs" / "models"
MODEL = MODELS / "lsnet-nano.yaml"


@pytest.mark.parametrize("excess", [-1.5, 0.0, 2.0])
def test_an_excess_of_the_logits_is_taken_off(excess: float) -> None:
    cpu, rng = torch.device("cpu"), np.random.default_rng(0)
    network = build_network(MODEL, 1, cpu).eval()
    image = rng.normal(100, 5, (64, 64)).astype(np.uint8)
    with torch.inference_mode():
        logits = network(normalise_image(image).frames).logits[0, 0].numpy()
    # What it says of this frame is true by definition, where the masks end at a logit between two pixels.
    level = float(np.quantile(logits, 0.95))
    mask = np.where(logits > level, MASKED, 0).astype(np.uint8)
    with torch.no_grad():
        network.get_parameter("head.out.bias").add_(excess - level)
    assert shift_logits(network, [[Sample("s", image, mask)]], cpu) == pytest.approx(-excess, abs=0.07)


def test_frames_without_targets_do_not_move_the_logits() -> None:
    """No shift outlines anything better than another."""
    cpu, network = torch.device("cpu"), build_network(MODEL, 1, torch.device("cpu")).eval()
    image = np.random.default_rng(0).normal(100, 5, (64, 64)).astype(np.uint8)
    assert shift_logits(network, [[Sample("s", image, np.zeros_like(image))]], cpu) == 0


def test_kernels_that_have_grown_are_made_small_again_and_nothing_else_changes() -> None:
    network = build_network(MODELS / "lsnet-base.yaml", 1, torch.device("cpu")).eval()
    kernel = "background.up.1.0.weight"
    frames = torch.randn(1, 1, 64, 64)
    with torch.inference_mode():
        torch.nn.init.normal_(network.stages[0].get_parameter("background.out.weight"))  # else nothing is seen of it
        for stage in network.stages:
            stage.get_parameter(kernel).mul_(1e4)
        before = network(frames)
        bring_to_scale(network)
        for ours, expected in zip(network(frames), before, strict=True):
            torch.testing.assert_close(ours, expected, rtol=0, atol=0.02)  # what the epsilon of the norm makes
    for stage in network.stages:
        assert 1 < stage.get_parameter(kernel).abs().sum((1, 2, 3)).max() <= 2
