"""A layer of clouds."""

from typing import Annotated

import numpy as np
from pydantic import Field
from scipy import fft

from irst_pipeline.settings import FiniteFloat, NotNegative, Positive, Settings
from irst_pipeline.simulation.camera import Window
from irst_pipeline.simulation.layers import random_field
from irst_pipeline.types import Floats


class CloudSettings(Settings):
    """Clouds drifting across the sky: a random field with a 1/f^exponent amplitude spectrum, seen as emitting layer."""

    coverage: Annotated[float, Field(ge=0, le=1)] = 0.5
    """Share of the sky with cloud; 0 for a clear sky."""
    contrast: NotNegative = 40.0
    """Grey levels of a thick cloud above the clear sky."""
    thickness: NotNegative = 0.7
    """Optical thickness well inside a cloud, a standard deviation of the field above its edge."""
    exponent: Annotated[float, Field(ge=1, le=4)] = 2.2
    """Of the amplitude spectrum; higher is smoother."""
    stretch: Positive = 2.5
    """Width over height of a typical cloud."""
    drift_px_s: tuple[FiniteFloat, FiniteFloat] = (4.0, 0.0)
    """Motion of the clouds against the scene, x and y."""


class Clouds:
    """They move as a whole, by any fraction of a pixel."""

    def __init__(
        self, settings: CloudSettings, shape: tuple[int, int], extent: Window, rng: np.random.Generator
    ) -> None:
        self._drift = settings.drift_px_s
        self._extent = extent
        # a frame more than is ever seen, so that no cloud is seen at both edges of the periodic field at once
        rows, columns = (fft.next_fast_len(a + b, real=True) for a, b in zip(shape, extent.shape, strict=True))
        self._size = (rows, columns)
        field = random_field(self._size, settings.exponent, rng, settings.stretch, outer_px=max(shape) / 2)
        # a layer of optical thickness tau emits 1 - exp(-tau) of a black body; the logarithm softens the edges
        tau = np.logaddexp(0, 4 * (field - np.quantile(field, 1 - settings.coverage))) / 4
        opacity = 1 - np.exp(-settings.thickness * tau) if settings.coverage else np.zeros(self._size)
        self._spectrum = fft.rfft2(opacity)

    def at(self, time: float, window: Window) -> Floats:
        """The share of light from behind that the clouds swallow at `time`, s, and of a black body that they emit."""
        down = np.exp(-2j * np.pi * time * self._drift[1] * fft.fftfreq(self._size[0]))
        right = np.exp(-2j * np.pi * time * self._drift[0] * fft.rfftfreq(self._size[1]))
        moved: Floats = fft.irfft2(self._spectrum * down[:, None] * right, s=self._size)
        return self._extent.cut(moved, window)
