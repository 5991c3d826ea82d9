"""Figures as files."""

import io
import warnings

from matplotlib.figure import Figure


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
