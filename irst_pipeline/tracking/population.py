"""The tracks alive, as a structure of arrays."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from irst_pipeline.tracking.imm import Mixture, combined
from irst_pipeline.tracking.kalman import Gaussians, positions
from irst_pipeline.tracking.motion import beyond
from irst_pipeline.types import Floats, Integers, Tracks, TrackStatus

Rows = Integers | NDArray[np.bool_]


class Population(NamedTuple):
    """All tracks alive; n rows."""

    id: Integers
    confirmed: NDArray[np.bool_]
    mean: Floats
    """(n, m, d) by motion model: x, vx, y, vy in px and px/s, or with accelerations x, vx, ax, y, vy, ay"""
    covariance: Floats
    """(n, m, d, d)"""
    weight: Floats
    """(n, m) probability of the motion models"""
    misfit: Floats
    """(n, 5, 5) of lines to its detections until it is confirmed, as in `line`"""
    in_line: Integers
    """how many detections that is of"""
    evidence: Floats
    """log likelihood ratio of a target against clutter by the strong detections, no more than confirms the track;
    -inf until then for one that a weaker detection began"""
    dim_evidence: Floats
    """the same of a dim target, by all detections"""
    size: Floats
    """(n, 2) px: width and height of the last detection"""
    score: Floats
    snr: Floats
    age: Integers
    """frames processed since and including the first detection"""
    unbroken: Integers
    """frames processed since and including the first detection after the last jump"""
    hits: Integers
    strong_hits: Integers
    """of them, those by detections that were not weak"""
    missed: Integers
    """frames since the last detection"""
    visible: Floats
    """probability that its target is not hidden, by the frames since the last detection; 1 until it is confirmed"""
    last_seen: Floats
    """s: time of the last detection"""
    detection: Integers
    """row of the frame's detections that is the track's, -1 for none"""
    nis: Floats
    """normalised innovation squared of that detection, NaN without one"""

    @classmethod
    def empty(cls, models: int, dimensions: int) -> "Population":
        """No tracks; `models` and `dimensions`: m and d of the states that they will have."""
        whole, reals = np.empty(0, np.int64), np.empty(0)
        return cls(
            id=whole,
            confirmed=np.empty(0, bool),
            mean=np.empty((0, models, dimensions)),
            covariance=np.empty((0, models, dimensions, dimensions)),
            weight=np.empty((0, models)),
            misfit=np.empty((0, 5, 5)),
            in_line=whole,
            evidence=reals,
            dim_evidence=reals,
            size=np.empty((0, 2)),
            score=reals,
            snr=reals,
            age=whole,
            unbroken=whole,
            hits=whole,
            strong_hits=whole,
            missed=whole,
            visible=reals,
            last_seen=reals,
            detection=whole,
            nis=reals,
        )

    def take(self, rows: Rows) -> "Population":
        return Population._make([column[rows] for column in self])

    def join(self, other: "Population") -> "Population":
        return Population._make(np.concatenate(pair) for pair in zip(self, other, strict=True))

    def continued(self, old: Rows, new: Rows) -> "Population":
        """With the tracks `new` as what the tracks `old` go on as"""
        columns = {name: getattr(self, name).copy() for name in ("id", "age", "hits", "strong_hits")}
        columns["hits"][new] += columns["hits"][old]
        columns["strong_hits"][new] += columns["strong_hits"][old]
        columns["id"][new], columns["age"][new] = columns["id"][old], columns["age"][old]
        return self._replace(**columns)

    @property
    def begun_weakly(self) -> NDArray[np.bool_]:
        """Which no bright detection began, and nothing has confirmed"""
        return self.evidence == -np.inf

    @property
    def dim(self) -> NDArray[np.bool_]:
        """Which are seen weakly at least half of the time, or were first"""
        return (2 * self.strong_hits <= self.hits) | self.begun_weakly

    @property
    def may_be_dim(self) -> NDArray[np.bool_]:
        """Which may take weak detections: also those that have hardly been seen"""
        return (2 * self.strong_hits <= self.hits + 2) | self.begun_weakly

    @property
    def mixture(self) -> Mixture:
        return Mixture(self.mean, self.covariance, self.weight)

    def reported(self, shape: tuple[int, ...], usable: Integers) -> Tracks:
        """Those seen or expected in the image (H, W). `usable`: the rows of the frame's detections that were taken."""
        tracks, states = self, combined(self.mixture)
        shown = (self.detection >= 0) | (beyond(positions(states).mean, shape) <= 0)
        if not shown.all():
            tracks, states = tracks.take(shown), Gaussians(*(part[shown] for part in states))
        order = states.mean.shape[1] // 2
        x, vx, y, vy = states.mean[:, [0, 1, order, order + 1]].T
        status = np.where(tracks.detection < 0, np.int8(TrackStatus.COASTING), np.int8(TrackStatus.CONFIRMED))
        return Tracks(
            id=tracks.id,
            status=status * tracks.confirmed - tracks.begun_weakly,  # TENTATIVE is 0, PRELIMINARY -1
            x=x,
            y=y,
            vx=vx,
            vy=vy,
            covariance=states.covariance[:, [0, 0, order], [0, order, order]],
            box=np.concatenate([positions(states).mean - tracks.size / 2, tracks.size], 1),
            score=tracks.score,
            snr=tracks.snr,
            age=tracks.age,
            hits=tracks.hits,
            detection=np.concatenate([usable, [-1]])[tracks.detection],
            nis=tracks.nis,
        )


def doubled(tracks: Population) -> NDArray[np.bool_]:
    """(n,) the tentative tracks whose detection is also that of a better one.

    Where each takes of every detection what is probably its own, such tracks would share the evidence of one target for
    as long as it is seen, and none be confirmed. A confirmed track is better than a tentative one, one that a strong
    detection began than one of a weak one, and else that with more evidence. Among those that weak ones began all stay:
    noise that lines up looks better than a dim target for a while.
    """
    evidence = np.where(tracks.begun_weakly, tracks.dim_evidence, tracks.evidence)
    order = np.lexsort((-evidence, tracks.begun_weakly, ~tracks.confirmed, tracks.detection))
    detection, again = tracks.detection[order], np.zeros(len(order), bool)
    best = order[np.searchsorted(detection, detection)]
    again[order] = (best != order) & (detection >= 0) & ~(tracks.begun_weakly[order] & tracks.begun_weakly[best])
    return again & ~tracks.confirmed
