"""What flows between the stages of the pipeline.

Coordinates: x right, y down, pixel centres at integers, in the original image. Time in seconds from the source's own
clock. Frames are counted from 0. Arrays of one dataclass are row-aligned: row i of each speaks of the same thing.
"""

from dataclasses import dataclass, field, fields
from enum import IntEnum
from functools import cached_property
from typing import NamedTuple, Protocol, Self

import numpy as np
from numpy.typing import NDArray

from irst_pipeline.state import State

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]
Image = NDArray[np.uint8] | NDArray[np.uint16]
Map = NDArray[np.float32]
MIN_SIZE = 16  # px, the smallest height and width of a frame that a network takes


class Span(NamedTuple):
    """When a piece of work was done, on the clock of `time.perf_counter`."""

    start: float
    end: float

    @property
    def seconds(self) -> float:
        return self.end - self.start


Work = dict[str, Span]
"""When each stage worked on a frame: read, network, detect, stabilise, track, and once it is written, write."""


@dataclass(frozen=True)
class Frame:
    """One frame as its source delivered it."""

    image: Image
    """(H, W) grey levels at the source's own depth, to which nobody writes any more."""
    index: int
    time: float
    """s"""
    source: str
    """Name of the source, for logs."""
    arrived: float | None = None
    """When it came, on the clock of `time.perf_counter`; None for one that was there before it was asked for."""
    utc: float | None = None
    """The same on the clock of `time.time`: s since 1970, UTC; of a recording that is replayed, when it was shown."""
    blind: bool = False
    """Whether it shows nothing of its own time, as one that repeats the frame before it or shows a closed shutter."""
    unchanged: float = 0.0
    """Share of its pixels that are what they were in the frame before: most, where compression is strong."""


@dataclass(frozen=True)
class DroppedFrames:
    """Frames in a row that were read and not processed."""

    first: int
    """Index of the first of them."""
    last: int
    cause: str
    """starting, stale or unfinished."""

    def __len__(self) -> int:
        return self.last - self.first + 1


class TargetPixels(NamedTuple):
    """What the network says of one frame: its pixels above the threshold that the engine was given. n rows."""

    places: Integers
    """(n,) y * width + x, ascending."""
    probability: NDArray[np.float32]
    """(n,) 0..1: that the pixel belongs to a target."""
    intensity: NDArray[np.float32]
    """(n,) grey levels: the sparse component T."""


@dataclass(frozen=True)
class _Places:
    """What is at n places of one frame: arrays with a row for each."""

    x: Floats
    """(n,) px"""
    y: Floats
    """(n,) px"""

    @property
    def position(self) -> Floats:
        """(n, 2) px: x, y."""
        return np.array([self.x, self.y]).T

    def __len__(self) -> int:
        return len(self.x)

    def take(self, rows: Integers | NDArray[np.bool_]) -> Self:
        return type(self)(**{f.name: getattr(self, f.name)[rows] for f in fields(self)})


@dataclass(frozen=True)
class Detections(_Places):
    """The targets seen in one frame, strongest first; n rows."""

    covariance: Floats
    """(n, 3) px^2: xx, xy, yy of the centroid."""
    box: Floats
    """(n, 4) px: left, top, width, height; a single pixel at (x, y) has the box (x - 0.5, y - 0.5, 1, 1)."""
    area: Integers
    """(n,) px above the threshold; of a weak detection, above that share of its own peak."""
    score: Floats
    """(n,) 0..1, the blob's highest probability."""
    intensity: Floats
    """(n,) grey levels, the blob's highest value of T."""
    snr: Floats
    """(n,) peak above the local background, in standard deviations of that background."""

    def __post_init__(self) -> None:
        columns = {"covariance": (3,), "box": (4,)}
        for name, value in vars(self).items():
            expected, found = (len(self.x), *columns.get(name, ())), np.shape(value)
            if found != expected:
                raise ValueError(f"Detections: {name} of shape {found}; expected {expected}, a row for each x")

    @property
    def noise(self) -> Floats:
        """(n, 2, 2) px^2: the covariance as matrices."""
        return self.covariance[:, [0, 1, 1, 2]].reshape(-1, 2, 2)


class TrackStatus(IntEnum):
    PRELIMINARY = -1
    """Begun by a detection that is most likely clutter; there are many."""
    TENTATIVE = 0
    CONFIRMED = 1
    COASTING = 2
    """Confirmed, but without a detection in this frame, or the frame is blind: the position is a prediction."""


@dataclass(frozen=True)
class Tracks(_Places):
    """The tracks that are in the picture after one frame; n rows."""

    id: Integers
    """(n,) from 1, never used twice in a run."""
    status: NDArray[np.int8]
    """(n,) values of TrackStatus."""
    vx: Floats
    """(n,) px/s"""
    vy: Floats
    """(n,) px/s"""
    covariance: Floats
    """(n, 3) px^2: xx, xy, yy of the position."""
    box: Floats
    """(n, 4) px: left, top, width, height, as large as the last detection and centred on the track."""
    score: Floats
    """(n,) of the last detection."""
    snr: Floats
    """(n,) of the last detection."""
    age: Integers
    """(n,) frames processed since the track's first detection, that frame included, blind ones left out."""
    hits: Integers
    """(n,) detections so far."""
    detection: Integers
    """(n,) row of the frame's detections that is the track's; -1 for none."""
    nis: Floats
    """(n,) normalised innovation squared of that detection, NaN without one: its squared Mahalanobis distance from
    where the track was expected; 2 in the mean where errors are as large as is said."""

    @property
    def confirmed(self) -> NDArray[np.bool_]:
        """(n,) which are, seen or coasting."""
        return np.asarray(self.status > TrackStatus.TENTATIVE)


@dataclass(frozen=True)
class Bearings:
    """Where tracks are in the world; n rows, as theirs. NaN where that is not known."""

    azimuth: Floats
    """(n,) deg, 0 to below 360, positive to the right: clockwise, seen from above."""
    elevation: Floats
    """(n,) deg, -90 to 90, positive up."""
    azimuth_rate: Floats
    """(n,) deg/s, d/dt of the azimuth in the world; 0 for what stands still there, however the camera moves."""
    elevation_rate: Floats
    """(n,) deg/s, likewise."""
    azimuth_sd: Floats
    """(n,) deg, standard deviation that comes of the position's covariance alone."""
    elevation_sd: Floats
    """(n,) deg, likewise."""


class View(Protocol):
    """How the pixels of one frame lie in the world."""

    def bearings(self, tracks: Tracks) -> Bearings:
        """Bearings of tracks in this frame."""


@dataclass(frozen=True)
class CameraMotion:
    """Where the last frame's pixels are in this one."""

    matrix: Floats
    """(3, 3): homogeneous px of the last frame to px of this one; the identity for a camera that stands still, or of
    which nothing is known."""
    known: bool
    """Whether enough of the scene was seen to move as one, or a pointing says how the camera has turned."""

    @cached_property
    def moved(self) -> bool:
        return not np.array_equal(self.matrix, np.eye(3))

    def apply(self, places: Floats) -> Floats:
        """Places (..., 2) of the last frame in this one, px."""
        found = places @ self.matrix[:2, :2].T + self.matrix[:2, 2]
        return found / (places @ self.matrix[2, :2] + self.matrix[2, 2])[..., None]

    def jacobian(self, places: Floats) -> Floats:
        """(..., 2, 2): how a small step from each of these places of the last frame looks in this one."""
        weight = places @ self.matrix[2, :2] + self.matrix[2, 2]
        outer = self.apply(places)[..., None] * self.matrix[2, :2]
        return (self.matrix[:2, :2] - outer) / weight[..., None, None]


STANDS_STILL = CameraMotion(np.eye(3), known=False)


@dataclass(frozen=True)
class TrackEvent:
    """A change in a track's life."""

    kind: str
    """confirmed, dropped, or jumped: its target was found elsewhere; only tracks that are confirmed have events."""
    id: int
    frame: int
    time: float
    """s"""
    was: int | None = None
    """Of one that jumped: the tentative track that it goes on as."""


@dataclass(frozen=True)
class FrameResult:
    """All that is known of one frame when it leaves the tracker."""

    frame: Frame
    detections: Detections
    left_out: int
    """How many more there were, weaker than so many as are taken of a frame."""
    tracks: Tracks
    preliminary: Tracks
    """Tracks that are neither logged nor drawn before they are confirmed."""
    events: tuple[TrackEvent, ...]
    motion: CameraMotion
    """Of the camera, since the frame before."""
    spans: Work
    view: View | None = None
    """Into the world; None without a camera model."""
    dropped: tuple[DroppedFrames, ...] = ()
    """Between the frame before and this one."""
    state: State = field(default_factory=dict)
    """What tracker, stabiliser, platform and the search for blind frames remember from here on."""

    @cached_property
    def bearings(self) -> Bearings | None:
        """Of the tracks; None without a camera model."""
        return self.view.bearings(self.tracks) if self.view else None
