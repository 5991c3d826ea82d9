"""Muon's matrices."""

import pytest
import torch

from irst_pipeline.training.muon import orthogonal


@pytest.mark.parametrize("shape", [(6, 40), (40, 6), (16, 16)])
def test_muon_steps_along_all_directions_alike(shape: tuple[int, int]) -> None:
    torch.manual_seed(0)
    left, _, right = torch.linalg.svd(torch.randn(shape), full_matrices=False)
    values = torch.linalg.svdvals(orthogonal(left @ torch.diag(torch.logspace(0, -1.5, min(shape))) @ right))
    assert values.min() > 0.6
    assert values.max() < 1.3
