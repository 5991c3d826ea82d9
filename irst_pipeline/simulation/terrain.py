"""Ground and trees along the horizon."""

import numpy as np

from irst_pipeline.settings import FiniteFloat, NotNegative, Settings
from irst_pipeline.simulation.camera import Window
from irst_pipeline.simulation.layers import random_field
from irst_pipeline.types import Floats


class TerrainSettings(Settings):
    """A strip of ground with a line of trees at the bottom of the frame; it hides the sky, not the targets."""

    height_px: NotNegative = 0.0
    """Mean height of the ground above the bottom of the frame; 0 for none."""
    relief_px: NotNegative = 4.0
    """Standard deviation of the hills."""
    trees_px: NotNegative = 12.0
    """Mean height of the trees above the ground."""
    ground: FiniteFloat = 45.0
    """Grey levels of the ground above the clear sky."""
    trees: FiniteFloat = 80.0
    """Grey levels of the trees above the clear sky."""
    texture: NotNegative = 8.0
    """Grey levels, standard deviation of the structure in ground and trees."""


def terrain(
    settings: TerrainSettings,
    shape: tuple[int, int],
    extent: Window,
    sky_level: float,
    rng: np.random.Generator,
) -> tuple[Floats, Floats]:
    """Grey levels of the terrain below a sky of `sky_level`, and the share of each pixel that it covers.

    Both are for all pixels of `extent`, which a camera with frames of `shape` (H, W) shows.
    """
    height, width = shape
    size = (height + extent.height, width + extent.width)

    def profile(exponent: float, outer_px: float) -> Floats:
        return random_field((1, size[1]), exponent, rng, outer_px=outer_px)[0, : extent.width]

    def texture(exponent: float, stretch: float) -> Floats:
        field = random_field(size, exponent, rng, stretch)
        return settings.texture * field[: extent.height, : extent.width]

    ground_line = height - 0.5 - settings.height_px - settings.relief_px * profile(2.0, width / 2)
    crowns = np.maximum(1 + 0.2 * profile(1.0, 30) + 0.12 * profile(0.5, 6), 0)
    below_ground = np.clip(extent.rows + 0.5 - ground_line, 0, 1)
    below_crowns = np.clip(extent.rows + 0.5 - (ground_line - settings.trees_px * crowns), 0, 1)
    ground = sky_level + settings.ground + texture(1.2, 4.0)
    trees = sky_level + settings.trees + texture(0.8, 0.25)
    return trees + below_ground * (ground - trees), below_crowns
