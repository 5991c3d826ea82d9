"""What all recordings share, also those of a program's own."""

from collections.abc import Iterator

import numpy as np
import pytest

from irst_pipeline.errors import IrstError
from irst_pipeline.sources.base import Recording
from irst_pipeline.types import Frame


class Own(Recording):
    def __init__(self, image: np.ndarray) -> None:
        super().__init__("own", frame_rate=30.0, frame_count=1)
        self._image = image

    def read(self) -> Iterator[Frame]:
        yield Frame(self._image, 0, 0.0, self.name)

    def close(self) -> None:
        """Nothing is open."""


@pytest.mark.parametrize(
    ("image", "said"),
    [
        (np.full((32, 48), np.nan, np.float32), r"\(32, 48\) of float32"),
        (np.zeros((32, 48, 3), np.uint8), r"\(32, 48, 3\) of uint8"),
        (np.zeros((32, 48), ">u2"), r"\(32, 48\) of >u2"),
    ],
)
def test_frames_that_are_no_grey_levels_are_told_in_one_line(image: np.ndarray, said: str) -> None:
    with pytest.raises(IrstError, match=f"^own: frame 0 is {said}; give .H, W. of uint8 or uint16$"):
        list(Own(image))
