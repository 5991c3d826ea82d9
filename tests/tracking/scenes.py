"""Detections made by hand, and a tracker that is fed with them, for tests."""

from collections.abc import Sequence

import numpy as np
import pytest

from irst_pipeline.config import TrackerSettings
from irst_pipeline.tracking.tracker import Tracker
from irst_pipeline.types import STANDS_STILL, Detections, Frame, TrackEvent, Tracks

RATE = 30.0
SETTINGS = TrackerSettings()
KINDS = {
    "nearest": SETTINGS,
    "joint": TrackerSettings(association="joint"),
    "accelerating": TrackerSettings(acceleration_sd=50.0),
}
every_kind = pytest.mark.parametrize("settings", KINDS.values(), ids=KINDS)
IMAGE = np.zeros((256, 320), np.uint8)


def detections(points: Sequence[tuple[float, float]], score: float, sd: float = 0.3, snr: float = 8.0) -> Detections:
    n = len(points)
    xy = np.array(points, float).reshape(-1, 2)
    return Detections(
        x=xy[:, 0],
        y=xy[:, 1],
        covariance=np.tile([sd**2, 0, sd**2], (n, 1)),
        box=np.column_stack([xy - 1.5, np.full((n, 2), 3.0)]),
        area=np.full(n, 5),
        score=np.full(n, score),
        intensity=np.full(n, 30.0),
        snr=np.full(n, snr),
    )


class Scene:
    """Feeds a tracker and keeps what it said."""

    def __init__(self, settings: TrackerSettings = SETTINGS) -> None:
        self.tracker, self.index, self.events = Tracker(settings), 0, list[TrackEvent]()
        self.score, self.snr, self.motion = 0.95, 8.0, STANDS_STILL

    def __call__(
        self, *points: tuple[float, float], time: float | None = None, blind: bool = False, unchanged: float = 0.0
    ) -> Tracks:
        when = self.index / RATE if time is None else time
        frame = Frame(IMAGE, self.index, when, "scene", blind=blind, unchanged=unchanged)
        tracks, events = self.tracker.step(frame, detections(points, self.score, snr=self.snr), self.motion)
        self.index += 1
        self.events += events
        return tracks


def moving(i: int, x: float = 50, y: float = 60, vx: float = 40, vy: float = -10) -> tuple[float, float]:
    return x + vx * i / RATE, y + vy * i / RATE
