"""Bidirectional selective scan along one axis, in the state space duality form of Mamba-2.

With `a` the log decay of each step, S its inclusive cumulative sum and E = S - a, the output is

    y_i = sum_{j <= i} exp(S_i - S_j) (C_i . B_j) x_j  +  sum_{j > i} exp(E_j - E_i) (C_i . B_j) x_j,

a forward scan plus a backward scan over the strict future. Every exponent is <= 0, so nothing overflows. Seen as
a matrix, y = ((C B^T) o M) x is a masked Gram matrix of rank at most the state size off its diagonal: the learned
counterpart of singular value thresholding (Dao and Gu, "Transformers are SSMs", 2024, section 5).
"""

import os
from collections.abc import Callable
from functools import cache

import torch
from torch import Tensor
from torch.nn import functional as F

WHOLE_LINE_MAX = 128
CHUNK = 64
STEP_MIN = 1e-8  # least decay of a step, so that it can be divided by; over 1,000 steps it changes a sum by 1e-5

CausalScan = Callable[[Tensor, Tensor, Tensor, Tensor, Tensor, int], Tensor]
"""The recurrence h_i = exp(dt_i A) h_(i-1) + dt_i B_i x_i, y_i = C_i h_i as Mamba-2 calls it: x (lines, L, K, P),
dt (lines, L, K), A (K,), B and C (lines, L, groups, N) and a chunk size to y (lines, L, K, P)."""


def selective_scan(x: Tensor, a: Tensor, b: Tensor, c: Tensor) -> Tensor:
    """Scan lines both ways.

    x: (..., K, L, P) values, already multiplied by their step; a: (..., K, L) log decays, <= 0;
    b, c: (..., 1 or K, L, N) input and output vectors. Returns (..., K, L, P).
    Lines longer than `WHOLE_LINE_MAX` are scanned in chunks, so that cost grows linearly with L: by Mamba's kernels on
    CUDA where they are installed, and not while a graph is recorded, which is to hold matrix products alone.
    """
    if x.shape[-2] <= WHOLE_LINE_MAX:
        return whole_line_scan(x, a, b, c)
    recorded = torch.jit.is_tracing() or torch.compiler.is_compiling()  # type: ignore[attr-defined, no-untyped-call]
    kernels = mamba_kernels() if x.is_cuda and not recorded else None
    return chunked_scan(x, a, b, c, CHUNK) if kernels is None else fused_scan(x, a, b, c, kernels)


def whole_line_scan(x: Tensor, a: Tensor, b: Tensor, c: Tensor) -> Tensor:
    """The scan as one L x L matrix a line; shapes as in `selective_scan`."""
    s, e = _sums(a)
    length = x.shape[-2]
    past = torch.ones(length, length, dtype=torch.bool, device=x.device).tril()
    exponent = torch.where(past, s.unsqueeze(-1) - s.unsqueeze(-2), e.unsqueeze(-2) - e.unsqueeze(-1))
    return ((c @ b.transpose(-1, -2)) * exponent.exp().to(x.dtype)) @ x


def chunked_scan(x: Tensor, a: Tensor, b: Tensor, c: Tensor, chunk: int) -> Tensor:
    """The same scan with a state handed from chunk to chunk; shapes as in `selective_scan`."""
    length = int(x.shape[-2])  # a plain number, also while a graph is recorded: ONNX divides towards zero
    count = -(-length // chunk)
    padding = count * chunk - length

    def split(t: Tensor) -> Tensor:
        return F.pad(t, (0, 0, 0, padding)).unflatten(-2, (count, chunk))

    # The chunk axis goes before L, so that inside a chunk the whole-line form applies as it is.
    x, b, c = split(x), split(b), split(c)
    a = split(a.unsqueeze(-1)).squeeze(-1)
    y = whole_line_scan(x, a, b, c)

    s, e = _sums(a)
    total = s[..., -1:]
    to_end, to_start, from_start, from_end, whole = (
        t.exp().unsqueeze(-1).to(x.dtype) for t in (total - s, e, s, total - e, total)
    )
    ahead = _carry(b.transpose(-1, -2) @ (to_end * x), whole, range(count))
    behind = _carry(b.transpose(-1, -2) @ (to_start * x), whole, range(count - 1, -1, -1))
    y = y + from_start * (c @ ahead) + from_end * (c @ behind)
    return y.flatten(-3, -2)[..., :length, :]


@cache
def mamba_kernels() -> CausalScan | None:
    """`mamba_chunk_scan_combined`, if the optional package `mamba-ssm` is installed; it needs a CUDA device to run.

    Unless the environment says otherwise, Triton multiplies float32 whole from here on: by itself it keeps ten bits.
    """
    os.environ.setdefault("TRITON_F32_DEFAULT", "ieee")
    try:
        from mamba_ssm.ops.triton.ssd_combined import mamba_chunk_scan_combined
    except ImportError:
        return None
    return mamba_chunk_scan_combined


def fused_scan(x: Tensor, a: Tensor, b: Tensor, c: Tensor, causal: CausalScan) -> Tensor:
    """The same scan as two causal ones, on the lines and on the lines reversed, in float32 at least.

    Both count the diagonal, so it is taken off once. The causal scan multiplies x by the step that also decays the
    state, so x is divided by it before. Shapes as in `selective_scan`.
    """
    wide = torch.promote_types(x.dtype, torch.float32)
    value, step, keys, queries = x.to(wide), (-a.to(wide)).clamp(min=STEP_MIN).unsqueeze(-1), b.to(wide), c.to(wide)

    def both_ways(t: Tensor) -> Tensor:
        lines = t.reshape(-1, *t.shape[-3:]).transpose(1, 2)
        return torch.cat([lines, lines.flip(1)])

    rates = step.new_full((x.shape[-3],), -1.0)
    scanned = causal(
        both_ways(value / step), both_ways(step).squeeze(-1), rates, both_ways(keys), both_ways(queries), CHUNK
    )
    ahead, behind = scanned.chunk(2)
    y = (ahead + behind.flip(1)).transpose(1, 2).reshape(x.shape)
    return (y - (queries * keys).sum(-1, keepdim=True) * value).to(x.dtype)


def _sums(a: Tensor) -> tuple[Tensor, Tensor]:
    """S and E of log decays; at least in float32, for decays are differences of these sums."""
    s = a.cumsum(-1, dtype=torch.promote_types(a.dtype, torch.float32))
    return s, s - a


def _carry(state: Tensor, decay: Tensor, order: range) -> Tensor:
    """State that reaches each chunk from those before it in `order`. state: (..., chunks, N, P)."""
    carried = torch.zeros_like(state.select(-3, 0))
    reached = [carried] * len(order)
    for i in order:
        reached[i] = carried
        carried = decay.select(-3, i) * carried + state.select(-3, i)
    return torch.stack(reached, -3)
