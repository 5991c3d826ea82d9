"""The scan against its definition as two recurrences."""

import math

import pytest
import torch
from torch import Tensor

from irst_pipeline.lsnet.scan import WHOLE_LINE_MAX, chunked_scan, selective_scan, whole_line_scan


def lines(length: int, seed: int = 0) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Random x, a, b, c of 2 lines, 3 heads, in float64."""
    g = torch.Generator().manual_seed(seed)

    def draw(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=g, dtype=torch.float64)

    return draw(2, 3, length, 5), -draw(2, 3, length).abs(), draw(2, 1, length, 4), draw(2, 1, length, 4)


def recurrence(x: Tensor, a: Tensor, b: Tensor, c: Tensor) -> Tensor:
    """The state space model step by step: one pass forward, one backward over the strict future."""
    length = x.shape[-2]
    b, c = (t.expand(2, 3, length, 4) for t in (b, c))
    y = torch.zeros_like(x)
    state = torch.zeros(2, 3, 4, 5, dtype=x.dtype)
    for i in range(length):
        state = a[..., i, None, None].exp() * state + b[..., i, :, None] * x[..., i, None, :]
        y[..., i, :] += (c[..., i, :, None] * state).sum(-2)
    state = torch.zeros_like(state)
    for i in range(length - 2, -1, -1):
        state = a[..., i, None, None].exp() * (state + b[..., i + 1, :, None] * x[..., i + 1, None, :])
        y[..., i, :] += (c[..., i, :, None] * state).sum(-2)
    return y


def test_whole_line_is_the_recurrence() -> None:
    args = lines(37)
    torch.testing.assert_close(whole_line_scan(*args), recurrence(*args), rtol=0, atol=1e-10)


@pytest.mark.parametrize("length", [64, 65, 129, 300])
def test_chunks_change_nothing(length: int) -> None:
    args = lines(length)
    torch.testing.assert_close(chunked_scan(*args, 64), whole_line_scan(*args), rtol=0, atol=1e-10)


@pytest.mark.parametrize("length", [WHOLE_LINE_MAX, WHOLE_LINE_MAX + 1])
def test_selective_scan_is_the_recurrence_on_both_sides_of_its_limit(length: int) -> None:
    args = lines(length)
    torch.testing.assert_close(selective_scan(*args), recurrence(*args), rtol=0, atol=1e-10)


def test_without_decay_the_scan_is_the_full_gram_product() -> None:
    x, a, b, c = lines(20)
    full = (c @ b.transpose(-1, -2)) @ x
    torch.testing.assert_close(whole_line_scan(x, torch.zeros_like(a), b, c), full)


def test_fast_decay_is_stable() -> None:
    x, a, b, c = lines(300)
    y = selective_scan(x.float(), a.float() * 1e4, b.float(), c.float())
    assert math.isfinite(y.abs().max().item())
    torch.testing.assert_close(y, ((c * b).sum(-1, keepdim=True) * x).float(), rtol=1e-4, atol=1e-4)
