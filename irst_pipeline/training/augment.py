"""Random crops for training, each a function of its generator alone."""

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from irst_pipeline.datasets import MASKED, UNKNOWN, Sample

POSITIVE_SHARE = 0.85  # of the crops of a frame with targets, how many hold one
SCALED_SHARE, SCALE_MAX = 0.3, 2.0
NOISY_SHARE, NOISE_MAX = 0.3, 0.3  # in units of the normalised frame
STRETCH_MAX = 1.5
IMPLANTS_MAX = 3
IMPLANT_SNR = (4.5, 14.0)  # peak over the local spread
IMPLANT_NOISE_MIN = 0.08  # units; below it lie the blocks that video compression makes of a clear sky


@dataclass(frozen=True)
class Crop:
    """Float32 (S, S) each: normalised frame, mask in 0..1, weight 0 where a pixel is not to be judged."""

    frame: NDArray[np.float32]
    mask: NDArray[np.float32]
    weight: NDArray[np.float32]


def random_crop(sample: Sample, size: int, implant: bool, rng: np.random.Generator) -> Crop:
    """A `size` x `size` crop of a frame, normalised as the whole frame is, under random changes.

    It is scaled, turned, mirrored, stretched and perhaps made noisy. With `implant`, up to three point targets of
    random strength and blur are added where none is labelled.
    """
    scale = SCALE_MAX ** rng.uniform(-1, 1) if rng.random() < SCALED_SHARE else 1.0
    window = min(round(size / scale), *sample.image.shape)
    y, x = _corner(sample.mask, window, rng)
    centre, spread = sample.levels
    image = (sample.image[y : y + window, x : x + window].astype(np.float32) - centre) / spread
    labels = sample.mask[y : y + window, x : x + window]
    mask, weight = (labels == MASKED).astype(np.float32), (labels != UNKNOWN).astype(np.float32)
    if window != size:
        shrink = cv2.INTER_AREA if window > size else cv2.INTER_LINEAR
        image, mask, weight = (
            np.asarray(cv2.resize(plane, (size, size), interpolation=shrink), np.float32)
            for plane in (image, mask, weight)
        )
        mask, weight = (mask >= 0.5).astype(np.float32), (weight >= 0.5).astype(np.float32)
    image = image * np.float32(STRETCH_MAX ** rng.uniform(-1, 1)) + np.float32(rng.normal(0, 0.1))
    if rng.random() < NOISY_SHARE:
        image = image + rng.normal(0, rng.uniform(0, NOISE_MAX), image.shape).astype(np.float32)
    if implant:
        image, mask = _implant(image, mask, weight, rng)
    turns, mirror = int(rng.integers(4)), bool(rng.integers(2))
    planes = (np.rot90(plane[:, ::-1] if mirror else plane, turns) for plane in (image, mask, weight))
    return Crop(*(np.ascontiguousarray(plane, np.float32) for plane in planes))


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


def _implant(
    image: NDArray[np.float32], mask: NDArray[np.float32], weight: NDArray[np.float32], rng: np.random.Generator
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Add Gaussian point targets, labelled where they reach half of their peak, as strong as their surroundings ask."""
    size = image.shape[0]
    rows, columns = np.mgrid[0:size, 0:size].astype(np.float32)
    image, mask = image.copy(), mask.copy()
    for _ in range(int(rng.integers(1, IMPLANTS_MAX + 1))):
        y, x = rng.uniform(4, size - 4, 2)
        sigma_y, sigma_x = rng.uniform(0.6, 1.8) * np.exp(rng.normal(0, 0.2, 2))
        near = np.s_[max(0, int(y) - 7) : int(y) + 8, max(0, int(x) - 7) : int(x) + 8]
        if mask[near].any() or not weight[near].all():
            continue
        # Clutter is what the eye, too, must tell the target from: strength is set against the local spread.
        strength = rng.uniform(*IMPLANT_SNR) * max(float(image[near].std()), IMPLANT_NOISE_MIN)
        blob = np.exp(-0.5 * (((rows - y) / sigma_y) ** 2 + ((columns - x) / sigma_x) ** 2))
        image += np.float32(strength) * blob
        mask[blob >= 0.5] = 1
    return image, mask
