"""The scan against its definition as two recurrences."""

import math

import pytest
import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from irst_pipeline.lsnet.modules import AxialScan
from irst_pipeline.lsnet.scan import (
    WHOLE_LINE_MAX,
    chunked_scan,
    fused_scan,
    mamba_kernels,
    selective_scan,
    whole_line_scan,
)

LENGTHS = [1, 2, 37, 63, 64, 65, 127, 128, 129, 200, 300]


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


def causal_scan(x: Tensor, dt: Tensor, a: Tensor, b: Tensor, c: Tensor, chunk_size: int) -> Tensor:
    """What `mamba_chunk_scan_combined` is documented to compute, step by step."""
    lines, length, heads, values = x.shape
    assert dt.shape == (lines, length, heads)
    assert a.shape == (heads,)
    assert b.shape == c.shape
    assert b.shape[:2] == (lines, length)
    assert heads % b.shape[2] == 0
    assert chunk_size > 0
    b, c = (t.repeat_interleave(heads // t.shape[2], 2) for t in (b, c))
    state = x.new_zeros(lines, heads, b.shape[3], values)
    y = []
    for i in range(length):
        decay, entering = (dt[:, i] * a).exp(), dt[:, i, :, None] * x[:, i]
        state = decay[..., None, None] * state + b[:, i, :, :, None] * entering[:, :, None]
        y.append((c[:, i, :, :, None] * state).sum(2))
    return torch.stack(y, 1)


def gradients(y: Tensor, args: list[Tensor]) -> tuple[Tensor, ...]:
    """Of a fixed random sum of y."""
    weight = torch.randn(y.shape, generator=torch.Generator().manual_seed(1), dtype=y.dtype)
    return torch.autograd.grad((y * weight.to(y.device)).sum(), args)


@pytest.mark.parametrize("length", LENGTHS)
def test_every_form_is_the_recurrence(length: int) -> None:
    args = lines(length)
    expected = recurrence(*args)
    for found in (whole_line_scan(*args), chunked_scan(*args, 64), selective_scan(*args)):
        torch.testing.assert_close(found, expected, rtol=0, atol=1e-10)


@pytest.mark.parametrize("length", LENGTHS)
def test_two_causal_scans_less_the_diagonal_are_the_scan(length: int) -> None:
    args = lines(length)
    torch.testing.assert_close(fused_scan(*args, causal_scan), recurrence(*args), rtol=0, atol=1e-10)


@pytest.mark.parametrize("length", [1, 65, 129])
def test_gradients_do_not_depend_on_the_form(length: int) -> None:
    args = lines(length)
    inputs = [t.requires_grad_() for t in args]
    expected = gradients(recurrence(*args), inputs)
    for y in (whole_line_scan(*args), chunked_scan(*args, 64), fused_scan(*args, causal_scan)):
        for found, wanted in zip(gradients(y, inputs), expected, strict=True):
            torch.testing.assert_close(found, wanted, rtol=1e-10, atol=1e-10)


def test_causal_scans_do_not_mind_a_step_without_decay() -> None:
    x, a, b, c = lines(40)
    a[..., ::3] = 0
    torch.testing.assert_close(fused_scan(x, a, b, c, causal_scan), recurrence(x, a, b, c), rtol=0, atol=1e-5)


@pytest.mark.gpu
@pytest.mark.parametrize("length", [WHOLE_LINE_MAX + 1, 160, 300])
def test_mambas_kernels_are_the_scan(length: int) -> None:
    if mamba_kernels() is None:
        pytest.skip("NOT TESTED: mamba-ssm; pip install --no-build-isolation 'irst-pipeline[mamba]' where CUDA is")
    x, a, b, c = (t.float().cuda() for t in lines(length))
    # The network's parameters move a decay in proportion to itself, so gradients are taken of its logarithm.
    args = [t.requires_grad_() for t in (x, (-a).log(), b, c)]
    found, expected = (scan(x, -args[1].exp(), b, c) for scan in (selective_scan, whole_line_scan))
    pairs = zip((found, *gradients(found, args)), (expected, *gradients(expected, args)), strict=True)
    for ours, wanted in pairs:
        torch.testing.assert_close(ours, wanted, rtol=1e-4, atol=1e-4 * wanted.abs().max().item())


@pytest.mark.parametrize("size", [(136, 24), (24, 136), (136, 137)])
def test_rows_and_columns_are_scanned_alike(size: tuple[int, int]) -> None:
    """With one half of the heads' weights in the other's place, the transposed map gives the transposed result."""
    torch.manual_seed(0)
    scan = AxialScan(channels=8, state=4, heads=4, expand=1, gate=False).double().eval()
    with torch.no_grad():
        for layer in (scan.value, scan.keys, scan.step):
            for values in (layer.weight, layer.bias):
                assert values is not None
                half = len(values) // 2
                values[half:] = values[:half]
        scan.out.weight[:, 4:] = scan.out.weight[:, :4]
        x = torch.randn(1, 8, *size, dtype=torch.float64)
        torch.testing.assert_close(scan(x.mT), scan(x).mT, rtol=0, atol=1e-10)


def test_work_grows_linearly_with_the_length() -> None:
    def work(length: int) -> int:
        with FlopCounterMode(display=False) as counter:
            selective_scan(*(t.to("meta") for t in lines(length)))
        return counter.get_total_flops()

    assert work(4096) <= 4.1 * work(1024)


def test_without_decay_the_scan_is_the_full_gram_product() -> None:
    x, a, b, c = lines(20)
    full = (c @ b.transpose(-1, -2)) @ x
    torch.testing.assert_close(whole_line_scan(x, torch.zeros_like(a), b, c), full)


def test_fast_decay_is_stable() -> None:
    x, a, b, c = lines(300)
    y = selective_scan(x.float(), a.float() * 1e4, b.float(), c.float())
    assert math.isfinite(y.abs().max().item())
    torch.testing.assert_close(y, ((c * b).sum(-1, keepdim=True) * x).float(), rtol=1e-4, atol=1e-4)
