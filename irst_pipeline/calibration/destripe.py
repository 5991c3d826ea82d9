"""Stripes: offsets that whole columns or rows of one frame have in common."""

import cv2
import numpy as np

from irst_pipeline.calibration.defects import SD_OF_MAD
from irst_pipeline.calibration.maps import DEPTHS
from irst_pipeline.config import Stripes
from irst_pipeline.types import Image, Map

SIDE_PX = 15  # that a stripe is compared with on either side; what is wider than both is the scene's
LINES = 96  # across the stripes are looked at, which are some of a large frame
OUTLIER_SD = 3.0
ROUNDS = 3  # in which outliers are left out


def destripe(image: Image, stripes: Stripes) -> Image:
    """A frame (H, W) without its stripes, which are columns or rows; of the same depth.

    Levels are rounded to the nearest whole one, and clipped to the range of the depth.
    """
    if stripes == "off":
        return image
    columns = stripes == "columns"
    offsets = stripe_offsets(image if columns else image.T)
    pattern = np.broadcast_to(offsets if columns else offsets[:, None], image.shape)
    depth = str(image.dtype)
    found: Image = np.asarray(cv2.subtract(image, np.ascontiguousarray(pattern), dtype=DEPTHS[depth]), depth)
    return found


def stripe_offsets(image: Image) -> Map:
    """(W,) grey levels by which each column of a frame (H, W) is above the 15 columns on either side of it.

    In some 96 rows each pixel is compared with the mean of the pixels on either side, and a column's offset is the mean
    of these differences. Left out are rows in which the difference, or that of one side to the other, is farther from
    the column's middle than 3 standard deviations of the noise: targets, bad pixels, and edges of the scene, unless
    they run along most of the column, as a mast may.
    """
    lines = np.ascontiguousarray(image[:: max(1, len(image) // LINES)], np.float32)
    width = lines.shape[1]
    padded = cv2.copyMakeBorder(lines, 0, 0, SIDE_PX, SIDE_PX, cv2.BORDER_REFLECT_101)
    means = np.asarray(cv2.blur(padded, (SIDE_PX, 1)))
    near = SIDE_PX // 2 + 1  # to the middle of a side
    left, right = (means[:, SIDE_PX + shift :][:, :width] for shift in (-near, near))
    noise = SD_OF_MAD / np.sqrt(2) * float(np.median(np.abs(np.diff(lines, axis=0))))
    parts = np.stack([lines - (left + right) / 2, left - right])
    middle = np.median(parts, axis=1, keepdims=True)
    for _ in range(ROUNDS):
        belongs = (np.abs(parts - middle) <= max(OUTLIER_SD * noise, 0.5)).all(0)
        count = np.maximum(belongs.sum(0), 1)
        middle = (parts * belongs).sum(1, keepdims=True) / count
    return np.asarray(middle[0, 0], np.float32)
