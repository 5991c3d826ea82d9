"""Figures as files."""

import io

from matplotlib.figure import Figure


def png(figure: Figure) -> bytes:
    """The file of a figure."""
    picture = io.BytesIO()
    figure.savefig(picture, format="png", dpi=120)
    return picture.getvalue()
