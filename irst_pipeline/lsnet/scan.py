"""Bidirectional selective scan along one axis, in the state space duality form of Mamba-2.

With `a` the log decay of each step, S its inclusive cumulative sum and E = S - a, the output is

    y_i = sum_{j <= i} exp(S_i - S_j) (C_i . B_j) x_j  +  sum_{j > i} exp(E_j - E_i) (C_i . B_j) x_j,

a forward scan plus a backward scan over the strict future. Every exponent is <= 0, so nothing overflows. Seen as
a matrix, y = ((C B^T) o M) x is a masked Gram matrix of rank at most the state size off its diagonal: the learned
counterpart of singular value thresholding (Dao and Gu, "Transformers are SSMs", 2024, section 5).
"""

import torch
from torch import Tensor
from torch.nn import functional as F

WHOLE_LINE_MAX = 128
CHUNK = 64


def selective_scan(x: Tensor, a: Tensor, b: Tensor, c: Tensor) -> Tensor:
    """Scan lines both ways.

    x: (..., K, L, P) values, already multiplied by their step; a: (..., K, L) log decays, <= 0;
    b, c: (..., 1 or K, L, N) input and output vectors. Returns (..., K, L, P).
    Lines longer than `WHOLE_LINE_MAX` are scanned in chunks, so that cost grows linearly with L.
    """
    if x.shape[-2] > WHOLE_LINE_MAX:
        return chunked_scan(x, a, b, c, CHUNK)
    return whole_line_scan(x, a, b, c)


def whole_line_scan(x: Tensor, a: Tensor, b: Tensor, c: Tensor) -> Tensor:
    """The scan as one L x L matrix a line; shapes as in `selective_scan`."""
    s, e = _sums(a)
    length = x.shape[-2]
    past = torch.ones(length, length, dtype=torch.bool, device=x.device).tril()
    exponent = torch.where(past, s.unsqueeze(-1) - s.unsqueeze(-2), e.unsqueeze(-2) - e.unsqueeze(-1))
    return ((c @ b.transpose(-1, -2)) * exponent.exp().to(x.dtype)) @ x


def chunked_scan(x: Tensor, a: Tensor, b: Tensor, c: Tensor, chunk: int) -> Tensor:
    """The same scan with a state handed from chunk to chunk; shapes as in `selective_scan`."""
    length = x.shape[-2]
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
