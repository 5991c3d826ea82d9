"""Calibrations from flat fields: recordings of something that has one temperature all over the frame."""

from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

from irst_pipeline.calibration.defects import Mask, above_surroundings, find_defects, outliers, surroundings
from irst_pipeline.calibration.maps import Calibration, Defect
from irst_pipeline.errors import IrstError
from irst_pipeline.types import Floats, Image

STUCK = 0.1  # of the usual noise; a pixel with less does not respond
NOISE_MIN = 0.5  # grey levels; where there is less, rounding hides what noise a good pixel has
RESPONSES = (0.25, 4.0)  # of a pixel to a change of level, over the usual one; beyond these it is bad
RESPONSE_FLOOR = 1e-3  # of the usual response; a smaller spread of responses than this is none
CUT_OFF_MAX = 0.05  # of `cut_off`; more is no flat field to learn from
CONTRAST_MIN = 10.0  # between two flat fields, over the noise of one frame


class FlatField:
    """Mean and standard deviation of each pixel over the frames of a recording, in running sums of constant memory.

    What all pixels have in common, as when the whole field slowly warms up, does not count as noise.
    """

    FRAMES_MIN = 16

    def __init__(self, first: Image) -> None:
        self.count = 1
        self.depth = str(first.dtype)
        self._first = first.astype(np.float32)
        self._sum, self._squares = np.zeros(first.shape), np.zeros(first.shape)
        self._drift = 0.0

    def add(self, image: Image) -> None:
        """Another frame (H, W), of the same size and depth."""
        change = image - self._first
        drift = float(change.mean())
        change -= drift
        cv2.accumulate(change, self._sum)
        cv2.accumulateSquare(change, self._squares)
        self._drift += drift
        self.count += 1

    @property
    def level(self) -> float:
        """Grey levels, of the usual pixel."""
        return float(np.median(self.mean))

    @property
    def mean(self) -> Floats:
        """(H, W) grey levels."""
        return self._first + (self._sum + self._drift) / self.count

    @property
    def sd(self) -> Floats:
        """(H, W) grey levels."""
        squares = self._squares - self._sum**2 / self.count
        return np.sqrt(np.maximum(squares, 0) / max(self.count - 1, 1))


def calibrate_flat(fields: Sequence[FlatField]) -> Calibration:
    """A calibration from one flat field (offsets alone), or from two of different temperatures (gain and offset).

    With m a pixel's mean in a field and M the median of all pixels: offset = M - m from one; gain = (M2 - M1) / (m2 -
    m1) and offset = M1 - gain m1 from two (Perry and Dereniak, "Linear theory of nonuniformity correction in infrared
    staring sensors", Optical Engineering, 1993). Shading by the lens goes with the pattern.
    Raises IrstError, one line, for two fields of about one level.
    """
    first = fields[0]
    mean, level = first.mean, first.level
    bad, gain = _defects(first), np.ones_like(mean)
    for second in fields[1:]:
        response = _response(first, second)
        off = (response < RESPONSES[0]) | (response > RESPONSES[1]) | outliers(response, RESPONSE_FLOOR)
        for more in (_defects(second), np.where(off, Defect.GAIN, 0).astype(np.uint8)):
            bad = np.where(bad > 0, bad, more)
        gain = 1 / np.where(bad > 0, 1, response)
    return Calibration(gain.astype(np.float32), (level - gain * mean).astype(np.float32), bad, first.depth)


def flat_change(field: FlatField) -> float:
    """How much more than usual the most restless place of a field changes: 1.2 and less in a flat field, more where
    something moved over it."""
    sd = field.sd
    return float(surroundings(sd).max()) / max(float(np.median(sd)), NOISE_MIN)


def cut_off(field: FlatField) -> float:
    """Share of the pixels that are black or saturated: at the lowest or the highest level of a field while others vary,
    or nearly all at one level; some are bad pixels. 0 for a camera with so few levels that they hide its noise."""
    mean, sd = field.mean, field.sd
    levels = mean.min(), np.median(mean), mean.max()
    lowest, usual, highest = (np.isclose(mean, level, rtol=0, atol=1e-3) for level in levels)
    if np.mean(usual) >= 1 - CUT_OFF_MAX:  # the others are stuck, on either side of it
        return float(np.mean(usual))
    return float(max((np.mean(at) for at in (lowest, highest) if np.median(sd[~at]) >= NOISE_MIN), default=0.0))


def _defects(field: FlatField) -> NDArray[np.uint8]:
    sd = field.sd
    usual = float(np.median(sd))
    odd, loud = outliers(sd), above_surroundings(sd) > 0
    stuck: Mask = (sd < STUCK * usual) & (usual >= NOISE_MIN) | odd & ~loud
    return find_defects(field.mean, stuck, odd & loud)


def _response(first: FlatField, second: FlatField) -> Floats:
    """(H, W): by how much each pixel's level differs between two fields, over the median of all pixels."""
    change = second.mean - first.mean
    usual, noise = float(np.median(change)), float(np.median(first.sd))
    if abs(usual) < CONTRAST_MIN * max(noise, NOISE_MIN):
        raise IrstError(
            f"the second flat field is {abs(usual):.1f} grey levels from the first, with a noise of {noise:.1f}; "
            f"give two of clearly different temperatures"
        )
    return change / usual
