"""What the camera sees behind the targets: sky, clouds and terrain."""

import numpy as np
from scipy import fft, ndimage

from irst_pipeline.simulation.scene import CloudSettings, SceneSettings
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


class Clouds:
    """A cloud layer that moves as a whole, by any fraction of a pixel."""

    def __init__(self, settings: CloudSettings, shape: tuple[int, int], rng: np.random.Generator) -> None:
        self._drift = settings.drift_px_s
        self._shape = shape
        # twice the frame, so that no cloud is seen at both edges of the periodic field at once
        self._size = (fft.next_fast_len(2 * shape[0], real=True), fft.next_fast_len(2 * shape[1], real=True))
        field = random_field(self._size, settings.exponent, rng, settings.stretch, outer_px=max(shape) / 2)
        # a layer of optical thickness tau emits 1 - exp(-tau) of a black body; the logarithm softens the edges
        tau = np.logaddexp(0, 4 * (field - np.quantile(field, 1 - settings.coverage))) / 4
        cloud = settings.contrast * (1 - np.exp(-0.7 * tau)) if settings.coverage else np.zeros(self._size)
        self._spectrum = fft.rfft2(cloud)

    def at(self, time: float) -> Floats:
        """(H, W) grey levels above the clear sky at `time`, s."""
        rows = fft.fftfreq(self._size[0])[:, None] * self._drift[1]
        columns = fft.rfftfreq(self._size[1]) * self._drift[0]
        moved: Floats = fft.irfft2(self._spectrum * np.exp(-2j * np.pi * time * (rows + columns)), s=self._size)
        return moved[: self._shape[0], : self._shape[1]]


class Background:
    """The scene without targets and noise.

    All arithmetic is float64: the FFTs of two machines differ by some 1e-12 grey levels, which rounding to whole levels
    after the noise removes.
    """

    def __init__(self, scene: SceneSettings, clouds: np.random.Generator, terrain: np.random.Generator) -> None:
        shape = (scene.height_px, scene.width_px)
        self._clouds = Clouds(scene.clouds, shape, clouds)
        above = np.maximum(scene.sky_px - np.arange(scene.height_px), 0)[:, None]
        self._sky = scene.sky.level + scene.sky.glow * np.exp(-above / scene.sky.glow_height_px)
        self._terrain, self._cover = _terrain(scene, terrain)

    def at(self, time: float) -> Floats:
        """(H, W) grey levels at `time`, s."""
        sky = self._sky + self._clouds.at(time)
        level: Floats = sky + self._cover * (self._terrain - sky)
        return level


def _terrain(scene: SceneSettings, rng: np.random.Generator) -> tuple[Floats, Floats]:
    """Grey levels of ground and trees, and the share of each pixel that they cover, both (H, W)."""
    shape = (scene.height_px, scene.width_px)
    settings = scene.terrain
    if not settings.height_px:
        return np.zeros(shape), np.zeros(shape)
    size = (2 * scene.height_px, 2 * scene.width_px)

    def profile(exponent: float, outer_px: float) -> Floats:
        return random_field((1, size[1]), exponent, rng, outer_px=outer_px)[0, : scene.width_px]

    def texture(exponent: float, stretch: float) -> Floats:
        return settings.texture * random_field(size, exponent, rng, stretch)[: shape[0], : shape[1]]

    rows = np.arange(scene.height_px)[:, None]
    ground_line = scene.height_px - 0.5 - settings.height_px - settings.relief_px * profile(2.0, scene.width_px / 2)
    crowns = np.maximum(1 + 0.2 * profile(1.0, 30) + 0.12 * profile(0.5, 6), 0)
    below_ground = np.clip(rows + 0.5 - ground_line, 0, 1)
    below_crowns = np.clip(rows + 0.5 - (ground_line - settings.trees_px * crowns), 0, 1)
    sky_level = scene.sky.level
    ground = sky_level + settings.ground + texture(1.2, 4.0)
    trees = sky_level + settings.trees + texture(0.8, 0.25)
    terrain = trees + below_ground * (ground - trees)
    blur = scene.sensor.psf_sigma_px
    return ndimage.gaussian_filter(terrain, blur), ndimage.gaussian_filter(below_crowns, blur)
