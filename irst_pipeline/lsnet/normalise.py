"""The one normalisation of frames, in training and in running alike."""

from functools import reduce
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from irst_pipeline.types import Image

SAMPLES_MAX = 16384
LEVELS_MIN = 1.0  # grey levels; a flatter frame than this is not stretched further
UNITS_MAX = 200.0
LARGE_MAX = 20.0  # units that are left of what is larger than a point, as the sun: no background trained on has more
IMPULSE_MAX = 10.0  # units that a pixel may differ from all of its neighbours: no lens makes so sharp a point
SPREAD, INNER_SPREAD = 4.65, 3.29  # p99 - p1 and p95 - p5 of a normal distribution, in standard deviations
TAIL_MAX = 4.7  # times that the one is the other, in standard deviations, in any frame of the training sets


class Normalised(NamedTuple):
    """Frames as the network takes them, and the way back: level = centre + scale * value."""

    frames: Tensor
    """float32 (B, 1, H, W), zero median and about unit spread."""
    centre: Tensor
    """(B, 1, 1, 1), grey levels."""
    scale: Tensor
    """(B, 1, 1, 1), grey levels per unit."""


def grey_levels(frames: Tensor) -> tuple[Tensor, Tensor]:
    """Median and spread of raw frames (B, 1, H, W), each (B, 1, 1, 1) in grey levels.

    The spread is (p99 - p1) / 4.65, but no more than 4.7 times (p95 - p5) / 3.29. Percentiles are taken on a regular
    grid of about 16,384 pixels; they do not feel a target or a hot pixel.
    """
    height, width = frames.shape[-2:]
    stride = max(1, -(-int((height * width) ** 0.5) // int(SAMPLES_MAX**0.5)))
    samples = frames[..., ::stride, ::stride].flatten(1).float().sort(1).values
    last = int(samples.shape[1]) - 1  # a plain number, also while a graph is recorded
    lowest, low, centre, high, highest = (
        samples[:, round(q * last)].view(-1, 1, 1, 1) for q in (0.01, 0.05, 0.5, 0.95, 0.99)
    )
    spread = torch.minimum((highest - lowest) / SPREAD, TAIL_MAX / INNER_SPREAD * (high - low))
    return centre, spread.clamp(min=LEVELS_MIN)


def normalise(frames: Tensor) -> Normalised:
    """Raw frames (B, 1, H, W) of any depth to (level - median) / spread, frame by frame, within +-`UNITS_MAX`.

    The result is the same for any gain and offset of the camera, full or limited range. The bound is far above any
    target. The sun, or a dead or hot pixel of a 14-bit camera, is off by hundreds of units, which would be most of what
    the network sees in the frame: a pixel is brought to within `IMPULSE_MAX` of its neighbours, and what is large loses
    all that it has above `LARGE_MAX`, while points on it stay what they are.
    """
    centre, scale = grey_levels(frames)
    return Normalised(in_units(frames, centre, scale), centre, scale)


def normalise_image(image: Image, device: torch.device | str = "cpu") -> Normalised:
    """One image (H, W), normalised on a device."""
    return normalise(torch.from_numpy(np.ascontiguousarray(image))[None, None].to(device))


def in_units(frames: Tensor, centre: Tensor, scale: Tensor) -> Tensor:
    """Raw frames (B, 1, H, W), or parts of them, in the units of the whole frame's `grey_levels`; float32."""
    units = ((frames.float() - centre) / scale).clamp(-UNITS_MAX, UNITS_MAX)
    units = units - units.sign() * _opened((units.abs() - LARGE_MAX).clamp(min=0))
    around = F.pad(units, (1, 1, 1, 1), mode="reflect")
    cross = around[..., :-2, 1:-1], around[..., 2:, 1:-1], around[..., 1:-1, :-2], around[..., 1:-1, 2:]
    highest, lowest = reduce(torch.maximum, cross), reduce(torch.minimum, cross)
    return torch.clamp(units, lowest - IMPULSE_MAX, highest + IMPULSE_MAX)


def _opened(image: Tensor) -> Tensor:
    """Grey opening of (B, 1, H, W) by 5x5 pixels: what is bright and narrower is gone."""
    return _highest(-_highest(-image))


def _highest(image: Tensor) -> Tensor:
    """The highest of the 5x5 pixels round each of (B, 1, H, W); 20 times as fast on a CPU as pooling is."""
    found = F.pad(image, (2, 2, 2, 2), mode="replicate")
    for axis in (-1, -2):
        size = found.shape[axis]
        two = torch.maximum(found.narrow(axis, 0, size - 1), found.narrow(axis, 1, size - 1))
        four = torch.maximum(two.narrow(axis, 0, size - 3), two.narrow(axis, 2, size - 3))
        found = torch.maximum(four.narrow(axis, 0, size - 4), found.narrow(axis, 4, size - 4))
    return found
