"""A skyline of buildings."""

from typing import Annotated

import numpy as np
from pydantic import Field

from irst_pipeline.settings import FiniteFloat, NotNegative, Positive, Settings
from irst_pipeline.simulation.camera import Window
from irst_pipeline.types import Floats

HEIGHTS = (0.6, 1.4)  # of a building, over the mean of its row
WIDTHS = (0.5, 1.5)  # of a building, over the mean
ROWS = (1.25, 0.75)  # mean heights of the far and the near row, over the mean of both
WINDOW, SPACING = (3, 2), (6, 4)  # px, height and width of a window, and from one to the next
HOT_SPOT_MAX = 3  # px, side


class UrbanSettings(Settings):
    """Two rows of buildings with windows and hot spots at the bottom of the frame; they hide sky, not targets."""

    height_px: NotNegative = 0.0
    """Mean height of the roofs above the bottom of the first frame; 0 for none."""
    block_px: Annotated[Positive, Field(le=4096)] = 30.0
    """Mean width of a building."""
    level: FiniteFloat = 50.0
    """Grey levels of the walls above the clear sky, on average."""
    walls: NotNegative = 15.0
    """Grey levels, standard deviation from building to building."""
    windows: NotNegative = 8.0
    """Grey levels, standard deviation of windows about their wall."""
    hot_spots: Annotated[NotNegative, Field(le=1000)] = 1.0
    """Chimneys, vents and lamps, on average for a building."""
    hot: NotNegative = 100.0
    """Grey levels of the hottest of them above their wall."""


def urban(
    settings: UrbanSettings,
    shape: tuple[int, int],
    extent: Window,
    sky_level: float,
    rng: np.random.Generator,
) -> tuple[Floats, Floats]:
    """Grey levels of the skyline below a sky of `sky_level`, and the share of each pixel that it covers.

    Both are for all pixels of `extent`, which a camera with frames of `shape` (H, W) shows.
    """
    level, cover = np.full(extent.shape, sky_level + settings.level), np.zeros(extent.shape)
    for row in ROWS:
        left = -round(rng.uniform(0, settings.block_px))
        while left < extent.width:
            width = max(round(settings.block_px * rng.uniform(*WIDTHS)), 1)
            roof = shape[0] - round(settings.height_px * row * rng.uniform(*HEIGHTS)) - extent.top
            building = sky_level + settings.level + _building(settings, max(extent.height - roof, 1), width, rng)
            rows, columns = slice(max(roof, 0), None), slice(max(left, 0), max(left + width, 0))
            seen = level[rows, columns]
            seen[:] = building[max(-roof, 0) :, max(-left, 0) :][: seen.shape[0], : seen.shape[1]]
            cover[rows, columns] = 1
            left += width
    return level, cover


def _building(settings: UrbanSettings, height: int, width: int, rng: np.random.Generator) -> Floats:
    """(height, width) grey levels of a wall about the mean of all walls."""
    wall = np.full((height, width), rng.normal(0, settings.walls))
    (floors, in_floor), (bays, in_bay) = (np.divmod(np.arange(n), s) for n, s in zip(wall.shape, SPACING, strict=True))
    panes = rng.normal(0, settings.windows, (floors[-1] + 1, bays[-1] + 1))[floors][:, bays]
    wall += np.where((in_floor >= SPACING[0] - WINDOW[0])[:, None] & (in_bay >= SPACING[1] - WINDOW[1]), panes, 0)
    for _ in range(rng.poisson(settings.hot_spots)):
        y, x = rng.integers(height), rng.integers(width)
        tall, wide = rng.integers(1, HOT_SPOT_MAX, 2, endpoint=True)
        wall[y : y + tall, x : x + wide] += settings.hot * rng.uniform(0.3, 1)
    return wall
