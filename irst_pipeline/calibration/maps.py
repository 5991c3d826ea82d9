"""The maps of one camera: gain and offset of every pixel, and which pixels are bad."""

from dataclasses import dataclass
from enum import IntEnum
from functools import cached_property
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy.spatial import KDTree

from irst_pipeline.types import Image, Integers, Map

NEIGHBOURS = 8  # good pixels that stand in for a bad one
DEPTHS = {"uint8": cv2.CV_8U, "uint16": cv2.CV_16U}


class Defect(IntEnum):
    """Why a pixel is bad; 0 in a map is a good one."""

    DEAD = 1
    """It does not respond, or hardly, or far too low."""
    HOT = 2
    """It is stuck far above the others, or stands out above them."""
    BLINKING = 3
    """It changes far more from frame to frame than others."""
    GAIN = 4
    """It responds far more, or far less, to the same change of level."""


class Replacement(NamedTuple):
    """How n bad pixels become the mean of the 8 good ones nearest to each, weighted by one over the squared distance:
    those around it, or around the cluster that it is in."""

    places: Integers
    """(n,) y * width + x of the bad pixels."""
    sources: Integers
    """(n, k) the same of the good ones nearest to each."""
    weights: NDArray[np.float32]
    """(n, k), of sum 1."""

    @classmethod
    def of(cls, bad: NDArray[np.bool_]) -> "Replacement":
        """Of the pixels that are bad in a map (H, W)."""
        good = np.flatnonzero(~bad)
        nearest = range(1, min(NEIGHBOURS, len(good)) + 1)
        distance, rows = KDTree(np.argwhere(~bad)).query(np.argwhere(bad), nearest)
        weights = 1 / np.square(distance)
        weights /= weights.sum(1, keepdims=True)
        return cls(np.flatnonzero(bad), good[rows], weights.astype(np.float32))

    def fill(self, image: Image) -> None:
        """Fill in a contiguous image (H, W), in place, to whole levels."""
        levels = image.reshape(-1)
        levels[self.places] = np.rint((levels[self.sources] * self.weights).sum(1))


@dataclass(frozen=True)
class Calibration:
    """What makes an even scene look even: level = gain * raw level + offset, and bad pixels filled in.

    It belongs to a camera with its lens and settings, to frames of one size, and to their depth.
    """

    gain: Map
    """(H, W) float32."""
    offset: Map
    """(H, W) float32, grey levels."""
    bad: NDArray[np.uint8]
    """(H, W): 0 for a good pixel, or a `Defect`. A bad pixel's gain and offset do not count."""
    depth: str
    """uint8 or uint16: the frames that it is for."""

    @property
    def frames(self) -> str:
        """The frames that it is for, as 640x512 uint16."""
        height, width = self.bad.shape
        return f"{width}x{height} {self.depth}"

    def correction(self, level: float) -> Map:
        """(H, W) grey levels that are added to a raw `level`."""
        return self.gain * np.float32(level) + self.offset - np.float32(level)

    def apply(self, image: Image) -> Image:
        """A raw frame (H, W) of this size and depth, corrected; of the same depth, in the camera's own levels.

        Levels are rounded to the nearest whole one and clipped to the range of the depth, so what is less than half a
        level is left as it is. Bad pixels are filled in.
        """
        scaled = cv2.multiply(image, self.gain, dtype=cv2.CV_32F)
        corrected: Image = np.asarray(cv2.add(scaled, self.offset, dtype=DEPTHS[self.depth]), self.depth)
        self._replacement.fill(corrected)
        return corrected

    @cached_property
    def _replacement(self) -> Replacement:
        return Replacement.of(self.bad > 0)
