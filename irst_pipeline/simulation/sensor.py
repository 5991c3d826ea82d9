"""From radiance to grey levels: point spread function, noise and quantisation."""

import math

import numpy as np
from numpy.typing import NDArray
from scipy.special import erf

from irst_pipeline.simulation.scene import LEVEL_MAX, SensorSettings
from irst_pipeline.types import Floats


class Sensor:
    """Optics and detector of one camera."""

    def __init__(self, settings: SensorSettings, rng: np.random.Generator) -> None:
        self._settings = settings
        self._rng = rng
        self.peak = float(math.erf(0.5 / (settings.psf_sigma_px * math.sqrt(2))) ** 2)
        """Share of a point's signal that falls on the pixel it is centred on."""

    def add_point(self, image: Floats, x: float, y: float, signal: float) -> None:
        """Adds a point at (x, y) px to `image` (H, W) in place; `signal` is its sum over all pixels, grey levels."""
        reach = math.ceil(6 * self._settings.psf_sigma_px) + 1
        height, width = image.shape
        columns = np.arange(max(round(x) - reach, 0), min(round(x) + reach + 1, width))
        rows = np.arange(max(round(y) - reach, 0), min(round(y) + reach + 1, height))
        if len(columns) and len(rows):
            spot = self._pixel_shares(rows - y)[:, None] * self._pixel_shares(columns - x)
            image[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1] += signal * spot

    def _pixel_shares(self, offsets: Floats) -> Floats:
        """Integral of the line spread function over pixels centred `offsets` px from the point."""
        scale = self._settings.psf_sigma_px * math.sqrt(2)
        shares: Floats = (erf((offsets + 0.5) / scale) - erf((offsets - 0.5) / scale)) / 2
        return shares

    def noise_sd(self, level: Floats) -> Floats:
        """Standard deviation of the noise at a mean of `level`, both grey levels."""
        electrons = self._settings.electrons_per_level
        shot = np.maximum(level, 0) / electrons if electrons else np.zeros_like(level)
        return np.sqrt(self._settings.read_noise**2 + shot)

    def expose(self, image: Floats) -> NDArray[np.uint16]:
        """One frame as the camera delivers it: `image` (H, W) with fresh noise, in whole levels of 14 bits."""
        noisy = image + self.noise_sd(image) * self._rng.standard_normal(image.shape)
        return np.clip(np.rint(noisy), 0, LEVEL_MAX).astype(np.uint16)
