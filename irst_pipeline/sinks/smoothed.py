"""The tracks again, once the whole recording has been seen."""

import logging
import math
from collections import defaultdict
from pathlib import Path
from time import perf_counter
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from irst_pipeline.detection import LOCALISATION_SD
from irst_pipeline.disk import OutputFile
from irst_pipeline.sinks.base import RunHeader
from irst_pipeline.sinks.jsonl import head, lines, track_records
from irst_pipeline.state import State
from irst_pipeline.tracking.kalman import Gaussians, positions
from irst_pipeline.tracking.motion import beyond, moved
from irst_pipeline.tracking.smooth import History, joined, smooth, stitch
from irst_pipeline.types import CameraMotion, Floats, FrameResult, Integers, Tracks, TrackStatus, View

log = logging.getLogger("irst")

TOLD_EVERY = 10.0  # s between two lines of how far the smoothing is


class _Seen(NamedTuple):
    """One detection of a track; places as the first frame's camera sees them."""

    frame: int
    time: float
    place: Floats
    """(2,) px: x, y"""
    noise: Floats
    """(2, 2) px^2: covariance of the place"""
    look: Floats
    """(4,) width and height of its box (px), score, SNR"""


class _Kept(NamedTuple):
    """What is kept of a frame."""

    time: float
    shape: tuple[int, ...]
    blind: bool
    camera: Floats
    """(3, 3): its px to those of the first frame"""
    view: View | None


class SmoothedJsonl:
    """`smoothed.jsonl`: the confirmed tracks, smoothed and stitched, in the form of `tracks.jsonl`; written at the end.

    A track begins with its first detection; where it jumped it ends, and begins anew with the same id. What is kept of
    a recording grows with it, and is in no state: a run with such a sink is not resumed.
    """

    missed = 0

    def __init__(self, path: Path, header: RunHeader, _state: State | None = None) -> None:
        self._speed_sd = header.settings.tracker.speed_sd
        self._file = OutputFile(path, head(header))
        self._frames: dict[int, _Kept] = {}
        self._camera = np.eye(3)  # of the last frame
        self._seen: defaultdict[int, list[_Seen]] = defaultdict(list)
        self._confirmed: set[int] = set()
        self._told = -math.inf  # when it was said last how far the smoothing is
        self._jumps: dict[int, int] = {}  # a track that jumps goes on as a leg of the id that this began with

    def write(self, result: FrameResult) -> None:
        frame = result.frame
        self._camera = self._camera @ np.linalg.inv(result.motion.matrix)
        kept = _Kept(frame.time, frame.image.shape, frame.blind, self._camera, result.view)
        self._frames[frame.index] = kept
        tracks, detections = result.tracks, result.detections
        self._jumps |= {self._leg(event.id): event.was for event in result.events if event.was is not None}
        self._confirmed.update(map(self._leg, tracks.id[tracks.confirmed].tolist()))
        parts = [tracks, result.preliminary]
        ids, rows = (np.concatenate(columns) for columns in zip(*((p.id, p.detection) for p in parts), strict=True))
        ids, rows, camera = ids[rows >= 0], rows[rows >= 0], CameraMotion(self._camera, known=True)
        places = detections.position[rows]
        turn = camera.jacobian(places)
        noise = turn @ detections.noise[rows] @ np.swapaxes(turn, -1, -2)
        looks = np.column_stack([detections.box[rows, 2:], detections.score[rows], detections.snr[rows]])
        for id_, *values in zip(ids.tolist(), camera.apply(places), noise, looks, strict=True):
            self._seen[self._leg(id_)].append(_Seen(frame.index, frame.time, *values))

    def _leg(self, track: int) -> int:
        """The id that its newest leg is kept under, another than its own once it has jumped."""
        while track in self._jumps:
            track = self._jumps[track]
        return track

    def state(self) -> State:
        return {}

    def close(self) -> None:
        try:
            if self._confirmed and not self._file.failed:
                self._write_tracks()
                self._confirmed.clear()
        finally:
            self._file.close()

    def _write_tracks(self) -> None:
        frames, times = np.array(list(self._frames)), np.array([kept.time for kept in self._frames.values()])
        blind = [frame for frame, kept in self._frames.items() if kept.blind]
        parts = {
            id_: joined([History(*(np.array(column) for column in zip(*self._seen[id_], strict=True)))], frames, times)
            for id_ in sorted(self._confirmed)
        }
        states = self._smooth(parts)
        whole = stitch(parts, states, frames, times, self._jumps)
        states |= self._smooth({id_: history for id_, history in whole.items() if history is not parts[id_]})
        track_of: dict[int, int] = {}
        for leg, following in self._jumps.items():  # in their order
            track_of[following] = track_of.get(leg, leg)
        rows = [_Rows.of(track_of.get(leg, leg), history, states[leg], blind) for leg, history in sorted(whole.items())]
        columns: list[Any] = [np.concatenate(column) for column in zip(*rows, strict=True)]
        table = _Rows(*columns)
        order = np.argsort(table.frame, kind="stable")
        borders = np.searchsorted(table.frame[order], frames)
        for (frame, kept), own in zip(self._frames.items(), np.split(order, borders[1:]), strict=True):
            if not len(own):
                continue  # as most frames of a long recording
            camera = CameraMotion(np.asarray(np.linalg.inv(kept.camera), np.float64), known=True)
            tracks = table.take(own).tracks(camera, kept.shape)
            bearings = kept.view.bearings(tracks) if kept.view else None
            self._file.write(lines(track_records({"frame": frame, "time": round(kept.time, 6)}, tracks, bearings)))

    def _smooth(self, parts: dict[int, History]) -> dict[int, Gaussians]:
        """The states of each part; how far it is, is told, for it may take minutes."""
        states = dict[int, Gaussians]()
        for number, (id_, history) in enumerate(parts.items(), 1):
            if perf_counter() > self._told + TOLD_EVERY:
                log.info("%s: smoothing track %d of %d", self._file.path, number, len(parts))
                self._told = perf_counter()
            states[id_] = smooth(history, self._speed_sd)
        return states


class _Rows(NamedTuple):
    """Smoothed tracks: a row a track and frame, N in all, places as the first frame's camera sees them."""

    frame: Integers
    id: Integers
    mean: Floats
    """(N, 4) x, vx, y, vy"""
    covariance: Floats
    """(N, 4, 4)"""
    look: Floats
    """(N, 4) width and height of the last detection's box (px), its score, its SNR"""
    seen: NDArray[np.bool_]
    age: Integers
    hits: Integers

    @classmethod
    def of(cls, id_: int, history: History, states: Gaussians, blind: list[int]) -> "_Rows":
        count, seen = len(history.frame), history.seen
        hits = np.cumsum(seen, dtype=np.int64)
        look = history.look[np.flatnonzero(seen)[hits - 1]]
        ids, age = np.full(count, id_), np.cumsum(~np.isin(history.frame, blind), dtype=np.int64)
        # What shifts all detections alike is in their mean as well.
        covariance = states.covariance + np.diag([1.0, 0, 1, 0]) * LOCALISATION_SD**2
        return cls(history.frame, ids, states.mean, covariance, look, seen, age, hits)

    def take(self, rows: Integers) -> "_Rows":
        columns: list[Any] = [column[rows] for column in self]
        return _Rows(*columns)

    def tracks(self, camera: CameraMotion, shape: tuple[int, ...]) -> Tracks:
        """The tracks seen or expected in one frame (H, W), whose camera sees the first frame's places so."""
        states = moved(Gaussians(self.mean, self.covariance), camera)
        shown = self.seen | (beyond(positions(states).mean, shape) <= 0)
        rows = self.take(np.flatnonzero(shown))
        x, vx, y, vy = states.mean[shown].T
        size, score, snr = rows.look[:, :2], *rows.look[:, 2:].T
        return Tracks(
            id=rows.id,
            status=np.where(rows.seen, TrackStatus.CONFIRMED, TrackStatus.COASTING).astype(np.int8),
            x=x,
            y=y,
            vx=vx,
            vy=vy,
            covariance=states.covariance[shown][:, [0, 0, 2], [0, 2, 2]],
            box=np.column_stack([np.column_stack([x, y]) - size / 2, size]),
            score=score,
            snr=snr,
            age=rows.age,
            nis=np.full(len(rows.id), np.nan),
            hits=rows.hits,
            detection=np.full(len(rows.id), -1),
        )
