"""Figures as files."""

import io
import warnings

import cv2
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from irst_pipeline.types import Image, Map


def png(figure: Figure) -> bytes:
    """The file of a figure."""
    picture = io.BytesIO()
    with warnings.catch_warnings():
        # A name may hold letters that the font does not: boxes stand for them.
        warnings.filterwarnings("ignore", "Glyph .* missing from font")
        figure.savefig(picture, format="png", dpi=120)
    return picture.getvalue()


def as_written(name: str) -> str:
    """A name for a figure, which takes what stands between two dollar signs for a formula."""
    return name.replace("$", r"\$")


def show_map(axes: Axes, plane: Map | Image, title: str, low: float, high: float, colours: str) -> None:
    """Draw a map (H, W) with its scale beside it; `low` and `high` get the colours at either end."""
    shown = axes.imshow(plane, cmap=colours, vmin=low, vmax=high, interpolation="nearest")
    axes.set(title=title, xticks=[], yticks=[])
    axes.figure.colorbar(shown, ax=axes, shrink=0.8)


def grown(plane: Map, reach: int) -> Map:
    """A map (H, W) with, in each pixel, the value of the greatest magnitude up to `reach` px away along each axis."""
    square = np.ones((2 * reach + 1, 2 * reach + 1), np.uint8)
    highest, lowest = cv2.dilate(plane, square), cv2.erode(plane, square)
    return np.where(highest > -lowest, highest, lowest)
