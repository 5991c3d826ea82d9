"""The multi-target tracker: predict, associate, update, and the life of a track."""

from dataclasses import dataclass, fields, replace

import numpy as np
from numpy.typing import NDArray
from scipy.stats import chi2

from irst_pipeline.config import TrackerSettings
from irst_pipeline.tracking.association import Pairs, nearest_neighbours
from irst_pipeline.tracking.kalman import Gaussians, innovations, predict, update
from irst_pipeline.tracking.motion import OBSERVATION, ConstantVelocity, MotionModel
from irst_pipeline.types import Detections, Floats, Frame, Integers, TrackEvent, Tracks, TrackStatus

Rows = Integers | NDArray[np.bool_]


@dataclass(frozen=True)
class Population:
    """All tracks alive; n rows."""

    id: Integers
    confirmed: NDArray[np.bool_]
    mean: Floats
    """(n, 4) x, vx, y, vy in px and px/s"""
    covariance: Floats
    """(n, 4, 4)"""
    size: Floats
    """(n, 2) px: width and height of the last detection"""
    score: Floats
    snr: Floats
    age: Integers
    """frames processed since and including the first detection"""
    hits: Integers
    last_seen: Floats
    """s: time of the last detection"""

    @classmethod
    def empty(cls) -> "Population":
        none, reals = np.empty(0, np.int64), np.empty(0)
        states = np.empty((0, 4)), np.empty((0, 4, 4))
        return cls(none, np.empty(0, bool), *states, np.empty((0, 2)), reals, reals, none, none, reals)

    def take(self, rows: Rows) -> "Population":
        return Population(**{f.name: getattr(self, f.name)[rows] for f in fields(self)})

    def join(self, other: "Population") -> "Population":
        columns = {f.name: (getattr(self, f.name), getattr(other, f.name)) for f in fields(self)}
        return Population(**{name: np.concatenate(pair) for name, pair in columns.items()})

    @property
    def states(self) -> Gaussians:
        return Gaussians(self.mean, self.covariance)


class Tracker:
    """Kalman filter, Mahalanobis gate, global nearest neighbour, M-of-N confirmation.

    Confirmed tracks choose their detections first, tentative ones share what is left, and the strong ones that are left
    then start new tracks. A track that is not seen coasts on its prediction until it has not been seen for too long or
    has left the field of view; one that is seen in the first frame after a gap lives on, however long the gap.
    """

    def __init__(self, settings: TrackerSettings) -> None:
        self._settings = settings
        self._motion: MotionModel = ConstantVelocity(settings.velocity_walk)
        self._gate = float(chi2.ppf(settings.gate_probability, 2))
        self._tracks = Population.empty()
        self._time: float | None = None
        self._next_id = 1

    def step(self, frame: Frame, detections: Detections) -> tuple[Tracks, tuple[TrackEvent, ...]]:
        """Take the detections of the next frame. Frames must come in the order of their times."""
        dt = frame.time - (frame.time if self._time is None else self._time)
        if dt < 0:
            raise ValueError(f"frame {frame.index} is {-dt:.6f} s earlier than the one before it")
        self._time = frame.time
        measured = np.column_stack([detections.x, detections.y])
        noise = detections.covariance[:, [0, 1, 1, 2]].reshape(-1, 2, 2)

        tracks = self._predicted(dt)
        pairs = self._associate(tracks, measured, noise)
        tracks = _updated(tracks, pairs, detections, measured, noise, frame.time)
        tracks, events = self._aged(tracks, frame)
        strong = np.flatnonzero(detections.score >= self._settings.start_score)
        founders = np.setdiff1d(strong, pairs.detections)
        self._tracks = tracks.join(self._born(detections, founders, measured, noise, frame.time))
        return _report(self._tracks, frame.time), events

    def _predicted(self, dt: float) -> Population:
        states = predict(self._tracks.states, self._motion.transition(dt), self._motion.process_noise(dt))
        return replace(self._tracks, mean=states.mean, covariance=states.covariance, age=self._tracks.age + 1)

    def _associate(self, tracks: Population, measured: Floats, noise: Floats) -> Pairs:
        chosen = Pairs(np.empty(0, np.int64), np.empty(0, np.int64))
        for group in (tracks.confirmed, ~tracks.confirmed):
            rows = np.flatnonzero(group)
            free = np.setdiff1d(np.arange(len(measured)), chosen.detections)
            found = nearest_neighbours(
                innovations(tracks.take(rows).states, OBSERVATION, measured[free], noise[free]), self._gate
            )
            chosen = Pairs(
                np.concatenate([chosen.tracks, rows[found.tracks]]),
                np.concatenate([chosen.detections, free[found.detections]]),
            )
        return chosen

    def _aged(self, tracks: Population, frame: Frame) -> tuple[Population, tuple[TrackEvent, ...]]:
        """Confirm and drop."""
        s = self._settings
        confirm = ~tracks.confirmed & (tracks.hits >= s.confirm_hits)
        confirmed = tracks.confirmed | confirm
        hopeless = ~confirmed & (tracks.age - tracks.hits > s.confirm_frames - s.confirm_hits)
        unseen = frame.time - tracks.last_seen > s.coast_seconds
        height, width = frame.image.shape
        x, y = tracks.mean[:, 0], tracks.mean[:, 2]
        outside = (x < -0.5) | (y < -0.5) | (x > width - 0.5) | (y > height - 0.5)
        drop = hopeless | unseen | outside
        events = [TrackEvent("confirmed", int(i), frame.index, frame.time) for i in tracks.id[confirm & ~drop]]
        events += [TrackEvent("dropped", int(i), frame.index, frame.time) for i in tracks.id[tracks.confirmed & drop]]
        return replace(tracks, confirmed=confirmed).take(~drop), tuple(events)

    def _born(self, detections: Detections, rows: Integers, measured: Floats, noise: Floats, time: float) -> Population:
        """A tentative track for each of these detections."""
        n = len(rows)
        mean, covariance = np.zeros((n, 4)), np.zeros((n, 4, 4))
        mean[:, [0, 2]] = measured[rows]
        covariance[:, [[0], [2]], [0, 2]] = noise[rows]
        covariance[:, [1, 3], [1, 3]] = self._settings.speed_sd**2
        first, self._next_id = self._next_id, self._next_id + n
        return Population(
            id=np.arange(first, first + n),
            confirmed=np.zeros(n, bool),
            mean=mean,
            covariance=covariance,
            size=detections.box[rows, 2:],
            score=detections.score[rows],
            snr=detections.snr[rows],
            age=np.ones(n, np.int64),
            hits=np.ones(n, np.int64),
            last_seen=np.full(n, time),
        )


def _updated(
    tracks: Population, pairs: Pairs, detections: Detections, measured: Floats, noise: Floats, time: float
) -> Population:
    rows, seen = pairs
    states = update(tracks.take(rows).states, OBSERVATION, measured[seen], noise[seen])
    columns = {f.name: getattr(tracks, f.name).copy() for f in fields(tracks)}
    columns["mean"][rows], columns["covariance"][rows] = states
    columns["size"][rows] = detections.box[seen, 2:]
    columns["score"][rows], columns["snr"][rows] = detections.score[seen], detections.snr[seen]
    columns["hits"][rows] += 1
    columns["last_seen"][rows] = time
    return Population(**columns)


def _report(tracks: Population, time: float) -> Tracks:
    x, vx, y, vy = tracks.mean.T
    coasting = tracks.confirmed & (tracks.last_seen < time)
    status = np.where(coasting, TrackStatus.COASTING, np.where(tracks.confirmed, TrackStatus.CONFIRMED, 0))
    return Tracks(
        id=tracks.id,
        status=status.astype(np.int8),
        x=x,
        y=y,
        vx=vx,
        vy=vy,
        covariance=tracks.covariance[:, [0, 0, 2], [0, 2, 2]],
        box=np.column_stack([np.column_stack([x, y]) - tracks.size / 2, tracks.size]),
        score=tracks.score,
        snr=tracks.snr,
        age=tracks.age,
        hits=tracks.hits,
    )
