"""LSNet: an infrared frame unfolded into a low-rank background, a sparse target and noise.

After Li, Wang and Chen, "From Optimization to Network: A Low-Rank and Sparse-Aware Deep Unfolding Framework for
Infrared Small Target Detection". One implementation; `lsnet-nano` and `lsnet-base` are two configurations of it.
"""

from typing import Annotated, NamedTuple, Self

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn
from torch.nn import functional as F

from irst_pipeline.lsnet.modules import (
    BackgroundStep,
    MultiplierStep,
    NoiseStep,
    TargetStep,
    convolution,
)
from irst_pipeline.settings import Count, Settings
from irst_pipeline.types import MIN_SIZE

RARE = -4.0  # logit of a pixel before anything is learnt: targets are few

Counts = Annotated[tuple[Count, ...], Field(min_length=1)]


class LSNetConfig(Settings):
    """Shape of one member of the family."""

    stages: Count
    """Unfolded iterations, each with weights of its own."""
    stride: Count
    """1: the variables are images. 4: they are maps of `channels` at a quarter of the resolution."""
    channels: Count
    """Channels of D, B, T, N and Y; 1 with stride 1."""
    background_widths: Counts
    """Channels of the background prior at 1/2, 1/4, ... of the working resolution."""
    scan_state: Count
    """State size of the scan: the rank of the background."""
    scan_heads: Count
    """Heads of the scan, half along rows and half along columns."""
    scan_expand: Count
    scan_gate: bool
    target_widths: Counts
    """Channels of the sparse transform at 1, 1/2, ... of the working resolution."""
    attention_kernels: Counts
    """Kernel of the threshold's spatial attention at each of those scales, px."""
    noise_width: Count
    head_width: Count
    detail_width: Count
    """Channels of the head at full resolution."""

    @model_validator(mode="after")
    def _each_scale_has_an_odd_kernel(self) -> Self:
        if any(kernel % 2 == 0 for kernel in self.attention_kernels):
            raise ValueError(f"odd attention_kernels, got {self.attention_kernels}")
        if len(self.attention_kernels) != len(self.target_widths):
            raise ValueError("attention_kernels and target_widths of one length")
        return self


class Decomposition(NamedTuple):
    """What the network says of a batch; every member is float (B, 1, H, W) in the units of the network's input."""

    logits: Tensor
    """Detection logits: sigmoid gives the probability that a pixel is target."""
    target: Tensor
    background: Tensor
    noise: Tensor


class UnfoldingStage(nn.Module):
    """One iteration of the solver, in the working domain: maps (B, channels, h, w) at 1/`stride` of the resolution."""

    def __init__(self, config: LSNetConfig) -> None:
        super().__init__()
        self.background = BackgroundStep(
            config.channels,
            config.background_widths,
            config.scan_state,
            config.scan_heads,
            config.scan_expand,
            config.scan_gate,
        )
        self.target = TargetStep(config.channels, config.target_widths, config.attention_kernels)
        self.noise = NoiseStep(config.channels, config.noise_width)
        self.multiplier = MultiplierStep()

    def forward(
        self, d: Tensor, b: Tensor, t: Tensor, n: Tensor, y: Tensor, code: Tensor | None
    ) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
        """Each variable from the newest others. Returns B, T, N, Y and the sparse code, (B, target_widths[0], h, w).

        T comes first: in the first stage, where B is nothing yet, it sees the whole frame.
        """
        t, code = self.target(t, d - b - t - n + y, code)
        b = self.background(b, d - b - t - n + y)
        n = self.noise(n, d - b - t - n + y)
        y = self.multiplier(y, d - b - t - n)
        return b, t, n, y, code


def full_precision(like: Tensor) -> torch.autocast:
    """Sums of images keep their digits also in mixed precision: the noise is a thousandth of the scene."""
    return torch.autocast("cuda" if like.is_cuda else "cpu", enabled=False)


class Lattice(nn.Module):
    """Linear map between the image and the working domain, and back; identity at stride 1.

    Both ways are linear, so that a sum in the working domain is a sum of images. The first 16 channels start as the
    pixels of each 4x4 patch, so that the way back undoes the way there from the first step of training on.
    """

    def __init__(self, stride: int, channels: int) -> None:
        super().__init__()
        if (stride, channels) != (1, 1) and (stride != 4 or channels < 16):
            raise ValueError(f"stride 1 takes 1 channel and stride 4 at least 16, got {stride} and {channels}")
        self.stride = stride
        if stride == 1:
            return
        self.encoder = nn.Conv2d(4, channels, 3, stride=2, padding=1, bias=False)
        self.decoder = nn.Conv2d(channels, 16, 1, bias=False)
        with torch.no_grad():
            self.encoder.weight[:16] = 0
            self.decoder.weight[:] = 0
            for row in range(4):
                for column in range(4):
                    channel = 4 * row + column
                    self.encoder.weight[channel, 2 * (row % 2) + column % 2, 1 + row // 2, 1 + column // 2] = 1
                    self.decoder.weight[channel, channel] = 1

    def encode(self, image: Tensor) -> Tensor:
        """(B, 1, H, W), sides multiples of the stride, to (B, channels, H / stride, W / stride)."""
        if self.stride == 1:
            return image
        with full_precision(image):
            return self.encoder(F.pixel_unshuffle(image, 2))

    def decode(self, latent: Tensor) -> Tensor:
        """(B, channels, H / stride, W / stride) to (B, 1, H, W)."""
        if self.stride == 1:
            return latent
        with full_precision(latent):
            return F.pixel_shuffle(self.decoder(latent), 4)


class Head(nn.Module):
    """Logits (B, 1, H, W) from the sparse code (B, channels, H / stride, W / stride) and the frame less its background.

    Outlines are seen and drawn at full resolution, where a kernel means the same at every pixel; in between, at half
    the stride, they meet the code.
    """

    def __init__(self, channels: int, stride: int, width: int, detail: int) -> None:
        super().__init__()
        self.fine = max(1, stride // 2)
        self.up = stride // self.fine
        self.look = convolution(1, detail)
        self.sharpen = convolution(detail, detail)
        self.down = convolution(detail, width, stride=self.fine)
        self.enter = convolution(channels, width * self.up**2, 1)
        self.mix = convolution(width, width)
        self.refine = convolution(width, width)
        self.spread = nn.Conv2d(width, detail * self.fine**2, 1)
        self.outline = convolution(detail, detail)
        self.out = nn.Conv2d(detail, 1, 3, padding=1)
        nn.init.constant_(self.out.bias, RARE)  # type: ignore[arg-type]

    def forward(self, code: Tensor, foreground: Tensor) -> Tensor:
        seen = F.relu(self.look(foreground))
        seen = seen + F.relu(self.sharpen(seen))
        x = F.relu(self.down(seen) + F.pixel_shuffle(self.enter(code), self.up))
        x = x + F.relu(self.mix(x))
        x = x + F.relu(self.refine(x))
        x = seen + F.pixel_shuffle(self.spread(x), self.fine)
        return self.out(x + F.relu(self.outline(x)))


class Glance(nn.Module):
    """Logits straight from the sparse code, as of `Head`: what the stages before the last are held to in training."""

    def __init__(self, channels: int, stride: int) -> None:
        super().__init__()
        self.stride = stride
        self.out = nn.Conv2d(channels, stride**2, 1)
        nn.init.constant_(self.out.bias, RARE)  # type: ignore[arg-type]

    def forward(self, code: Tensor) -> Tensor:
        return F.pixel_shuffle(self.out(code), self.stride)


class LSNet(nn.Module):
    """The network. Takes normalised frames (B, 1, H, W) with H, W >= 16 of any size.

    Raises ValueError for others, and for a config that makes no network.
    """

    def __init__(self, config: LSNetConfig) -> None:
        super().__init__()
        self.config = config
        self.lattice = Lattice(config.stride, config.channels)
        self.stages = nn.ModuleList(UnfoldingStage(config) for _ in range(config.stages))
        self.glance = Glance(config.target_widths[0], config.stride)
        self.head = Head(config.target_widths[0], config.stride, config.head_width, config.detail_width)
        coarsest = max(len(config.background_widths), len(config.target_widths) - 1)
        self.multiple = config.stride * 2**coarsest
        if self.multiple > MIN_SIZE:  # a frame is padded by its own mirror image, which is no wider than itself
            raise ValueError(f"its coarsest scale is 1/{self.multiple} of the image, at most 1/{MIN_SIZE} is taken")

    def forward(self, frames: Tensor) -> Decomposition:
        """The decomposition after the last stage."""
        return self.unfold(frames, 1)[-1]

    def unfold(self, frames: Tensor, last: int) -> list[Decomposition]:
        """The decompositions after each of the `last` stages, for deep supervision and for looking inside."""
        height, width = frames.shape[-2:]
        if frames.dim() != 4 or frames.shape[1] != 1 or height < MIN_SIZE or width < MIN_SIZE:
            raise ValueError(f"expected frames (B, 1, H, W) with H, W >= {MIN_SIZE}, got {tuple(frames.shape)}")
        padding = (0, -width % self.multiple, 0, -height % self.multiple)
        image = F.pad(frames, padding, mode="reflect")
        d = self.lattice.encode(image)
        b = t = n = y = torch.zeros_like(d)
        code = None
        results = []
        for index, stage in enumerate(self.stages):
            b, t, n, y, code = stage(d, b, t, n, y, code)
            final = index == len(self.stages) - 1
            if index >= len(self.stages) - last:
                background = self.lattice.decode(b)
                parts = (
                    self.head(code, image - background) if final else self.glance(code),
                    self.lattice.decode(t),
                    background,
                    self.lattice.decode(n),
                )
                results.append(Decomposition(*(part[..., :height, :width] for part in parts)))
        return results
