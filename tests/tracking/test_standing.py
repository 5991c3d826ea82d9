"""Where every track has to move: what stands still in the scene is not confirmed."""

from pathlib import Path

import numpy as np
import pytest

from irst_pipeline.cli import main
from irst_pipeline.config import TrackerSettings
from irst_pipeline.types import CameraMotion
from tests.running import ROOT, report
from tests.tracking.scenes import RATE, Scene, moving

MOVING = {kind: TrackerSettings(speed_min=3.0, association=kind) for kind in ("nearest", "joint")}
either_way = pytest.mark.parametrize("settings", MOVING.values(), ids=MOVING)
PAN = np.array([60.0, 10.0])  # px/s


def confirmed(scene: Scene) -> list[int]:
    """Frames in which tracks were confirmed."""
    return [event.frame for event in scene.events if event.kind == "confirmed"]


def shaken(place: tuple[float, float], rng: np.random.Generator) -> tuple[float, float]:
    x, y = np.add(place, rng.normal(0, 0.3, 2))
    return float(x), float(y)


@either_way
@pytest.mark.parametrize(("speed", "found"), [(0.0, False), (1.5, False), (6.0, True), (60.0, True)])
def test_only_what_moves_as_fast_is_confirmed(settings: TrackerSettings, speed: float, found: bool) -> None:
    rng, scene, usual = np.random.default_rng(0), Scene(settings), Scene()
    for i in range(150):
        place = shaken(moving(i, vx=0.8 * speed, vy=-0.6 * speed), rng)
        tracks = scene(place)
        usual(place)
    assert len(tracks) == len(confirmed(usual)) == 1, "it has a track either way"
    assert len(confirmed(scene)) == found
    assert tracks.confirmed.tolist() == [found]


@either_way
def test_a_fast_target_is_confirmed_as_soon_as_where_it_need_not_move(settings: TrackerSettings) -> None:
    scene, usual = Scene(settings), Scene(settings.model_copy(update={"speed_min": 0.0}))
    for i in range(30):
        for each in (scene, usual):
            each(moving(i))
    assert len(confirmed(scene)) == len(confirmed(usual)) == 1
    assert confirmed(scene)[0] <= confirmed(usual)[0] + 2


@either_way
def test_what_starts_after_a_while_is_confirmed_then_and_stays_so_when_it_comes_to_rest(
    settings: TrackerSettings,
) -> None:
    rng, scene = np.random.default_rng(0), Scene(settings)
    for i in range(450):
        tracks = scene(shaken(moving(min(max(i - 150, 0), 150), x=100, vx=20, vy=0), rng))
    (frame,) = confirmed(scene)
    assert 150 < frame < 150 + 1.5 * RATE
    assert tracks.confirmed.tolist() == [True]
    assert not [event for event in scene.events if event.kind == "dropped"]


@either_way
def test_it_is_the_scene_that_a_target_has_to_move_across(settings: TrackerSettings) -> None:
    """A camera pans: a window goes with the scene, and a target that it follows stays in the middle."""
    rng, scene = np.random.default_rng(0), Scene(settings)
    matrix = np.eye(3)
    matrix[:2, 2] = PAN / RATE
    scene.motion = CameraMotion(matrix, known=True)
    for i in range(90):
        window = moving(i, x=40, y=40, vx=PAN[0], vy=PAN[1])
        tracks = scene(shaken(window, rng), shaken((160.0, 128.0), rng))
    (found,) = np.flatnonzero(tracks.confirmed)
    assert np.hypot(tracks.x[found] - 160, tracks.y[found] - 128) < 2


def test_lit_windows_are_confirmed_unless_tracks_have_to_move(tmp_path: Path) -> None:
    scene, out = tmp_path / "urban.yaml", str(tmp_path / "scene")
    scene.write_text((ROOT / "configs/scenes/urban.yaml").read_text().replace("frames: 150", "frames: 60"))
    assert main(["simulate", str(scene), "--out", out]) == 0
    counted = []
    for speed in (0, 2):
        run = ["run", f"{out}/sequence8.mp4", "--no-video", "--out", str(tmp_path / f"{speed}")]
        assert main([*run, "--set", f"tracker.speed_min={speed}"]) == 0
        counted.append(report(tmp_path / f"{speed}")["tracks_confirmed"])
    assert counted[0] > 6
    assert 1 <= counted[1] <= 4, "as many as there are targets, at most"
