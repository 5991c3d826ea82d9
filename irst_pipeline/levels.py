"""Frames of any depth in 8 bits, for eyes and for algorithms that take no more."""

import cv2
import numpy as np
from numpy.typing import NDArray

from irst_pipeline.types import Floats, Image


def grid_step(image: Image | NDArray[np.float32], side: int = 64) -> int:
    """Of a grid of pixels of an image (H, W), some `side` of them along its shorter side."""
    return max(1, min(image.shape) // side)


def percentiles(image: Image | NDArray[np.float32], shares: tuple[float, float]) -> Floats:
    """Two percentiles of an image (H, W), grey levels, from some 5,000 of its pixels."""
    step = grid_step(image)
    levels = image[::step, ::step].ravel()
    ranks = np.rint(np.array(shares) / 100 * (len(levels) - 1)).astype(int)
    return np.partition(levels, ranks)[ranks].astype(np.float64)


def eight_bits(image: Image | NDArray[np.float32], black: float, white: float) -> NDArray[np.uint8]:
    """(H, W): `black` as 0 and `white` as 255; a range of less than a level is not stretched further."""
    floor = image.dtype.type(black if image.dtype == np.float32 else round(black))
    alpha = 255 / max(1.0, white - black)
    return np.asarray(cv2.convertScaleAbs(np.maximum(image, floor) - floor, alpha=alpha), np.uint8)
