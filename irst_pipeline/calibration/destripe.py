"""Stripes: offsets that whole columns or rows of one frame have in common."""

import cv2
import numpy as np

from irst_pipeline.config import Stripes
from irst_pipeline.types import Image

REACH_PX = 31  # across the stripes; what is wider than this is the scene's
SAMPLES = 64  # along a stripe, from which its middle is found
OUTLIER_SD = 3.0  # px farther from the middle of their stripe are something else
SD_OF_MAD = 1.4826  # of a normal distribution


def destripe(image: Image, stripes: Stripes) -> Image:
    """A frame (H, W) without its stripes along `stripes`: columns, rows, or off; of the same depth.

    Each pixel is compared with the mean of the 31 about it across the stripes. A stripe's offset is the mean of these
    differences along it, of those within 3 standard deviations of their median: so targets, bad pixels and edges that
    cross less than about half of a stripe do not count. Something of the scene that is narrow and runs along most of
    the frame, as a mast does, is taken for a stripe. Levels are rounded to the nearest whole one.
    """
    if stripes == "off":
        return image
    along = 0 if stripes == "columns" else 1
    reach = (REACH_PX, 1) if stripes == "columns" else (1, REACH_PX)
    levels = image.astype(np.float32)
    differences = levels - np.asarray(cv2.blur(levels, reach))
    step = max(1, image.shape[along] // SAMPLES)
    sample = differences[::step] if stripes == "columns" else differences[:, ::step]
    middle = np.median(sample, axis=along, keepdims=True)
    spread = SD_OF_MAD * np.median(np.abs(sample - middle))
    belongs = np.abs(differences - middle) <= max(OUTLIER_SD * spread, 0.5)
    counts = belongs.sum(axis=along, keepdims=True, dtype=np.float32)
    offset = np.where(belongs, differences, 0).sum(axis=along, keepdims=True) / np.maximum(counts, 1)
    limits = np.iinfo(image.dtype)
    return np.clip(np.rint(levels - offset), limits.min, limits.max).astype(image.dtype)
