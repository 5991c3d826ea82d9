"""Which pixels are bad, from what each does over time compared with those around it."""

import cv2
import numpy as np
from numpy.typing import NDArray

from irst_pipeline.calibration.maps import Defect
from irst_pipeline.types import Floats

OUTLIER_SD = 8.0  # from the pixels around it, in robust standard deviations of all such distances: a bad pixel
SURROUNDINGS_PX = 5
SD_OF_MAD = 1.4826  # of a normal distribution
FLOOR = 0.1  # grey levels; a smaller spread than this is rounding

Mask = NDArray[np.bool_]
"""(H, W)"""


def surroundings(values: Floats) -> Floats:
    """(H, W): the median of the 5 x 5 values about each, which a single bad pixel does not change."""
    return np.asarray(cv2.medianBlur(values.astype(np.float32), SURROUNDINGS_PX), np.float64)


def above_surroundings(values: Floats) -> Floats:
    """(H, W): each value less that of its surroundings."""
    return values - surroundings(values)


def outliers(values: Floats, floor: float = FLOOR) -> Mask:
    """Where a value (H, W) differs from its surroundings by more than 8 robust standard deviations of all such
    differences; the standard deviation is taken to be `floor` at least."""
    distance = np.abs(above_surroundings(values))
    return distance > OUTLIER_SD * max(SD_OF_MAD * float(np.median(distance)), floor)


def find_defects(level: Floats, stuck: Mask, blinking: Mask) -> NDArray[np.uint8]:
    """Map (H, W) of `Defect`, 0 for good pixels: what is stuck, what blinks, and what is far off in its `level`."""
    hot = above_surroundings(level) > 0
    off = np.where(hot, Defect.HOT, Defect.DEAD)
    return np.select([stuck, blinking, outliers(level)], [off, Defect.BLINKING, off], 0).astype(np.uint8)
