"""Random crops for training, each a function of its generator alone."""

from typing import NamedTuple

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from irst_pipeline.datasets import HALF_MAXIMUM, MASKED, UNKNOWN, Sample
from irst_pipeline.lsnet.normalise import grey_levels, in_units

POSITIVE_SHARE = 0.85  # of the crops of a frame with targets, how many hold one
SCALED_SHARE, SCALE_MAX = 0.5, 2.0
NOISY_SHARE, NOISE_MAX = 0.3, 0.3  # in units of the normalised frame
STRETCH_MAX = 1.5
SHADE_GRID = 4  # levels drawn along each side of a crop, smooth between
SHADE_SD, SHADE_GAIN_SD = 0.5, 0.15  # units of the normalised frame; logarithm of the gain
PATCH_SIDE = (0.25, 0.75)  # of the crop's
PATCH_EDGE, PATCH_MIXED_MAX = 4.0, 0.05  # px of blur; share of the other crop where a pixel is still judged
OVERLAY_SHARE = (0.2, 0.7)  # of the other crop's contrast
OVERLAY_MARGIN = 3  # px round a target of the other crop that are not judged
IMPLANTS_MAX = 3
IMPLANT_SNR = (4.0, 14.0)  # peak over the local spread
IMPLANT_NOISE_MIN = 0.08  # units; below it lie the blocks that video compression makes of a clear sky
IMPLANT_MARGIN = 5  # px round an implant that count as its surroundings
POINT_SIGMA = (0.6, 1.8)  # px
CUT_OUT_EDGE = 1.0  # px, standard deviation of a cut-out's soft edge
CUT_OUT_SCALE_MAX = 1.6


class Crop(NamedTuple):
    """Float32 (S, S) each: normalised frame, mask in 0..1, weight 0 where a pixel is not to be judged."""

    frame: NDArray[np.float32]
    mask: NDArray[np.float32]
    weight: NDArray[np.float32]


class Shape(NamedTuple):
    """A target alone, (h, w) each."""

    level: NDArray[np.float32]
    """What it adds to a frame, its greatest 1."""
    mask: NDArray[np.bool_]


def random_crop(
    sample: Sample, size: int, implant: bool, shapes: list[Shape], settled: bool, rng: np.random.Generator
) -> Crop:
    """A `size` x `size` crop of a frame, normalised as the whole frame is, under random changes.

    It is turned, mirrored, stretched and shaded, and if not `settled` also perhaps scaled and made noisy. With
    `implant`, up to three targets of random strength are added where none is labelled: some of `shapes`, if not
    `settled` at another size, or points where there are none. A frame that is too small goes on as its mirror image,
    which is not judged.
    """
    scale = SCALE_MAX ** rng.uniform(-1, 1) if not settled and rng.random() < SCALED_SHARE else 1.0
    image, mask, weight = _resampled(_cut(sample, round(size / scale), rng), size)
    image = image * np.float32(STRETCH_MAX ** rng.uniform(-1, 1)) + np.float32(rng.normal(0, 0.1))
    image = image * np.exp(_smooth_field(size, SHADE_GAIN_SD, rng)) + _smooth_field(size, SHADE_SD, rng)
    if not settled and rng.random() < NOISY_SHARE:
        image = image + rng.normal(0, rng.uniform(0, NOISE_MAX), image.shape).astype(np.float32)
    crop = Crop(image, mask, weight)
    if implant:
        crop = _with_implants(crop, shapes, settled, rng)
    turns, mirror = int(rng.integers(4)), bool(rng.integers(2))
    planes = (np.rot90(plane[:, ::-1] if mirror else plane, turns) for plane in crop)
    return Crop(*(np.ascontiguousarray(plane, np.float32) for plane in planes))


def _cut(sample: Sample, window: int, rng: np.random.Generator) -> Crop:
    """A `window` x `window` piece of a frame, normalised as the whole frame is.

    A smaller frame goes on as its mirror image, which is not judged.
    """
    missing = [(0, max(0, window - side)) for side in sample.image.shape]
    levels = grey_levels(torch.from_numpy(sample.image)[None, None])
    whole, marks = np.pad(sample.image, missing, "symmetric"), np.pad(sample.mask, missing, constant_values=UNKNOWN)
    y, x = _corner(marks, window, rng)
    cut, labels = (plane[y : y + window, x : x + window] for plane in (whole, marks))
    image = in_units(torch.from_numpy(cut.copy())[None, None], *levels)[0, 0].numpy()
    return Crop(image, (labels == MASKED).astype(np.float32), (labels != UNKNOWN).astype(np.float32))


def _resampled(crop: Crop, size: int) -> Crop:
    """The crop at `size` x `size`."""
    window = len(crop.frame)
    if window == size:
        return crop
    how = cv2.INTER_AREA if window > size else cv2.INTER_LINEAR
    image, mask, weight = (np.asarray(cv2.resize(plane, (size, size), interpolation=how), np.float32) for plane in crop)
    return Crop(image, (mask >= 0.5).astype(np.float32), (weight >= 0.5).astype(np.float32))


def patched(crop: Crop, other: Crop, rng: np.random.Generator) -> Crop:
    """The crop with a rectangle of another one as large laid over it: targets and clutter in surroundings of which
    neither was recorded (after CutMix, Yun et al., 2019). They blend at its edges, where nothing is judged."""
    size = len(crop.frame)
    height, width = (round(size * share) for share in rng.uniform(*PATCH_SIDE, 2))
    y, x = rng.integers(size - height + 1), rng.integers(size - width + 1)
    inside = np.zeros((size, size), np.float32)
    inside[y : y + height, x : x + width] = 1
    share = cv2.GaussianBlur(inside, (0, 0), PATCH_EDGE)
    frame = crop.frame + share * (other.frame - crop.frame)
    mask, weight = (np.where(inside > 0, above, below) for below, above in zip(crop[1:], other[1:], strict=True))
    return Crop(frame, mask, weight * (np.abs(share - inside) < PATCH_MIXED_MAX))


def overlaid(crop: Crop, other: Crop, rng: np.random.Generator) -> Crop:
    """The crop with another one as large shining through it: the same targets before clutter that was never recorded.

    The other's targets, fainter than they were, are not judged.
    """
    faint = cv2.dilate(other.mask, np.ones((2 * OVERLAY_MARGIN + 1,) * 2))
    frame = crop.frame + np.float32(rng.uniform(*OVERLAY_SHARE)) * other.frame
    return Crop(frame, crop.mask, crop.weight * np.where(crop.mask > 0, 1, other.weight * (faint == 0)))


def _smooth_field(size: int, sd: float, rng: np.random.Generator) -> NDArray[np.float32]:
    """A slowly changing (size, size) field of about the standard deviation `sd`."""
    levels = rng.normal(0, sd, (SHADE_GRID, SHADE_GRID)).astype(np.float32)
    return np.asarray(cv2.resize(levels, (size, size), interpolation=cv2.INTER_CUBIC), np.float32)


def _corner(mask: NDArray[np.uint8], window: int, rng: np.random.Generator) -> tuple[int, int]:
    """Top left corner of a window; most times one that holds a target."""
    height, width = mask.shape
    limit_y, limit_x = height - window, width - window
    rows, columns = np.nonzero(mask == MASKED)
    if len(rows) and rng.random() < POSITIVE_SHARE:
        pick = rng.integers(len(rows))
        y, x = rows[pick] - rng.integers(window), columns[pick] - rng.integers(window)
        return int(np.clip(y, 0, limit_y)), int(np.clip(x, 0, limit_x))
    return int(rng.integers(limit_y + 1)), int(rng.integers(limit_x + 1))


def cut_outs(sample: Sample) -> list[Shape]:
    """The targets of a frame that are bright on the whole, each less the median of its surroundings, its edge soft."""
    count, components, boxes, _ = cv2.connectedComponentsWithStats((sample.mask == MASKED).astype(np.uint8))
    shapes = []
    for label in range(1, count):
        x, y, width, height = (int(n) for n in boxes[label, :4])
        around = _around(y, x, height, width)
        image, mask = sample.image[around].astype(np.float32), components[around] == label
        soft = cv2.dilate(mask.astype(np.float32), np.ones((3, 3)))
        surroundings = (soft == 0) & (components[around] == 0)
        if not surroundings.any():
            continue
        level = (image - np.median(image[surroundings])) * cv2.GaussianBlur(soft, (0, 0), CUT_OUT_EDGE)
        if level.sum() > 0:
            shapes.append(Shape(level / level.max(), mask))
    return shapes


def _around(y: int, x: int, height: int, width: int) -> tuple[slice, slice]:
    """A box and its surroundings, where the frame holds them."""
    rows, columns = (
        slice(max(0, at - IMPLANT_MARGIN), at + side + IMPLANT_MARGIN) for at, side in ((y, height), (x, width))
    )
    return rows, columns


def _point(rng: np.random.Generator) -> Shape:
    """A Gaussian, marked where it reaches half of its peak."""
    offsets = np.arange(-7, 8)
    away_y, away_x = (offsets - shift for shift in rng.uniform(-0.5, 0.5, 2))
    sigma_y, sigma_x = rng.uniform(*POINT_SIGMA) * np.exp(rng.normal(0, 0.2, 2))
    level = np.exp(-0.5 * ((away_y[:, None] / sigma_y) ** 2 + (away_x / sigma_x) ** 2)).astype(np.float32)
    return Shape(level, level >= HALF_MAXIMUM)


def _resized(shape: Shape, rng: np.random.Generator) -> Shape:
    """The shape at another size, each axis its own."""
    height, width = shape.mask.shape
    scales = CUT_OUT_SCALE_MAX ** rng.uniform(-1, 1, 2)
    size = max(1, round(width * scales[0])), max(1, round(height * scales[1]))
    level, mask = (
        np.asarray(cv2.resize(plane.astype(np.float32), size, interpolation=cv2.INTER_AREA), np.float32)
        for plane in shape
    )
    return Shape(level / level.max(), mask >= HALF_MAXIMUM)


def _with_implants(crop: Crop, shapes: list[Shape], settled: bool, rng: np.random.Generator) -> Crop:
    """The crop with targets added, as strong as their surroundings ask, where there is room for them."""
    image, mask, weight = crop.frame.copy(), crop.mask.copy(), crop.weight
    for _ in range(int(rng.integers(1, IMPLANTS_MAX + 1))):
        shape = shapes[rng.integers(len(shapes))] if shapes else _point(rng)
        if shapes and not settled:
            shape = _resized(shape, rng)
        height, width = shape.mask.shape
        if max(height, width) > len(image) - 2 * IMPLANT_MARGIN or not shape.mask.any():
            continue
        y, x = (int(rng.integers(len(image) - side + 1)) for side in (height, width))
        place = np.s_[y : y + height, x : x + width]
        if mask[place].any() or not weight[place].all():
            continue
        # Clutter is what the eye, too, must tell the target from: strength is set against the local spread.
        around = _around(y, x, height, width)
        strength = rng.uniform(*IMPLANT_SNR) * max(float(image[around].std()), IMPLANT_NOISE_MIN)
        image[place] += np.float32(strength) * shape.level
        mask[place][shape.mask] = 1
    return Crop(image, mask, weight)
