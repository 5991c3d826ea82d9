"""The four modules of one unfolding stage, each a proximal step written as a small network.

D is the observation, B the background, T the target, N the noise and Y the scaled multiplier; R = D - B - T - N + Y.
"""

from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from irst_pipeline.lsnet.scan import selective_scan

SQUARE_MAX = 7  # px; attention kernels wider than this are split into a row and a column strip
SCAN_MAX = 2.0**14  # of a scan's output, far above any scene's: float16, which has room for 65,504, is not to overflow


class FrameNorm(nn.GroupNorm):
    """Each frame by its own mean and spread over all channels and pixels (Wu and He, "Group Normalization", 2018).

    Sources differ too much, and targets are too rare and too bright, for statistics of a batch to hold for a frame.
    """

    def __init__(self, channels: int) -> None:
        super().__init__(1, channels)

    def forward(self, x: Tensor) -> Tensor:
        if torch.onnx.is_in_onnx_export():
            return in_two_passes(x, self.weight, self.bias, self.eps)
        # PyTorch's kernel for CUDA leaves all of a frame to one of the device's many processors.
        return by_moments(x, self.weight, self.bias, self.eps) if x.is_cuda else super().forward(x)


def by_moments(x: Tensor, weight: Tensor, bias: Tensor, epsilon: float) -> Tensor:
    """The same normalisation of (B, C, H, W) by reductions, in float32 whatever the type, and one pass of scaling."""
    axes = (1, 2, 3)
    mean = x.mean(axes, keepdim=True, dtype=torch.float32)
    norm = torch.linalg.vector_norm(x, dim=axes, keepdim=True, dtype=torch.float32)
    variance = (norm.square() / x[0].numel() - mean.square()).clamp(min=0)
    scale = (variance + epsilon).rsqrt() * weight.view(1, -1, 1, 1)
    shift = bias.view(1, -1, 1, 1) - mean * scale
    return torch.addcmul(shift.to(x.dtype), x, scale.to(x.dtype))


def in_two_passes(x: Tensor, weight: Tensor, bias: Tensor, epsilon: float) -> Tensor:
    """The same by the means of rows and their mean: runtimes that sum up a whole frame at once lose digits."""
    away = x - x.mean(3, keepdim=True).mean((1, 2), keepdim=True)
    variance = away.square().mean(3, keepdim=True).mean((1, 2), keepdim=True)
    return away / (variance + epsilon).sqrt() * weight.view(1, -1, 1, 1) + bias.view(1, -1, 1, 1)


def convolution(inputs: int, outputs: int, kernel: int = 3, stride: int = 1) -> nn.Sequential:
    """A convolution that keeps the size, but for the stride, and the norm of what it puts out."""
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, kernel, stride, padding=kernel // 2, bias=False), FrameNorm(outputs)
    )


class Depthwise(nn.Conv2d):
    """Each channel by a kernel of its own, of `rows` x `columns` px."""

    bias: nn.Parameter

    def __init__(self, channels: int, rows: int, columns: int) -> None:
        super().__init__(channels, channels, (rows, columns), padding=(rows // 2, columns // 2), groups=channels)

    def forward(self, x: Tensor) -> Tensor:
        if torch.is_grad_enabled() or not (x.is_cuda and torch.compiler.is_compiling()):
            return super().forward(x)
        # For few channels cuDNN turns the layout and turns it back, at three times the cost of the sum.
        return sum_of_taps(x, self.weight, self.bias)


def sum_of_taps(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """A depthwise convolution of (B, C, H, W) by kernels (C, 1, rows, columns), written out for a compiler to fuse."""
    (rows, columns), (height, width) = weight.shape[-2:], x.shape[-2:]
    padded = F.pad(x, (columns // 2, columns // 2, rows // 2, rows // 2))
    y = bias.view(1, -1, 1, 1)
    for i in range(rows):
        for j in range(columns):
            y = y + padded[..., i : i + height, j : j + width] * weight[:, 0, i, j].view(1, -1, 1, 1)
    return y


def depthwise(channels: int, kernel: int) -> nn.Module:
    """Each channel by a square kernel of its own, px, or if that is wide by two strips."""
    if kernel <= SQUARE_MAX:
        return Depthwise(channels, kernel, kernel)
    return nn.Sequential(Depthwise(channels, 1, kernel), Depthwise(channels, kernel, 1))


def doubled(x: Tensor) -> Tensor:
    """(B, C, H, W) at twice the size, each value four times."""
    if torch.is_grad_enabled() and x.is_cuda and torch.compiler.is_compiling():
        return repeated(x)
    return F.interpolate(x, scale_factor=2.0, mode="nearest")


def repeated(x: Tensor) -> Tensor:
    """The same as a view and a copy: compiled, its gradient is a sum and no scatter, which saves a ninth of a step."""
    return x[:, :, :, None, :, None].expand(-1, -1, -1, 2, -1, 2).flatten(4, 5).flatten(2, 3)


class AxialScan(nn.Module):
    """Token mixer that acts on rows with one half of its heads and on columns with the other.

    A scan along rows multiplies the image from the right and one along columns from the left, as the two sides of a
    singular value thresholding do; `state` bounds the rank. Maps (B, C, H, W) to the same shape.
    """

    def __init__(self, channels: int, state: int, heads: int, expand: int, gate: bool) -> None:
        super().__init__()
        inner = channels * expand
        if heads % 2 or inner % heads:
            raise ValueError(f"heads must be even and divide {inner}, got {heads}")
        self.heads, self.state = heads // 2, state
        self.norm = FrameNorm(channels)
        self.value = nn.Conv2d(channels, inner, 1)
        self.keys = nn.Conv2d(channels, 4 * state, 1)
        self.step = nn.Conv2d(channels, heads, 1)
        self.gate = nn.Conv2d(channels, inner, 1) if gate else None
        self.log_rate = nn.Parameter(torch.linspace(-2.0, 1.0, self.heads).repeat(2))
        self.skip = nn.Parameter(torch.ones(1, inner, 1, 1))
        self.out = nn.Conv2d(inner, channels, 1)
        nn.init.constant_(self.step.bias, -2.0)  # type: ignore[arg-type]

    def forward(self, x: Tensor) -> Tensor:
        x = self.norm(x)
        value = self.value(x)
        step = self.step(x).sigmoid()
        decay = -step * self.log_rate.exp().view(1, -1, 1, 1)
        rows, columns = zip(*(part.chunk(2, 1) for part in (value, step, decay, self.keys(x))), strict=True)
        along_columns = self._lines(*(part.transpose(2, 3) for part in columns)).transpose(2, 3)
        y = torch.cat([self._lines(*rows), along_columns], 1) + self.skip * value
        if self.gate is not None:
            y = y * F.silu(self.gate(x))
        return self.out(y).clamp(-SCAN_MAX, SCAN_MAX)

    def _lines(self, value: Tensor, step: Tensor, decay: Tensor, keys: Tensor) -> Tensor:
        """Scan along the last axis. value (B, K*P, H, W), step and decay (B, K, H, W), keys (B, 2n, H, W)."""
        value = value.unflatten(1, (self.heads, -1))
        x = (value * step.unsqueeze(2)).permute(0, 3, 1, 4, 2)
        a = decay.transpose(1, 2)
        # Unit keys and steps below one keep the scan linear in its values: unbounded, it is a cubic form of its input,
        # and a target thirty standard deviations bright makes training diverge.
        b, c = (F.normalize(k, dim=-1, eps=1e-6) for k in keys.permute(0, 2, 3, 1).unsqueeze(2).chunk(2, -1))
        return selective_scan(x, a, b, c).permute(0, 2, 4, 1, 3).flatten(1, 2)


class BackgroundStep(nn.Module):
    """LBM: V = B + eta R, B <- V + P(V), with P a pyramid that scans at its coarsest level.

    `widths` are the channels at 1/2, 1/4, ... of the working resolution. P's last layer starts at zero and eta at one:
    before it has learnt anything the background is the frame less its targets.
    """

    def __init__(self, channels: int, widths: tuple[int, ...], state: int, heads: int, expand: int, gate: bool) -> None:
        super().__init__()
        self.eta = nn.Parameter(torch.tensor(1.0))
        pyramid = (channels, *widths)
        pairs = list(pairwise(pyramid))
        # One level is pooled, several are unshuffled: on a single coarse level pooling keeps the cost down.
        self.pooled = len(widths) == 1
        self.down = nn.ModuleList(
            (nn.Identity() if i == o else convolution(i, o, 1)) if self.pooled else convolution(4 * i, o, 1)
            for i, o in pairs
        )
        self.refine = nn.ModuleList(nn.Identity() if self.pooled else convolution(o, o) for _, o in pairs)
        self.scan = AxialScan(widths[-1], state, heads, expand, gate)
        self.up = nn.ModuleList(convolution(o, i) for i, o in pairs[1:])
        self.out = nn.Conv2d(widths[0], channels, 3, padding=1)
        nn.init.zeros_(self.out.weight)
        nn.init.zeros_(self.out.bias)  # type: ignore[arg-type]

    def forward(self, b: Tensor, r: Tensor) -> Tensor:
        v = b + self.eta * r
        x, levels = v, []
        for down, refine in zip(self.down, self.refine, strict=True):
            x = down(F.avg_pool2d(x, 2) if self.pooled else F.pixel_unshuffle(x, 2))
            x = x if self.pooled else x + F.relu(refine(x))
            levels.append(x)
        x = F.relu(x + self.scan(x))
        for up, level in zip(reversed(self.up), reversed(levels[:-1]), strict=True):
            x = F.relu(level + up(doubled(x)))
        return v + self.out(doubled(x))


class SoftThreshold(nn.Module):
    """S(z; t) = relu(z - t) - relu(-z - t) with a threshold map that spatial attention lowers where a target may be."""

    def __init__(self, channels: int, kernel: int) -> None:
        super().__init__()
        self.base = nn.Parameter(torch.full((1, channels, 1, 1), -2.0))
        self.attention = nn.Sequential(depthwise(channels, kernel), nn.Conv2d(channels, channels, 1), nn.Sigmoid())

    def forward(self, z: Tensor) -> Tensor:
        t = F.softplus(self.base) * (1 - self.attention(z))
        return F.relu(z - t) - F.relu(-z - t)


class TargetStep(nn.Module):
    """LTM: r = T + eta R, T <- r sigmoid(W~ z) with the sparse code z = S(W r + m; theta), m the code one stage before.

    A soft threshold shrinks its argument by a factor between zero and one; here W~ makes that factor from the code, so
    that T keeps the intensity of what it takes from r, and what is found once is not lost. W has one or more scales:
    `widths` and `kernels` are the channels and attention kernels at 1, 1/2, 1/4, ... of the working resolution.
    Returns T and the finest level's code, on which the detection head works.
    """

    def __init__(self, channels: int, widths: tuple[int, ...], kernels: tuple[int, ...]) -> None:
        super().__init__()
        self.eta = nn.Parameter(torch.tensor(0.5))
        self.analysis = nn.ModuleList(
            convolution(channels if level == 0 else 4 * widths[level - 1], width) for level, width in enumerate(widths)
        )
        self.threshold = nn.ModuleList(SoftThreshold(w, k) for w, k in zip(widths, kernels, strict=True))
        self.merge = nn.ModuleList(convolution(o, i) for i, o in pairwise(widths))
        self.synthesis = nn.Conv2d(widths[0], channels, 3, padding=1)
        with torch.no_grad():
            self.synthesis.weight.mul_(0.1)
        nn.init.constant_(self.synthesis.bias, -2.0)  # type: ignore[arg-type]

    def forward(self, t: Tensor, r: Tensor, memory: Tensor | None) -> tuple[Tensor, Tensor]:
        r = t + self.eta * r
        x, levels = r, []
        for level, (analysis, threshold) in enumerate(zip(self.analysis, self.threshold, strict=True)):
            x = analysis(F.pixel_unshuffle(x, 2) if level else x)
            x = threshold(x if level or memory is None else x + memory)
            levels.append(x)
        for merge, level_features in zip(reversed(self.merge), reversed(levels[:-1]), strict=True):
            x = level_features + F.relu(merge(doubled(x)))
        return r * self.synthesis(x).sigmoid(), x


class NoiseStep(nn.Module):
    """LNM: N <- g tanh(net(N + R)) with a learned gain g, so bounded that noise cannot swallow a target."""

    GAIN_MAX = 0.5

    def __init__(self, channels: int, width: int) -> None:
        super().__init__()
        self.enter = nn.Sequential(nn.Conv2d(channels, width, 1), depthwise(width, 3))
        self.gate = nn.Conv2d(width, width, 1)
        self.out = nn.Conv2d(width, channels, 1)
        self.gain = nn.Parameter(torch.full((1, channels, 1, 1), -2.0))

    def forward(self, n: Tensor, r: Tensor) -> Tensor:
        x = self.enter(n + r)
        return self.GAIN_MAX * self.gain.sigmoid() * torch.tanh(self.out(x * self.gate(x).sigmoid()))


class MultiplierStep(nn.Module):
    """LLM: Y <- Y + gamma (D - B - T - N)."""

    def __init__(self) -> None:
        super().__init__()
        self.gamma = nn.Parameter(torch.tensor(0.5))

    def forward(self, y: Tensor, residual: Tensor) -> Tensor:
        return y + self.gamma * residual
