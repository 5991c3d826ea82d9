"""What all recordings share, also those of a program's own."""

from collections.abc import Iterator, Sequence

import numpy as np
import pytest

from irst_pipeline.errors import IrstError
from irst_pipeline.sources.base import Recording
from irst_pipeline.types import Frame


class Own(Recording):
    def __init__(self, image: np.ndarray, indices: Sequence[int] = (0,), times: Sequence[float] = (0, 1)) -> None:
        super().__init__("own", frame_rate=30.0, frame_count=len(indices))
        self._image, self._indices, self._times = image, indices, times

    def read(self) -> Iterator[Frame]:
        for index, time in zip(self._indices, self._times, strict=False):
            yield Frame(self._image, index, time, self.name)

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


@pytest.mark.parametrize(
    ("indices", "said"),
    [
        ((0, 0), "frame 0 comes after frame 0"),
        ((3, 2), "frame 2 comes after frame 3"),
        ((-1, 2), "frame -1 comes after frame -1"),
    ],
)
def test_frames_that_are_not_numbered_upwards_are_told_in_one_line(indices: tuple[int, ...], said: str) -> None:
    with pytest.raises(IrstError, match=f"^own: {said}; number frames upwards from 0$"):
        list(Own(np.zeros((32, 48), np.uint8), indices))


@pytest.mark.parametrize(
    ("times", "said"),
    [
        ((0.5, 0.5), "frame 1 at 0.5 s comes after one at 0.5 s"),
        ((0.5, 0.25), "frame 1 at 0.25 s comes after one at 0.5 s"),
        ((0.5, np.nan), "frame 1 at nan s comes after one at 0.5 s"),
        ((np.nan, 0.5), "frame 0 at nan s comes after one at -inf s"),
    ],
)
def test_frames_whose_times_do_not_increase_are_told_in_one_line(times: tuple[float, ...], said: str) -> None:
    with pytest.raises(IrstError, match=f"^own: {said}; give times that increase$"):
        list(Own(np.zeros((32, 48), np.uint8), (0, 1), times))
