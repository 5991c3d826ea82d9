"""How well tracks follow targets whose paths are known, as the field measures it.

HOTA, MOTA, IDF1 and id switches are TrackEval's, on the similarity 1 - distance / (2 radius), so that its threshold of
0.5 is the radius. Everything else is here.
"""

import io
import math
from contextlib import redirect_stdout
from dataclasses import dataclass, replace
from typing import Any, NamedTuple, Self

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment
from scipy.stats import chi2

from irst_pipeline.errors import UsageError
from irst_pipeline.evaluation.matching import distances, match
from irst_pipeline.tracking.kalman import Gaussians, mahalanobis
from irst_pipeline.types import Floats, Integers

RADIUS = 10.0  # px from a target to a track that covers it
CUTOFF = 20.0  # px, c of GOSPA and OSPA(2): an error is never counted as more
BOUNDS = (0.025, 0.975)  # of the 95 % of a chi-square distribution that lie in its middle
SHARE = 0.95  # of the errors, that should lie within their own ellipse


@dataclass(frozen=True)
class Paths:
    """Where objects are over time: a row for each object and frame, in any order; n rows."""

    frame: Integers
    """(n,) from 0."""
    id: Integers
    """(n,) never twice in a frame."""
    position: Floats
    """(n, 2) px: x, y."""
    velocity: Floats
    """(n, 2) px/s: x, y; NaN where it is not known."""


@dataclass(frozen=True)
class TrackPaths(Paths):
    """What a tracker says: positions and how sure it is of them."""

    covariance: Floats
    """(n, 3) px^2: xx, xy, yy of the position; NaN where it is not known."""
    nis: Floats
    """(n,) normalised innovation squared of the track's detection; NaN where there is none."""

    @classmethod
    def of_positions(cls, frame: Integers, id_: Integers, position: Floats) -> Self:
        """Paths of which nothing else is known."""
        unknown = np.full((len(frame), 3), np.nan)
        return cls(frame, id_, position, unknown[:, :2], unknown, unknown[:, 0])


@dataclass(frozen=True)
class TrackedSequence:
    """Targets and tracks of the same frames."""

    truth: Paths
    tracks: TrackPaths
    frames: int
    """How many the sequence has; all rows lie in them."""
    frame_rate: float
    """frames/s"""

    def __post_init__(self) -> None:
        for frame in (self.truth.frame, self.tracks.frame):
            if np.any((frame < 0) | (frame >= self.frames)):
                raise ValueError(f"a row beyond the {self.frames} frames (0 to {self.frames - 1})")


@dataclass(frozen=True)
class TrackingScores:
    """The field's figures for one sequence; shares 0..1, NaN where there was nothing to measure."""

    frames: int
    targets: int
    tracks: int
    hota: float
    """Mean over the thresholds of similarity 0.05 to 0.95 (Luiten et al., IJCV 2021)."""
    deta: float
    """HOTA's part of detection, likewise."""
    assa: float
    """HOTA's part of association, likewise."""
    mota: float
    """At the radius (Bernardin and Stiefelhagen, 2008); 1 at best, below 0 with more errors than targets."""
    idf1: float
    """At the radius (Ristani et al., 2016)."""
    id_switches: int
    fragmentations: int
    """How often a target that was covered is lost and covered again."""
    gospa_px: float
    """Mean over frames."""
    gospa_localisation_px: float
    """Mean over frames of the root of this part of its square; likewise the next two."""
    gospa_missed_px: float
    gospa_false_px: float
    ospa2_px: float
    false_tracks: int
    """Tracks with a target within the radius for less than half of their life."""
    false_tracks_per_hour: float
    """Of the sequence's own time."""
    targets_missed: int
    """Never covered."""
    initiation_delay_s: float
    """From a target's first frame to the first in which it is covered: median of the targets that ever are."""
    position_rmse_px: float
    """Root of the mean squared length of the error, of the tracks that cover a target."""
    position_bias_x_px: float
    """Mean of that error, track less target: far from 0 where the truth counts its pixels another way."""
    position_bias_y_px: float
    velocity_rmse_px_s: float
    """Likewise."""
    nees: float
    """Mean of e' P^-1 e, e the position error and P its covariance (Bar-Shalom, Li and Kirubarajan, 2001, 5.4.2).

    2 if the covariances are right; above that they are too small.
    """
    nees_low: float
    """The mean of independent errors lies between this and `nees_high` with a probability of 95 %.

    The errors of successive frames are not: over one sequence it strays further than that.
    """
    nees_high: float
    nees_inside: float
    """Share of the errors within the 95 % ellipse of their covariance; 0.95 if the covariances are right."""
    nis: float
    """The same of the innovations of the tracks that cover a target: of their detections against what was expected."""
    nis_low: float
    nis_high: float
    nis_inside: float


class Matches(NamedTuple):
    """Targets and the tracks that cover them; k rows, in the order of the frames."""

    truth: Integers
    """(k,) rows of the truth."""
    tracks: Integers
    """(k,) rows of the tracks."""


@dataclass(frozen=True)
class Evaluation:
    """The scores, and what they come from."""

    scores: TrackingScores
    matches: Matches
    gospa: Floats
    """(frames,) px"""


class _Meeting(NamedTuple):
    """What is in one frame: n targets and m tracks."""

    frame: int
    truth: Integers
    """(n,) rows of the truth."""
    tracks: Integers
    """(m,) rows of the tracks."""
    distance: Floats
    """(n, m) px"""


class _Gospa(NamedTuple):
    """See TrackingScores."""

    gospa_px: float
    gospa_localisation_px: float
    gospa_missed_px: float
    gospa_false_px: float


def evaluate(sequence: TrackedSequence) -> Evaluation:
    """Score the tracks of a sequence; a target is covered by at most one track, at most `RADIUS` px away.

    In each frame as many targets are covered as can be, by the tracks that covered them last where these may, else by
    those that are nearest in sum. Raises UsageError if TrackEval is not installed.
    """
    truth, tracks = sequence.truth, sequence.tracks
    meetings = _meetings(truth, tracks, np.union1d(truth.frame, tracks.frame))
    (targets, target_of), (found, track_of) = (np.unique(paths.id, return_inverse=True) for paths in (truth, tracks))
    matches = _covering(meetings, target_of, track_of)
    covered = np.zeros(len(truth.id), bool)
    covered[matches.truth] = True
    fragmentations, delays = _coverage(truth, covered)
    gospa = np.zeros((sequence.frames, len(_Gospa._fields)))
    for meeting in meetings:
        gospa[meeting.frame] = _gospa(meeting.distance)
    false = _false_tracks(meetings, track_of)
    error = tracks.position[matches.tracks] - truth.position[matches.truth]
    bias_x, bias_y = error.mean(axis=0).tolist() if len(error) else (math.nan, math.nan)
    scores = TrackingScores(
        frames=sequence.frames,
        targets=len(targets),
        tracks=len(found),
        **_trackeval(meetings, target_of, track_of),
        fragmentations=fragmentations,
        **_Gospa(*gospa.mean(axis=0).tolist())._asdict(),
        ospa2_px=_ospa2(meetings, target_of, track_of),
        false_tracks=false,
        false_tracks_per_hour=false / (sequence.frames / sequence.frame_rate / 3600),
        targets_missed=len(targets) - len(delays),
        initiation_delay_s=float(np.median(delays)) / sequence.frame_rate if len(delays) else math.nan,
        position_rmse_px=_rms(error),
        position_bias_x_px=bias_x,
        position_bias_y_px=bias_y,
        velocity_rmse_px_s=_rms(tracks.velocity[matches.tracks] - truth.velocity[matches.truth]),
        **_consistency("nees", _squares(error, tracks.covariance[matches.tracks])),
        **_consistency("nis", tracks.nis[matches.tracks]),
    )
    return Evaluation(scores, matches, gospa[:, 0])


def without_hidden(sequence: TrackedSequence, hidden: Paths) -> TrackedSequence:
    """The sequence without the rows of tracks that follow a target nobody can see: neither right nor wrong.

    Those are within `RADIUS` px of a target of `hidden`, one of each, and cover none of the others.
    """
    if not len(hidden.frame):
        return sequence  # who covers whom need not be found twice
    truth, tracks = sequence.truth, sequence.tracks
    target_of, track_of = (np.unique(paths.id, return_inverse=True)[1] for paths in (truth, tracks))
    free = np.ones(len(tracks.id), bool)
    free[_covering(_meetings(truth, tracks, np.unique(truth.frame)), target_of, track_of).tracks] = False
    follows = np.zeros(len(tracks.id), bool)
    for unseen in _meetings(hidden, tracks, np.unique(hidden.frame)):
        columns = np.flatnonzero(free[unseen.tracks])
        _, near = match(unseen.distance[:, columns], RADIUS)
        follows[unseen.tracks[columns[near]]] = True
    return replace(sequence, tracks=TrackPaths(**{name: rows[~follows] for name, rows in vars(tracks).items()}))


def velocities(frame: Integers, id_: Integers, position: Floats, frame_rate: float) -> Floats:
    """px/s (n, 2) of the positions (n, 2) of objects `id_` in `frame`: central differences, one-sided at the ends.

    NaN for an object with one position.
    """
    velocity = np.full(position.shape, np.nan)
    for rows in rows_by_object(frame, id_):
        if len(rows) > 1:
            velocity[rows] = np.gradient(position[rows], frame[rows] / frame_rate, axis=0)
    return velocity


def rows_by_object(frame: Integers, id_: Integers) -> list[Integers]:
    """The rows of each object, in the order of its frames."""
    order = np.lexsort((frame, id_))
    return np.split(order, 1 + np.flatnonzero(np.diff(id_[order]))) if len(order) else []


def _meetings(truth: Paths, tracks: Paths, frames: Integers) -> list[_Meeting]:
    """Of each of these `frames`, which increase."""
    rows = zip(frames.tolist(), *(_rows_by_frame(paths.frame, frames) for paths in (truth, tracks)), strict=True)
    return [_Meeting(frame, t, k, distances(truth.position[t], tracks.position[k])) for frame, t, k in rows]


def _covering(meetings: list[_Meeting], target_of: Integers, track_of: Integers) -> Matches:
    """Which track covers which target in each frame; where targets cross, those that did before (Bernardin and
    Stiefelhagen, 2008): the nearest may be the other's there, which moves elsewhere."""
    matches = [Matches(np.empty(0, np.int64), np.empty(0, np.int64))]
    last = np.full(target_of.max(initial=-1) + 1, -1)  # of each target, the track that covered it last
    for meeting in meetings:
        targets, found = target_of[meeting.truth], track_of[meeting.tracks]
        rows, columns = match(meeting.distance, RADIUS, last[targets, None] == found)
        last[np.isin(last, found[columns])] = -1  # a track that has gone over to another target is that one's
        last[targets[rows]] = found[columns]
        matches.append(Matches(meeting.truth[rows], meeting.tracks[columns]))
    return Matches(*(np.concatenate(side) for side in zip(*matches, strict=True)))


def _rows_by_frame(frame: Integers, frames: Integers) -> list[Integers]:
    order = np.argsort(frame, kind="stable")
    first, end = (np.searchsorted(frame[order], frames, side).tolist() for side in ("left", "right"))
    return [order[a:b] for a, b in zip(first, end, strict=True)]


def _trackeval(meetings: list[_Meeting], target_of: Integers, track_of: Integers) -> dict[str, Any]:
    """TrackEval's scores as in TrackingScores; `target_of` and `track_of` number the objects of the rows from 0."""
    if not len(target_of):
        return dict.fromkeys(("hota", "deta", "assa", "mota", "idf1"), math.nan) | {"id_switches": 0}
    try:
        # It says on stdout which of its readers of data sets lack something; none is used here.
        with redirect_stdout(io.StringIO()):
            from trackeval.metrics import CLEAR, HOTA, Identity
    except ImportError:
        raise UsageError(
            "evaluate tracking: the package trackeval is missing; pip install --no-deps trackeval==1.3.0"
        ) from None
    data = {
        "gt_ids": [target_of[meeting.truth] for meeting in meetings],
        "tracker_ids": [track_of[meeting.tracks] for meeting in meetings],
        "similarity_scores": [np.clip(1 - meeting.distance / (2 * RADIUS), 0, 1) for meeting in meetings],
        "num_timesteps": len(meetings),
        "num_gt_ids": len(np.unique(target_of)),
        "num_tracker_ids": len(np.unique(track_of)),
        "num_gt_dets": len(target_of),
        "num_tracker_dets": len(track_of),
    }
    hota = HOTA().eval_sequence(data)
    clear = CLEAR({"PRINT_CONFIG": False}).eval_sequence(data)
    identity = Identity({"PRINT_CONFIG": False}).eval_sequence(data)
    means = {name.lower(): float(np.mean(hota[name])) for name in ("HOTA", "DetA", "AssA")}
    return means | {
        "mota": float(clear["MOTA"]),
        "idf1": float(identity["IDF1"]),
        "id_switches": int(clear["IDSW"]),
    }


def _false_tracks(meetings: list[_Meeting], track_of: Integers) -> int:
    """How many tracks have a target within the radius for less than half of their life."""
    near = np.zeros(len(track_of), bool)
    for meeting in meetings:
        near[meeting.tracks] = (meeting.distance <= RADIUS).any(axis=0)
    return int((np.bincount(track_of, near) < np.bincount(track_of) / 2).sum())


def _coverage(truth: Paths, covered: NDArray[np.bool_]) -> tuple[int, Integers]:
    """Fragmentations, and for each target that was ever covered the frames that took.

    TrackEval counts fragmentations as well, but not those from frames without any track.
    """
    order = np.lexsort((truth.frame, truth.id))
    id_, frame, covered = truth.id[order], truth.frame[order], covered[order]
    begins = covered.copy()
    begins[1:] &= ~(covered[:-1] & (id_[1:] == id_[:-1]))
    ids, first = np.unique(id_, return_index=True)
    ever, first_covered = np.unique(id_[covered], return_index=True)
    delays = frame[covered][first_covered] - frame[first[np.isin(ids, ever)]]
    return int(begins.sum()) - len(ever), delays


def _gospa(distance: Floats) -> _Gospa:
    """GOSPA between n targets and m tracks, and its parts, in px; the squares of the parts sum to its square.

    With p = 2 and alpha = 2: Rahmathullah, Garcia-Fernandez and Svensson, "Generalized optimal sub-pattern assignment
    metric", FUSION 2017, proposition 1. A pair at the cut-off costs what a missed target and a false track do.
    """
    rows, columns = linear_sum_assignment(np.minimum(distance, CUTOFF) ** 2)
    near = distance[rows, columns]
    near = near[near < CUTOFF]
    targets, tracks = distance.shape
    localisation = float((near**2).sum())
    missed, false = (CUTOFF**2 / 2 * (n - len(near)) for n in (targets, tracks))
    return _Gospa(*(math.sqrt(part) for part in (localisation + missed + false, localisation, missed, false)))


def _ospa2(meetings: list[_Meeting], target_of: Integers, track_of: Integers) -> float:
    """OSPA(2) in px, the whole sequence in one window of even weights, orders p = q = 1.

    Beard, Vo and Vo, "A solution for large-scale multi-object tracking", IEEE Trans. Signal Processing 2020: the
    distance of a target's path and a track's is the mean, over the frames in which either is, of the distance there,
    which is the cut-off where one of them is alone; OSPA between the two sets of paths is taken on that.
    """
    target_life, track_life = np.bincount(target_of), np.bincount(track_of)
    shape = len(target_life), len(track_life)
    apart, together = np.zeros(shape), np.zeros(shape)
    for _, truth, tracks, distance in meetings:
        at = np.ix_(target_of[truth], track_of[tracks])
        apart[at] += np.minimum(distance, CUTOFF)
        together[at] += 1
    lives = target_life[:, None] + track_life[None]
    path_distance = (apart + CUTOFF * (lives - 2 * together)) / (lives - together)
    rows, columns = linear_sum_assignment(path_distance)
    most = max(shape)
    return float(path_distance[rows, columns].sum() + CUTOFF * (most - len(rows))) / most if most else 0.0


def _rms(error: Floats) -> float:
    """Root mean square length of errors (n, 2), without those that are not known."""
    squares = (error**2).sum(axis=1)
    squares = squares[np.isfinite(squares)]
    return float(np.sqrt(squares.mean())) if len(squares) else math.nan


def _squares(error: Floats, covariance: Floats) -> Floats:
    """Squared Mahalanobis length (n,) of errors (n, 2) by covariances (n, 3); NaN where one cannot be inverted."""
    xx, xy, yy = covariance.T
    usable = (xx > 0) & (xx * yy > xy**2)
    squares = np.full(len(error), np.nan)
    matrices = covariance[:, [0, 1, 1, 2]].reshape(-1, 2, 2)
    squares[usable] = mahalanobis(Gaussians(error[usable], matrices[usable]))
    return squares


def _consistency(name: str, squares: Floats) -> dict[str, Any]:
    """Of squared Mahalanobis lengths in two dimensions, those that are known: their mean, its 95 % bounds if they are
    independent, and the share of them within the 95 % ellipse; named as in TrackingScores."""
    squares = squares[np.isfinite(squares)]
    mean = low = high = inside = math.nan
    if count := len(squares):
        mean, inside = float(squares.mean()), float((squares <= chi2.ppf(SHARE, 2)).mean())
        low, high = (chi2.ppf(np.array(BOUNDS), 2 * count) / count).tolist()
    return {name: mean, f"{name}_low": low, f"{name}_high": high, f"{name}_inside": inside}
