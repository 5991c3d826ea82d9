"""Frames that show nothing of their own time: repeats, and pictures of a closed shutter.

A camera of 9 Hz that is recorded or converted at 27 or 30 frames/s gives each picture several times. One that closes
its shutter to correct itself gives the picture before for half a second or so, or that of the shutter. Lossy
compression makes repeats that are only nearly the same.
"""

from dataclasses import replace
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from irst_pipeline.levels import grid_step
from irst_pipeline.sources import checksum
from irst_pipeline.state import Stateful
from irst_pipeline.types import Detections, Floats, Frame, Image, Tracks, TrackStatus

BLIND_SHARE = 0.8
"""Of the time for which tracks coast: frames are blind for so long at most. What is shown after that is taken for the
scene, as compressed video repeats a picture while nothing moves: no track is to be lost over it."""
FAINTER = 0.7
"""Of the contrast of a scene: a shutter has less."""
STEADY = 5
"""Frames in a row with structure, at least, before a shutter; a flash has fewer."""
CONTRAST_MIN = 1.0  # grey levels; less is rounding
CHANGE_SHARE = 0.6
"""Of what changes from a frame to the next: between nearly the same pictures it is less."""
STILL_MIN, STILL_MAX = 6.0, 8.0
"""Evidence that the targets stand still which flew before, at least, and of one at most."""
MEMORY_FRAMES = 10


class Thumbnail(NamedTuple):
    """What a picture looks like, from some 5,000 pixels; grey levels."""

    levels: NDArray[np.float32]
    """(n,) Less their median."""
    contrast: float
    """Mean absolute deviation from that."""
    roughness: float
    """Mean absolute difference of neighbours, across or down."""

    @classmethod
    def at(cls, image: Image) -> "Thumbnail":
        step = grid_step(image)
        here, right, below = (
            part[::step, ::step].astype(np.float32).ravel()
            for part in (image[:-1, :-1], image[:-1, 1:], image[1:, :-1])
        )
        middle = np.median(here)
        contrast, *roughness = (float(np.abs(here - other).mean()) for other in (middle, right, below))
        return cls(here - middle, contrast, max(roughness))

    @property
    def structured(self) -> bool:
        """Whether there is more in it than noise, in which neighbours differ by 1.4 times the contrast."""
        return self.contrast > max(self.roughness, CONTRAST_MIN)

    def change(self, before: NDArray[np.float32]) -> float:
        """Mean absolute difference from the levels of another picture; infinite for one of another size."""
        return float(np.abs(self.levels - before).mean()) if len(self.levels) == len(before) else np.inf

    def unchanged(self, before: NDArray[np.float32]) -> float:
        """Share of the levels that are those of another picture; 0 for one of another size."""
        return float((self.levels == before).mean()) if len(self.levels) == len(before) else 0.0


class BlindFrames(Stateful):
    """Finds these frames. It is to be shown those that are worked on, and no others: what repeats one that was dropped
    is new."""

    kept = ("_checksum", "_levels", "_contrast", "_change", "_structured", "_seen", "_places", "_speeds", "_variances")

    def __init__(self, coast_seconds: float) -> None:
        """`coast_seconds`: how long tracks coast."""
        self._seconds_max = BLIND_SHARE * coast_seconds
        self._checksum: int | None = None  # of the last picture
        self._levels = np.empty(0, np.float32)  # some of its levels
        # Of the last frame that was not blind: its contrast, with how many before it there was structure, its time, s.
        self._contrast, self._structured, self._seen = 0.0, 0, 0.0
        self._change = 0.0  # what usually changes from a frame to the next
        # Where the targets that are followed were seen last (n, 2), px, how fast they fly, px/s, and how sure that is.
        self._places, self._speeds, self._variances = np.empty((0, 2)), np.empty((0, 2)), np.empty(0)

    def marked(self, frame: Frame, detections: Detections) -> Frame:
        """The next frame, which says whether it is blind, and how much of it is unchanged."""
        shown, thumbnail = checksum(frame), Thumbnail.at(frame.image)
        repeats, change = shown == self._checksum, thumbnail.change(self._levels)
        frame = replace(frame, unchanged=thumbnail.unchanged(self._levels))
        self._checksum, self._levels = shown, thumbnail.levels
        elapsed = frame.time - self._seen
        shut = self._structured >= STEADY and not thumbnail.structured and thumbnail.contrast < FAINTER * self._contrast
        frozen = change < CHANGE_SHARE * self._change and self._stand_still(detections, elapsed)
        if (repeats or shut or frozen) and elapsed <= self._seconds_max:
            return replace(frame, blind=True)
        self._contrast, self._seen = thumbnail.contrast, frame.time
        self._structured = self._structured + 1 if thumbnail.structured else 0
        if np.isfinite(change):
            self._change += (change - self._change) / MEMORY_FRAMES
        return frame

    def followed(self, tracks: Tracks, detections: Detections) -> None:
        """What was seen in a frame that is not blind."""
        seen = tracks.status == TrackStatus.CONFIRMED
        own = tracks.detection[seen]
        self._places, self._speeds = detections.position[own], np.column_stack((tracks.vx, tracks.vy))[seen]
        self._variances = detections.covariance[own, ::2].mean(1)

    def _stand_still(self, detections: Detections, elapsed: float) -> bool:
        """Whether the targets are found where they were last, and not where they fly."""
        still, flown = (
            self._away(detections, places) for places in (self._places, self._places + elapsed * self._speeds)
        )
        return float((flown - still).sum()) > STILL_MIN

    def _away(self, detections: Detections, places: Floats) -> Floats:
        """(n,) evidence that the targets are not at these places (n, 2): half the squared distance of the nearest
        detection, over the variance of both."""
        apart = np.square(detections.position - places[:, None]).sum(-1).min(1, initial=np.inf)
        return np.minimum(apart / (4 * self._variances), STILL_MAX)
