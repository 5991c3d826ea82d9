"""The sea up to its horizon."""

import numpy as np
from scipy import ndimage

from irst_pipeline.settings import FiniteFloat, NotNegative, Positive, Settings
from irst_pipeline.simulation.camera import Window
from irst_pipeline.types import Floats

WAVES = 64  # sinusoids; so many are as good as a Gaussian random field
OCTAVES = (-3.0, 2.0)  # of the waves' lengths: eight times as long as the typical ones to a quarter of them
HEADINGS_DEG = 25.0  # standard deviation about straight at the camera
GLINT = 1.5  # slopes steeper than so many standard deviations glint
FAINTEST = 1e-3  # of a wave's amplitude, where the optics blur it away


class SeaSettings(Settings):
    """The sea at the bottom of the frame, in perspective; it hides the sky, not the targets.

    Rows of waves come towards the camera, each with the speed that deep water gives its length; towards the horizon
    they are finer and finer, until the optics blur them into an even level. What tilts most to the camera glints.
    """

    height_px: NotNegative = 0.0
    """Height of the horizon above the bottom of the first frame; 0 for none."""
    level: FiniteFloat = 25.0
    """Grey levels of the sea above the clear sky, on average."""
    waves: NotNegative = 10.0
    """Grey levels, standard deviation between crests and troughs that the optics resolve."""
    wave_px: Positive = 16.0
    """Spacing of the typical waves at the bottom of the first frame."""
    stretch: Positive = 4.0
    """Width over height of the waves there."""
    period_s: Positive = 3.0
    """Time between two of the typical waves at one place."""
    glint: NotNegative = 40.0
    """Grey levels that glint adds for each standard deviation of slope beyond 1.5."""


class Sea:
    """A sum of sinusoidal waves on a plane (Longuet-Higgins, 1957), seen through the optics."""

    def __init__(
        self,
        settings: SeaSettings,
        shape: tuple[int, int],
        sky_level: float,
        psf_sigma_px: float,
        rng: np.random.Generator,
    ) -> None:
        self._settings = settings
        self._level = sky_level + settings.level
        self._horizon = shape[0] - 0.5 - settings.height_px
        self._middle = (shape[1] - 1) / 2
        self._psf_sigma_px = psf_sigma_px
        # wave numbers in rad/px as they are at the bottom of the frame, across and along the line of sight
        shorter = 2 ** rng.uniform(*OCTAVES, WAVES)
        number = 2 * np.pi / settings.wave_px * shorter
        heading = np.deg2rad(rng.normal(0, HEADINGS_DEG, WAVES))
        self._across, self._along = number * np.sin(heading) / settings.stretch, number * np.cos(heading)
        self._rate = 2 * np.pi / settings.period_s * np.sqrt(shorter)  # rad/s: of deep water
        self._phase = rng.uniform(0, 2 * np.pi, WAVES)

    def at(self, time: float, window: Window) -> tuple[Floats, Floats]:
        below = window.rows - self._horizon
        edge = np.broadcast_to(np.clip(below + 0.5, 0, 1), window.shape)
        slopes = np.zeros(window.shape)
        first = int(np.searchsorted(below[:, 0], 0.5))
        slopes[first:] = self._slopes(time, below[first:], window.columns - self._middle)
        level = self._level + self._settings.waves * slopes + self._settings.glint * np.maximum(slopes - GLINT, 0)
        return level, ndimage.gaussian_filter1d(edge, self._psf_sigma_px, axis=0)

    def _slopes(self, time: float, below: Floats, columns: Floats) -> Floats:
        """(n, m) in standard deviations, `below` (n, 1) px under the horizon and `columns` (m,) px from the middle.

        A pixel y under the horizon sees the plane at a distance in proportion to 1 / y, and in the scale y.
        """
        farther = self._settings.height_px / below
        distance = self._settings.height_px * farther
        blur = -(self._psf_sigma_px**2 + 1 / 12) / 2  # the pixels' own area as well
        slopes = np.zeros((len(below), len(columns)))
        for across, along, rate, phase in zip(self._across, self._along, self._rate, self._phase, strict=True):
            contrast = np.exp(blur * ((across * farther) ** 2 + (along * farther**2) ** 2))
            seen = slice(int(np.searchsorted(contrast[:, 0], FAINTEST)), None)
            angle = across * farther[seen] * columns + (along * distance[seen] + rate * time + phase)
            slopes[seen] += contrast[seen] * np.cos(angle)
        return slopes * np.sqrt(2 / WAVES)
