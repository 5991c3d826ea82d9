"""The one normalisation of frames, in training and in running alike."""

import math
from collections.abc import Callable
from functools import reduce
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from irst_pipeline.lsnet.threads import one_thread
from irst_pipeline.types import Image

SAMPLES_MAX = 16384
LEVELS_MIN = 1.0  # grey levels; a flatter frame than this is not stretched further
UNITS_MAX = 200.0
LINEAR_MAX, SQUEEZED_BY = 25.0, 5.0  # units: what is over the former is squeezed, to half its slope over their sum
OVER_MAX = SQUEEZED_BY * math.log1p((UNITS_MAX - LINEAR_MAX) / SQUEEZED_BY)  # squeezed units over `LINEAR_MAX`
LARGE_MAX = 20.0  # units that are left of what is larger than a point: no background trained on has more
IMPULSE_MAX = 10.0  # units that a pixel may differ from all of its neighbours: no lens makes so sharp a point
SPREAD, INNER_SPREAD = 4.65, 3.29  # p99 - p1 and p95 - p5 of a normal distribution, in standard deviations
OUTLYING = 30.0  # standard deviations by the latter, beyond which a level says nothing of the frame's spread
GLARE_MIN = 15.0  # units: what is as far off over 9x9 px, the most that the field calls a small target, glares
GLARE_STEP = 3  # px from one pixel that is looked at for it to the next
GLARE_LEFT = 1.0  # units that are left of it, and of its halo to some 10 px from it
STROKE, TEXT = 5, (3, 8)  # rows and columns of `GLARE_STEP` px that no target fills, but a reticle or a word does


class Normalised(NamedTuple):
    """Frames as the network takes them, and the way back: level = centre + scale * value, up to `LINEAR_MAX`."""

    frames: Tensor
    """float32 (B, 1, H, W), zero median and about unit spread; squeezed where they are over `LINEAR_MAX`."""
    centre: Tensor
    """(B, 1, 1, 1), grey levels."""
    scale: Tensor
    """(B, 1, 1, 1), grey levels per unit."""


def grey_levels(frames: Tensor) -> tuple[Tensor, Tensor]:
    """Median and spread of raw frames (B, 1, H, W), each (B, 1, 1, 1) in grey levels.

    The spread is (p99 - p1) / 4.65 of the levels that are no further from the median than `OUTLYING` times
    (p95 - p5) / 3.29 of all: neither targets and hot pixels are felt in it nor the sun. Percentiles are those of a
    regular grid of about 16,384 pixels.
    """
    height, width = frames.shape[-2:]
    stride = max(1, -(-int((height * width) ** 0.5) // int(SAMPLES_MAX**0.5)))
    samples = frames[..., ::stride, ::stride].flatten(1).float().sort(1).values

    def level(share: float, dark: Tensor, bright: Tensor) -> Tensor:
        """(B, 1) the percentile but for so many (B, 1) of the darkest and of the brightest."""
        rank = dark + torch.round(share * (samples.shape[1] - 1 - dark - bright))
        return samples.gather(1, rank.long())

    none = torch.zeros_like(samples[:, :1])
    low, middle, high = (level(share, none, none) for share in (0.05, 0.5, 0.95))
    usual = OUTLYING / INNER_SPREAD * (high - low).clamp(min=LEVELS_MIN)
    dark, bright = ((side > usual).sum(1, keepdim=True) for side in (middle - samples, samples - middle))
    lowest, centre, highest = (level(share, dark, bright).view(-1, 1, 1, 1) for share in (0.01, 0.5, 0.99))
    return centre, ((highest - lowest) / SPREAD).clamp(min=LEVELS_MIN)


def normalise(frames: Tensor) -> Normalised:
    """Raw frames (B, 1, H, W) of any depth to (level - median) / spread, frame by frame, within +-`UNITS_MAX`.

    The result is the same for any gain and offset of the camera, full or limited range. The bound is far above any
    target. The sun, or a dead or hot pixel of a 14-bit camera, is off by hundreds of units, which would be most of what
    the network sees in the frame: a pixel is brought to within `IMPULSE_MAX` of its neighbours, and what is large loses
    all that it has above `LARGE_MAX`, or where something glares all but `GLARE_LEFT`. Bright points on it stay what
    they are, but for those on the slope of what glares, where its own narrow parts look like points. At last what is
    over `LINEAR_MAX` is squeezed, for a point of a hundred units would be most of what the network sees as well. Of
    text and of a reticle, which a recorder writes into the picture, no more than `GLARE_LEFT` stays.
    """
    centre, scale = grey_levels(frames)
    return Normalised(in_units(frames, centre, scale), centre, scale)


def normalise_image(image: Image, device: torch.device | str = "cpu") -> Normalised:
    """One image (H, W), normalised on a device."""
    with one_thread():
        return normalise(torch.from_numpy(np.ascontiguousarray(image))[None, None].to(device))


def in_units(frames: Tensor, centre: Tensor, scale: Tensor) -> Tensor:
    """Raw frames (B, 1, H, W), or parts of them, in the units of the whole frame's `grey_levels`; float32."""
    units = (frames.float() - centre).div_(scale).clamp_(-UNITS_MAX, UNITS_MAX)
    recorded = not units.is_cpu or torch.onnx.is_in_onnx_export()  # for other frames as well
    if not recorded and units.abs().max() <= GLARE_MIN:
        return _without_impulses(units)  # of such a frame the rest changes nothing
    return _squeezed(_without_impulses(_without_glare(units)))


def target_units(background: Tensor, target: Tensor) -> Tensor:
    """What the network's T (B, 1, H, W) adds to its B, likewise, in units that are not squeezed."""
    return _stretched(background + target) - _stretched(background)


def _squeezed(units: Tensor) -> Tensor:
    """With the logarithm of what is over `LINEAR_MAX`, where its slope is one. Nothing is as far below zero."""
    over = F.relu(units - LINEAR_MAX)
    return units - over + SQUEEZED_BY * torch.log1p(over / SQUEEZED_BY)


def _stretched(units: Tensor) -> Tensor:
    """What was squeezed as it was. The network may add up to more than a frame can have, which is not stretched."""
    over = (units - LINEAR_MAX).clamp(0, OVER_MAX)
    return units - over + SQUEEZED_BY * (torch.exp(over / SQUEEZED_BY) - 1)


def _without_glare(units: Tensor) -> Tensor:
    """What is large and far off brought nearer, with the points on it, and what is written into the picture; `units` is
    changed."""
    glare = _eroded((units[..., ::GLARE_STEP, ::GLARE_STEP].abs() > GLARE_MIN).float(), 3, "constant")
    near = _enlarged(_dilated(glare, 9), units)
    limit = LARGE_MAX + (GLARE_LEFT - LARGE_MAX) * near
    large = _opened(units, (5, 5), "replicate")  # without the points that are brighter than what they stand on
    overlay = _enlarged(_overlay(units, large), units)
    units += torch.clamp(large, -limit, limit) - large
    slope = near * (_dilated(large.abs(), 5) - large.abs() > GLARE_MIN)
    bound = UNITS_MAX + (GLARE_LEFT - UNITS_MAX) * torch.maximum(slope, overlay)
    return torch.clamp(units, -bound, bound)


def _overlay(units: Tensor, large: Tensor) -> Tensor:
    """1 in and round bright strokes and lines of text, as a recorder writes them into the picture, and 0 elsewhere.

    A value for each `GLARE_STEP` x `GLARE_STEP` px. They are so bright before most of the frame, and before what is
    `large` (B, 1, H, W). A stroke is unbroken, which targets in a row are not, and less than 3 px wide, as no ship is.
    """
    highest, lowest = torch.maximum, torch.minimum
    bright = (units - F.relu(large) > GLARE_MIN).float()
    thin = (units - F.relu(_opened(units, (3, 3), "replicate")) > GLARE_MIN).float()
    letters = _reduced(_reduced(bright, -1, highest), -2, highest)
    across = _opened(_reduced(_reduced(thin, -2, highest), -1, lowest), (1, STROKE), "constant")
    upright = _opened(_reduced(_reduced(thin, -1, highest), -2, lowest), (STROKE, 1), "constant")
    words = _opened(_eroded(_dilated(letters, 3), 3, "replicate"), TEXT, "constant")
    return _dilated(reduce(highest, (across, upright, words)), 3)


def _reduced(image: Tensor, axis: int, of_two: Callable[[Tensor, Tensor], Tensor]) -> Tensor:
    """One value for every `GLARE_STEP` along an axis of (B, 1, H, W), beyond whose end there are zeros."""
    missing = -image.shape[axis] % GLARE_STEP
    whole = F.pad(image, (0, missing) if axis == -1 else (0, 0, 0, missing))
    steps = range(GLARE_STEP)
    return reduce(of_two, [whole[..., i::GLARE_STEP] if axis == -1 else whole[..., i::GLARE_STEP, :] for i in steps])


def _enlarged(image: Tensor, like: Tensor) -> Tensor:
    """Each value for `GLARE_STEP` x `GLARE_STEP` px of an image (B, 1, H, W)."""
    return F.interpolate(image, scale_factor=float(GLARE_STEP))[..., : like.shape[-2], : like.shape[-1]]


def _without_impulses(units: Tensor) -> Tensor:
    """Each pixel brought to within `IMPULSE_MAX` of its four neighbours."""
    around = F.pad(units, (1, 1, 1, 1), mode="reflect")
    cross = around[..., :-2, 1:-1], around[..., 2:, 1:-1], around[..., 1:-1, :-2], around[..., 1:-1, 2:]
    highest, lowest = reduce(torch.maximum, cross), reduce(torch.minimum, cross)
    return torch.clamp(units, lowest - IMPULSE_MAX, highest + IMPULSE_MAX)


def _eroded(image: Tensor, side: int, border: str) -> Tensor:
    """The lowest in the square of `side` pixels, an odd number, round each of (B, 1, H, W).

    `border`, of `torch.nn.functional.pad`, says what there is outside.
    """
    return _extreme(F.pad(image, (side // 2,) * 4, mode=border), (side, side), torch.minimum)


def _dilated(image: Tensor, side: int) -> Tensor:
    """The highest, likewise, of what is inside."""
    return _extreme(F.pad(image, (side // 2,) * 4, mode="replicate"), (side, side), torch.maximum)


def _opened(image: Tensor, sides: tuple[int, int], border: str) -> Tensor:
    """The highest of the lowest of all rectangles of (height, width) with the pixel, of (B, 1, H, W).

    Those partly outside count as well, where `border` says what there is, as for `_eroded`: without them a dark pixel
    near the border would spread to it, and the image be far above its opening there.
    """
    height, width = sides
    around = F.pad(image, (width - 1, width - 1, height - 1, height - 1), mode=border)
    return _extreme(_extreme(around, sides, torch.minimum), sides, torch.maximum)


def _extreme(found: Tensor, sides: tuple[int, int], of_two: Callable[[Tensor, Tensor], Tensor]) -> Tensor:
    """Of every rectangle of (height, width) that is inside. On a CPU many times as fast as pooling is."""
    for axis, side in zip((-2, -1), sides, strict=True):
        reach = 1
        while reach < side:
            step = min(reach, side - reach)
            rest = found.shape[axis] - step
            found = of_two(found.narrow(axis, 0, rest), found.narrow(axis, step, rest))
            reach += step
    return found
