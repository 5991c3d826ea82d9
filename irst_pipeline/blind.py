"""Frames that show nothing of their own time: repeats, and pictures of a closed shutter.

A camera of 9 Hz that is recorded or converted at 27 or 30 frames/s gives each picture several times. One that closes
its shutter to correct itself gives the picture before for half a second or so, or that of the shutter.
"""

from dataclasses import replace
from typing import NamedTuple

import numpy as np

from irst_pipeline.sources import checksum
from irst_pipeline.state import Stateful
from irst_pipeline.types import Frame, Image

BLIND_SHARE = 0.8
"""Of the time for which tracks coast: frames are blind for so long at most. What is shown after that is taken for the
scene, as compressed video repeats a picture while nothing moves: no track is to be lost over it."""
FAINTER = 0.7
"""Of the contrast of a scene: a shutter has less."""
STEADY = 5
"""Frames in a row with structure, at least, before a shutter; a flash has fewer."""
CONTRAST_MIN = 1.0  # grey levels; less is rounding
SAMPLES = 64  # along the shorter side


class Look(NamedTuple):
    """What a picture looks like, from some 5,000 pixels; grey levels."""

    contrast: float
    """Mean absolute deviation from the median."""
    roughness: float
    """Mean absolute difference of neighbours, across or down."""

    @classmethod
    def at(cls, image: Image) -> "Look":
        step = max(1, min(image.shape) // SAMPLES)
        here, right, below = (
            part[::step, ::step].astype(np.float32) for part in (image[:-1, :-1], image[:-1, 1:], image[1:, :-1])
        )
        contrast, *roughness = (float(np.abs(here - other).mean()) for other in (np.median(here), right, below))
        return cls(contrast, max(roughness))

    @property
    def structured(self) -> bool:
        """Whether there is more in it than noise, in which neighbours differ by 1.4 times the contrast."""
        return self.contrast > max(self.roughness, CONTRAST_MIN)


class BlindFrames(Stateful):
    """Finds these frames. It is to be shown those that are worked on, and no others: what repeats one that was dropped
    is new."""

    kept = ("_checksum", "_contrast", "_structured", "_seen")

    def __init__(self, coast_seconds: float) -> None:
        """`coast_seconds`: how long tracks coast."""
        self._seconds_max = BLIND_SHARE * coast_seconds
        self._checksum: int | None = None  # of the last picture
        # Of the last frame that was not blind: its contrast, with how many before it there was structure, its time, s.
        self._contrast, self._structured, self._seen = 0.0, 0, 0.0

    def marked(self, frame: Frame) -> Frame:
        """The next frame, which says whether it is blind."""
        shown, look = checksum(frame), Look.at(frame.image)
        repeats, self._checksum = shown == self._checksum, shown
        shut = self._structured >= STEADY and not look.structured and look.contrast < FAINTER * self._contrast
        if (repeats or shut) and frame.time - self._seen <= self._seconds_max:
            return replace(frame, blind=True)
        self._contrast, self._seen = look.contrast, frame.time
        self._structured = self._structured + 1 if look.structured else 0
        return frame
