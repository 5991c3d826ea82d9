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
IMPULSE_MAX = 10.0  # units that a pixel may differ from all of its neighbours: no lens makes so sharp a point
SPREAD = 4.65  # p99 - p1 of a normal distribution, in standard deviations


class Normalised(NamedTuple):
    """Frames as the network takes them, and the way back: level = centre + scale * value."""

    frames: Tensor
    """float32 (B, 1, H, W), zero median and about unit spread."""
    centre: Tensor
    """(B, 1, 1, 1), grey levels."""
    scale: Tensor
    """(B, 1, 1, 1), grey levels per unit."""


def grey_levels(frames: Tensor) -> tuple[Tensor, Tensor]:
    """Median and spread (p99 - p1) / 4.65 of raw frames (B, 1, H, W), each (B, 1, 1, 1) in grey levels.

    Percentiles are taken on a regular grid of about 16,384 pixels; they do not feel a target or a hot pixel.
    """
    height, width = frames.shape[-2:]
    stride = max(1, -(-int((height * width) ** 0.5) // int(SAMPLES_MAX**0.5)))
    samples = frames[..., ::stride, ::stride].flatten(1).float().sort(1).values
    last = int(samples.shape[1]) - 1  # a plain number, also while a graph is recorded
    low, centre, high = (samples[:, round(q * last)].view(-1, 1, 1, 1) for q in (0.01, 0.5, 0.99))
    return centre, ((high - low) / SPREAD).clamp(min=LEVELS_MIN)


def normalise(frames: Tensor) -> Normalised:
    """Raw frames (B, 1, H, W) of any depth to (level - median) / spread, frame by frame, within +-`UNITS_MAX`.

    The result is the same for any gain and offset of the camera, full or limited range. The bound is far above any
    target. A dead or hot pixel of a 14-bit camera is off by hundreds of units, which would be most of what the network
    sees in the frame: it is brought to within `IMPULSE_MAX` of its neighbours.
    """
    centre, scale = grey_levels(frames)
    return Normalised(in_units(frames, centre, scale), centre, scale)


def normalise_image(image: Image, device: torch.device | str = "cpu") -> Normalised:
    """One image (H, W), normalised on a device."""
    return normalise(torch.from_numpy(np.ascontiguousarray(image))[None, None].to(device))


def in_units(frames: Tensor, centre: Tensor, scale: Tensor) -> Tensor:
    """Raw frames (B, 1, H, W), or parts of them, in the units of the whole frame's `grey_levels`; float32."""
    units = ((frames.float() - centre) / scale).clamp(-UNITS_MAX, UNITS_MAX)
    around = F.pad(units, (1, 1, 1, 1), mode="reflect")
    cross = around[..., :-2, 1:-1], around[..., 2:, 1:-1], around[..., 1:-1, :-2], around[..., 1:-1, 2:]
    highest, lowest = reduce(torch.maximum, cross), reduce(torch.minimum, cross)
    return torch.clamp(units, lowest - IMPULSE_MAX, highest + IMPULSE_MAX)
