"""The life of a track, on detections made by hand."""

from collections.abc import Sequence

import numpy as np
import pytest

from irst_pipeline.config import TrackerSettings
from irst_pipeline.tracking.tracker import Tracker
from irst_pipeline.types import Detections, Frame, TrackEvent, Tracks, TrackStatus

RATE = 30.0
SETTINGS = TrackerSettings()
IMAGE = np.zeros((256, 320), np.uint8)


def detections(points: Sequence[tuple[float, float]], score: float, sd: float = 0.3) -> Detections:
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
        snr=np.full(n, 12.0),
    )


class Scene:
    """Feeds a tracker and keeps what it said."""

    def __init__(self, settings: TrackerSettings = SETTINGS) -> None:
        self.tracker, self.index, self.events = Tracker(settings), 0, list[TrackEvent]()
        self.score = 0.95

    def __call__(self, *points: tuple[float, float], time: float | None = None) -> Tracks:
        when = self.index / RATE if time is None else time
        tracks, events = self.tracker.step(Frame(IMAGE, self.index, when, "scene"), detections(points, self.score))
        self.index += 1
        self.events += events
        return tracks


def moving(i: int, x: float = 50, y: float = 60, vx: float = 40, vy: float = -10) -> tuple[float, float]:
    return x + vx * i / RATE, y + vy * i / RATE


def test_a_steady_target_becomes_one_confirmed_track_with_its_velocity() -> None:
    scene = Scene()
    for i in range(60):
        tracks = scene(moving(i))
    assert tracks.id.tolist() == [1]
    assert tracks.status.tolist() == [TrackStatus.CONFIRMED]
    assert tracks.age.tolist() == tracks.hits.tolist() == [60]
    np.testing.assert_allclose([tracks.x[0], tracks.y[0]], moving(59), atol=0.1)
    np.testing.assert_allclose([tracks.vx[0], tracks.vy[0]], [40, -10], atol=5)
    assert [(e.kind, e.frame) for e in scene.events] == [("confirmed", SETTINGS.confirm_hits - 1)]


def test_m_of_n_confirms_through_misses_and_gives_up_on_single_flashes() -> None:
    scene = Scene(TrackerSettings(confirm_hits=3, confirm_frames=5))
    for seen in (True, False, True, False, True):
        tracks = scene(*([(50.0, 60.0)] if seen else []))
    assert tracks.status.tolist() == [TrackStatus.CONFIRMED]
    for point in ((100.0, 60.0), (200.0, 60.0), (100.0, 200.0), None, None, None):
        tracks = scene(*([point] if point else []))
    assert TrackStatus.TENTATIVE not in tracks.status


def test_a_lost_target_coasts_with_growing_covariance_and_then_dies() -> None:
    scene = Scene()
    for i in range(30):
        tracks = scene(moving(i))
    spreads = [tracks.covariance[0, 0]]
    lifetime = 0
    while len(tracks := scene()):
        assert tracks.status.tolist() == [TrackStatus.COASTING]
        spreads.append(tracks.covariance[0, 0])
        lifetime += 1
        assert abs(tracks.x[0] - moving(29 + lifetime)[0]) < 5
    assert np.all(np.diff(spreads) > 0)
    assert lifetime == pytest.approx(SETTINGS.coast_seconds * RATE, abs=1)
    assert [e.kind for e in scene.events] == ["confirmed", "dropped"]


def test_a_target_comes_back_under_its_id() -> None:
    scene = Scene()
    for i in range(60):
        tracks = scene(*([] if 30 <= i < 40 else [moving(i)]))
    assert tracks.id.tolist() == [1]
    assert tracks.hits.tolist() == [50]


def test_coasting_is_counted_in_seconds_not_frames() -> None:
    scene = Scene()
    for i in range(30):
        scene(moving(i))
    assert len(scene(time=29 / RATE + SETTINGS.coast_seconds * 0.9)) == 1
    assert len(scene(time=29 / RATE + SETTINGS.coast_seconds * 1.1)) == 0


def test_crossing_targets_keep_their_ids() -> None:
    scene = Scene()
    for i in range(90):
        tracks = scene(moving(i, 40, 60, 60, 20), moving(i, 40, 120, 60, -20))
    assert tracks.id.tolist() == [1, 2]
    assert tracks.y[0] > tracks.y[1]
    assert len(scene.events) == 2


def test_a_track_that_leaves_the_picture_is_dropped_at_once() -> None:
    scene = Scene()
    for i in range(30):
        scene(moving(i, x=300, vx=20))
    lifetime = 0
    while len(scene()):
        lifetime += 1
    assert lifetime < SETTINGS.coast_seconds * RATE / 2


def test_a_confirmed_track_is_served_before_a_newcomer() -> None:
    scene = Scene()
    for i in range(30):
        scene(moving(i))
    scene(moving(30), (moving(30)[0] + 6, moving(30)[1]))
    tracks = scene(moving(31))
    assert tracks.status[tracks.id == 1] == TrackStatus.CONFIRMED


def test_a_track_far_away_does_not_matter() -> None:
    alone, together = Scene(), Scene()
    for i in range(40):
        a, b = alone(moving(i)), together(moving(i), (200 + i, 200.0))
    np.testing.assert_allclose([a.x[0], a.y[0], a.vx[0]], [b.x[0], b.y[0], b.vx[0]])


def test_weak_detections_keep_tracks_but_start_none() -> None:
    scene = Scene()
    for i in range(60):
        scene.score = 0.95 if i < 20 else 0.4
        tracks = scene(moving(i), *([(200.0, 200.0)] if i >= 20 else []))
    assert tracks.id.tolist() == [1]
    assert tracks.hits.tolist() == [60]


def test_a_mirrored_scene_gives_mirrored_tracks() -> None:
    rng = np.random.default_rng(2)
    plain, mirrored = Scene(), Scene()
    for i in range(60):
        points = [
            (p[0] + e[0], p[1] + e[1])
            for p, e in zip([moving(i), moving(i, 90)], rng.normal(0, 1, (2, 2)), strict=True)
        ]
        a, b = plain(*points), mirrored(*((319 - x, y) for x, y in points))
    np.testing.assert_allclose(a.x, 319 - b.x)
    np.testing.assert_allclose(a.vx, -b.vx)
    np.testing.assert_allclose(a.covariance * [1, -1, 1], b.covariance)


def test_clutter_confirms_next_to_nothing() -> None:
    rng, scene = np.random.default_rng(3), Scene()
    for _ in range(300):
        scene(*map(tuple, rng.uniform([0, 0], [320, 256], (3, 2))))
    assert sum(e.kind == "confirmed" for e in scene.events) <= 2


def test_time_must_not_run_backwards() -> None:
    scene = Scene()
    scene(time=1.0)
    with pytest.raises(ValueError, match="earlier"):
        scene(time=0.5)
