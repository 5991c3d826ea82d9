"""From radiance to grey levels: point spread function, noise, fixed pattern, defective pixels and quantisation."""

import math
from typing import Annotated, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, model_validator
from scipy.special import erf

from irst_pipeline.settings import NotNegative, Positive, Settings
from irst_pipeline.types import Floats

LEVEL_MAX = 2**14 - 1
NOISE_MIN = 1e-3  # grey levels; below that an SNR would say nothing
BLINK = 0.1  # probability that a blinking pixel changes over from one frame to the next

PixelCount = Annotated[int, Field(ge=0)]


class SensorSettings(Settings):
    """Optics and detector: a Gaussian point spread function, integrated over square pixels, noise and defects.

    The fixed pattern and the defective pixels stay where they are while the camera moves. SNR is over the noise alone.
    """

    psf_sigma_px: Annotated[float, Field(ge=0.3, le=10)] = 0.7
    """Standard deviation of the blur before the pixels integrate it."""
    read_noise: NotNegative = 3.0
    """Grey levels, standard deviation in each pixel and frame: the NETD times the grey levels of a kelvin."""
    electrons_per_level: Annotated[Positive, Field(ge=1e-3)] | None = None
    """Shot noise adds a variance of level / electrons_per_level grey levels^2; without it there is none."""
    offset_sd: NotNegative = 0.0
    """Grey levels, standard deviation from pixel to pixel, the same in every frame."""
    column_sd: NotNegative = 0.0
    """Grey levels, standard deviation of an offset from column to column: stripes."""
    gain_sd: Annotated[float, Field(ge=0, le=100)] = 0.0
    """Per cent, standard deviation of the gain from pixel to pixel; 0.1 of a level of 7300 are 7.3 levels."""
    dead_pixels: PixelCount = 0
    """Pixels that always read 0."""
    hot_pixels: PixelCount = 0
    """Pixels that always read hot_level."""
    hot_level: Annotated[int, Field(ge=0, le=LEVEL_MAX)] = LEVEL_MAX
    blinking_pixels: PixelCount = 0
    """Pixels that are blink_levels brighter half of the time, for 10 frames on average."""
    blink_levels: NotNegative = 50.0

    @property
    def defects(self) -> int:
        return self.dead_pixels + self.hot_pixels + self.blinking_pixels

    @model_validator(mode="after")
    def _has_noise(self) -> Self:
        if self.read_noise == 0 and self.electrons_per_level is None:
            raise ValueError("read_noise above 0, or electrons_per_level: without noise there is no SNR")
        return self


class Sensor:
    """Optics and detector of one camera with frames of `shape` (H, W).

    `noise` draws what differs from frame to frame, `pattern` the fixed pattern and the defects.
    """

    def __init__(
        self,
        settings: SensorSettings,
        shape: tuple[int, int],
        noise: np.random.Generator,
        pattern: np.random.Generator,
    ) -> None:
        self._settings = settings
        self._noise = noise
        self.peak = float(math.erf(0.5 / (settings.psf_sigma_px * math.sqrt(2))) ** 2)
        """Share of a point's signal that falls on the pixel it is centred on."""
        offset, column, gain, defects, self._blinks = pattern.spawn(5)
        self._offset = offset.normal(0, settings.offset_sd, shape) + column.normal(0, settings.column_sd, shape[1])
        self._gain = 1 + gain.normal(0, settings.gain_sd / 100, shape)
        chosen = defects.choice(math.prod(shape), settings.defects, replace=False)
        self._dead, self._hot, self._blinking = np.split(chosen, np.cumsum([settings.dead_pixels, settings.hot_pixels]))
        self._on = self._blinks.random(settings.blinking_pixels) < 0.5

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
        """Standard deviation of the noise at a mean of `level`, both grey levels; NOISE_MIN at least."""
        electrons = self._settings.electrons_per_level
        shot = np.maximum(level, 0) / electrons if electrons else np.zeros_like(level)
        return np.maximum(np.sqrt(self._settings.read_noise**2 + shot), NOISE_MIN)

    def expose(self, image: Floats) -> NDArray[np.uint16]:
        """The next frame as the camera delivers it: `image` (H, W) with fresh noise, in whole levels of 14 bits."""
        noisy = self._gain * image + self._offset + self.noise_sd(image) * self._noise.standard_normal(image.shape)
        noisy.flat[self._blinking] += self._settings.blink_levels * self._on
        self._on ^= self._blinks.random(len(self._on)) < BLINK
        frame = np.clip(np.rint(noisy), 0, LEVEL_MAX).astype(np.uint16)
        frame.flat[self._dead] = 0
        frame.flat[self._hot] = self._settings.hot_level
        return frame
