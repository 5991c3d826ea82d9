"""What layers of the background are made of."""

from typing import Protocol

import numpy as np
from scipy import fft, ndimage

from irst_pipeline.simulation.camera import Window
from irst_pipeline.types import Floats


def random_field(
    shape: tuple[int, int], exponent: float, rng: np.random.Generator, stretch: float = 1.0, outer_px: float = np.inf
) -> Floats:
    """A random field with the amplitude spectrum 1/f^exponent, zero mean and unit standard deviation.

    It is periodic in both directions, `stretch` times as wide as high in its structure, and has no structure of its own
    beyond `outer_px`.
    """
    rows, columns = shape
    frequency = np.hypot(fft.fftfreq(rows)[:, None], stretch * fft.rfftfreq(columns))
    frequency = np.hypot(frequency, 1 / outer_px)
    frequency[0, 0] = np.inf
    field: Floats = fft.irfft2(fft.rfft2(rng.standard_normal(shape)) * frequency**-exponent, s=shape)
    field /= field.std()
    return field


class Layer(Protocol):
    """Something that hides what is behind it."""

    def at(self, time: float, window: Window) -> tuple[Floats, Floats]:
        """Grey levels at `time`, s, and the share of each pixel that it covers, both for all pixels of `window`."""


class StillLayer:
    """A layer that does not change, seen through the optics; its levels and its cover span `extent`."""

    def __init__(self, extent: Window, psf_sigma_px: float, level: Floats, cover: Floats) -> None:
        self._level = ndimage.gaussian_filter(level, psf_sigma_px)
        self._cover = ndimage.gaussian_filter(cover, psf_sigma_px)
        self._extent = extent

    def at(self, time: float, window: Window) -> tuple[Floats, Floats]:  # noqa: ARG002
        return self._extent.cut(self._level, window), self._extent.cut(self._cover, window)
