"""Automatic gain control: frames of any depth as pictures of 8 bits, for eyes."""

from typing import Any, Protocol

import cv2
import numpy as np
from numpy.typing import NDArray

from irst_pipeline.config import VideoSettings
from irst_pipeline.levels import eight_bits, grid_step, percentiles
from irst_pipeline.types import Floats, Image

Picture = NDArray[np.uint8]

TILES = (8, 8)
HISTOGRAM_SIDE = 128  # px along the shorter side of a frame are enough for its histogram


class ToneCurve(Protocol):
    """How grey levels become brightness, given some numbers taken from frames, which may be averaged over time."""

    def measure(self, image: Image) -> Floats:
        """The numbers of one frame (H, W)."""

    def shift(self, numbers: Floats, now: Floats) -> float:
        """How much too bright or too dark, of 255, a frame as a whole is by these `numbers`; `now` are its own."""

    def show(self, image: Image, numbers: Floats) -> Picture:
        """(H, W) uint8 of a frame (H, W)."""


class PercentileCurve:
    """Even between two percentiles of the levels, which become black and white."""

    def __init__(self, shares: tuple[float, float]) -> None:
        self._shares = shares

    def measure(self, image: Image) -> Floats:
        return percentiles(image, self._shares)

    def shift(self, numbers: Floats, now: Floats) -> float:
        off = now - numbers  # in one direction at both ends: a hot target moves only one
        return 255 * max(off.min(), -off.max(), 0.0) / max(1.0, min(np.ptp(now), np.ptp(numbers)))

    def show(self, image: Image, numbers: Floats) -> Picture:
        return eight_bits(image, *numbers)


class PlateauCurve:
    """Plateau equalisation: brightness is the cumulative histogram of the levels, in which none counts for more than a
    plateau (Vickers, "Plateau equalization algorithm for real-time display of high-quality infrared imagery", Optical
    Engineering 35, 1996).

    The plateau is the mean count of the levels that occur: so an even sky takes only a part of the brightness, as many
    levels as occur are told apart, and a few hot pixels, which are as many levels at most, do not darken the rest.
    """

    def measure(self, image: Image) -> Floats:
        step = grid_step(image, HISTOGRAM_SIDE)
        counts = np.bincount(image[::step, ::step].reshape(-1), minlength=np.iinfo(image.dtype).max + 1)
        clipped = np.minimum(counts, counts.sum() / np.count_nonzero(counts))
        return clipped / clipped.sum()

    def shift(self, numbers: Floats, now: Floats) -> float:
        return abs(float((self._brightness(numbers) * now).sum()) - 255 / 2)

    def show(self, image: Image, numbers: Floats) -> Picture:
        return np.take(np.rint(self._brightness(numbers)).astype(np.uint8), image)

    def _brightness(self, numbers: Floats) -> Floats:
        """(levels,) of 255."""
        return 255 * (numbers.cumsum() - numbers / 2)


class AutomaticGain:
    """Shows frames of any depth in 8 bits, without flicker.

    The curve follows the scene slowly. Where it would show a frame as a whole too bright or too dark by more than
    STEP_MAX, as when the camera's offset drifts or its shutter opens, it follows so far at once that less than that is
    left, and of twice as much nothing. If a frame's mean brightness would still differ by more than STEP_MAX from the
    last one's, the camera's own gain or offset has made a step, or the scene is another one: then the curve is taken
    anew, and the picture is about as bright as it was.
    """

    seconds = 1.0
    """Time constant: a sudden change of the scene is followed to 63 % after so long."""
    STEP_MAX = 32.0
    """Of 255."""

    def __init__(self, settings: VideoSettings) -> None:
        self._curve: ToneCurve = PlateauCurve() if settings.agc == "plateau" else PercentileCurve(settings.percentiles)
        self._clahe = cv2.createCLAHE(settings.clahe, TILES) if settings.clahe else None
        self._numbers = np.empty(0)
        self._depth: np.dtype[Any] | None = None
        self._mean = 0.0
        self._time = 0.0

    def __call__(self, image: Image, time: float) -> Picture:
        """(H, W) uint8 of an (H, W) image taken at `time` (s)."""
        numbers = now = self._curve.measure(image)
        if known := image.dtype == self._depth:
            left = np.exp(-max(0.0, time - self._time) / self.seconds)
            shift = max(1.0, self._curve.shift(self._numbers, now))
            left = min(left, max(0.0, 2 * self.STEP_MAX / shift - 1))
            numbers = now + left * (self._numbers - now)
        picture = self._curve.show(image, numbers)
        mean = cv2.mean(picture)[0]
        if known and abs(mean - self._mean) > self.STEP_MAX:
            numbers, picture = now, self._curve.show(image, now)
            mean = cv2.mean(picture)[0]
        self._numbers, self._depth, self._time, self._mean = numbers, image.dtype, time, mean
        return np.asarray(self._clahe.apply(picture), np.uint8) if self._clahe else picture
