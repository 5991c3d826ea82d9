"""Dim targets, which are seen weakly and among much that looks like them."""

import numpy as np
import pytest

from irst_pipeline.config import TrackerSettings
from irst_pipeline.types import CameraMotion, Integers, TrackStatus
from tests.tracking.scenes import KINDS, RATE, SETTINGS, Scene, every_kind, moving

WEAK = 0.02


class WeakScene(Scene):
    """Weak detections alone, of targets seen in two frames of three, and of noise."""

    def __init__(self, noise: float, spread: float = 0.3, settings: TrackerSettings = SETTINGS) -> None:
        """`noise`: false detections a frame; `spread`: px, standard deviation of the targets' places."""
        super().__init__(settings)
        self.score, self._noise, self._spread, self._rng = WEAK, noise, spread, np.random.default_rng(5)

    def show(self, *targets: tuple[float, float]) -> Integers:
        """Ids of the confirmed tracks, after a frame."""
        places = self._rng.uniform([0, 0], [320, 256], (self._rng.poisson(self._noise), 2))
        seen = [tuple(self._rng.normal(target, self._spread)) for target in targets if self._rng.random() < 2 / 3]
        tracks = self(*map(tuple, places), *seen)
        return tracks.id[tracks.confirmed]

    def confirmations(self) -> int:
        return sum(event.kind == "confirmed" for event in self.events)


@every_kind
def test_a_dim_target_that_moves_through_noise_is_confirmed_within_a_second(settings: TrackerSettings) -> None:
    scene = WeakScene(noise=3, settings=settings)
    for _ in range(int(2 * RATE)):
        scene.show()
    found = [len(scene.show(moving(i, vx=20))) for i in range(int(RATE))]
    assert found[-1] == 1
    assert scene.confirmations() == 1


def quiet() -> WeakScene:
    """A scene that has been seen to hold nothing."""
    scene = WeakScene(noise=0)
    for _ in range(int(12 * RATE)):
        scene.show()
    return scene


@pytest.mark.parametrize("score", [0.02, 0.5, 0.9])
def test_of_any_score_a_target_is_found(score: float) -> None:
    scene = quiet()
    scene.score = score
    found = [len(scene.show(moving(i))) for i in range(int(RATE))]
    assert found[-1] == 1


@pytest.mark.parametrize("score", [0.31, 0.9])
def test_a_target_that_is_never_weak_is_found_without_knowing_what_is(score: float) -> None:
    scene = Scene()
    scene.score = score
    found = [scene(moving(i)).status.tolist() for i in range(int(RATE))]
    assert found[-1] == [TrackStatus.CONFIRMED]


def test_a_track_that_a_weak_detection_began_is_preliminary_until_it_is_confirmed() -> None:
    scene = quiet()
    found = [scene(moving(i)).status[0] for i in range(int(RATE))]
    assert found[0] == TrackStatus.PRELIMINARY
    assert set(found) == {TrackStatus.PRELIMINARY, TrackStatus.CONFIRMED}
    assert np.all(np.diff(found) >= 0)


@pytest.mark.parametrize("frames", [1, 3, 10])
def test_a_dim_target_that_brightens_keeps_its_track(frames: int) -> None:
    scene = quiet()
    for i in range(40):
        scene.score = 0.2 if i < frames else 0.5
        tracks = scene(moving(i))
    assert tracks.hits.tolist() == [40]
    assert tracks.status.tolist() == [1]


def test_two_dim_targets_that_are_seen_as_one_are_not_lost() -> None:
    scene = quiet()
    for i in range(60):
        tracks = scene(moving(i), moving(i, y=66 - 4.8 * i / 60))
    assert tracks.status.tolist() == [1, 1]
    for i in range(60, 120):
        tracks = scene(moving(i, y=60.6))
    assert tracks.id.tolist() == [1]
    assert tracks.detection.tolist() == [0]


@pytest.mark.parametrize("kind", ["nearest", "joint"])
def test_after_a_flash_weak_detections_at_rest_confirm_nothing(kind: str) -> None:
    scene, rng = Scene(KINDS[kind]), np.random.default_rng(3)
    scene.score = 0.99
    scene((100.0, 100.0))
    scene.score = WEAK
    for _ in range(int(3 * RATE)):
        scene(*map(tuple, rng.normal((100, 100), 0.3, (2, 2))))
    assert not scene.events


def test_noise_alone_confirms_nothing() -> None:
    scene = WeakScene(noise=5)
    for _ in range(int(120 * RATE)):
        scene.show()
    assert scene.confirmations() == 0


def test_what_stands_still_is_of_the_scene() -> None:
    scene, moves = WeakScene(noise=3), WeakScene(noise=3)
    for i in range(int(30 * RATE)):
        scene.show((100, 100))
        moves.show(moving(i, x=10, y=20, vx=10, vy=5))
    assert scene.confirmations() == 0
    assert moves.confirmations() > 0


def test_what_is_led_about_by_noise_does_not_move() -> None:
    scene = WeakScene(noise=3, spread=1.0)
    for _ in range(int(60 * RATE)):
        scene.show(*((x, y) for x in (60, 160, 260) for y in (70, 190)))
    assert scene.confirmations() == 0


def test_where_most_weak_detections_stay_none_is_confirmed_even_if_it_moves() -> None:
    scene = WeakScene(noise=0.5)
    structure = [(x, y) for x in (40.0, 120.0, 200.0, 280.0) for y in (50.0, 130.0, 210.0)]
    for i in range(int(10 * RATE)):
        scene.show(*structure, moving(i, x=10, y=90, vx=20, vy=0))
    assert scene.confirmations() == 0


def test_a_dim_track_ends_soon_after_its_target() -> None:
    scene = WeakScene(noise=5)
    for i in range(int(3 * RATE)):
        last = scene.show(moving(i, vx=20))
    assert len(last) == 1
    left = [len(scene.show()) for _ in range(int(2 * RATE))]
    assert not any(left[int(1.5 * RATE) :]), "noise near by does not keep it"


def test_a_bright_target_that_is_gone_is_not_taken_for_a_weak_detection() -> None:
    scene = Scene()
    for i in range(30):
        scene(moving(i))
    scene.score = WEAK
    tracks = scene(moving(30))
    (known,) = np.flatnonzero(tracks.id == 1)
    assert tracks.hits[known] == 30


def test_a_bright_target_that_is_hidden_is_not_taken_for_noise_beside_it() -> None:
    scene = Scene()
    scene.snr = 12.0
    for i in range(30):
        scene(moving(i))
    for _ in range(6):
        scene()
    scene.score, scene.snr = 0.07, 3.0
    x, y = moving(36)
    tracks = scene((x + 1, y - 1))
    (known,) = np.flatnonzero(tracks.id == 1)
    assert tracks.hits[known] == 30
    scene.score, scene.snr = 0.95, 12.0
    tracks = scene(moving(37))
    assert (tracks.id[tracks.confirmed].tolist(), tracks.hits[tracks.confirmed].tolist()) == ([1], [31])


@every_kind
@pytest.mark.parametrize("hertz", [2, 3, 5])
def test_a_target_that_dims_with_its_rotor_has_one_track(settings: TrackerSettings, hertz: float) -> None:
    """Among noise that looks as it does when it is dimmed."""
    scene, rng = Scene(settings), np.random.default_rng(0)
    scene.score, scene.snr = WEAK, 3.0
    for _ in range(int(2 * RATE)):
        scene(*rng.uniform([0, 0], [320, 256], (3, 2)))
    for i in range(int(5 * RATE)):
        dimmed = i * hertz / RATE % 1 >= 0.6
        scene.score, scene.snr = (0.1, 3.0) if dimmed else (0.99, 12.0)
        noise = rng.uniform([0, 0], [320, 256], (3 * dimmed, 2))
        scene(*noise, *[moving(i, vx=30, vy=5)] * int(rng.random() < 0.9))
    assert [event.kind for event in scene.events] == ["confirmed"]


def test_a_bright_target_that_fades_step_by_step_keeps_its_track() -> None:
    scene = Scene()
    for i in range(30):
        scene(moving(i))
    for i, score in enumerate((0.8, 0.3, 0.2, 0.1, 0.05, 0.1, 0.02, 0.01, 0.005, 0.002), 30):
        scene.score = score
        tracks = scene(moving(i))
    assert tracks.id.tolist() == [1]
    assert tracks.hits.tolist() == [40]


def test_a_bright_target_that_has_left_the_picture_is_not_taken_for_noise_in_it() -> None:
    scene = WeakScene(noise=5)
    for i in range(40):
        scene.score = 0.5 if i > 37 else 0.95  # half of it is cut off by the border
        (known,) = scene(moving(i, x=300, vx=15)).id
    scene.score = WEAK
    assert not any(known in scene.show() for _ in range(int(2 * RATE)))


def test_a_track_of_what_has_faded_ends_when_it_goes_astray() -> None:
    scene = Scene()
    for i in range(30):
        scene(moving(i))
    scene.score = 0.1
    scene(moving(30))
    lived = 0
    while len(scene()):
        lived += 1
    assert lived < 0.8 * SETTINGS.coast_seconds * RATE, "one that was bright to its end coasts for so long"


def test_what_moves_is_told_against_the_scene() -> None:
    standing, moved = WeakScene(noise=3), WeakScene(noise=3)
    pan = CameraMotion(np.array([[1.0, 0, -1.5], [0, 1, 0], [0, 0, 1]]), known=True)
    for i in range(int(4 * RATE)):
        standing.motion = moved.motion = pan
        standing.show(*((x - 1.5 * i, y) for x in (200, 300, 400) for y in (70, 190)))
        moved.show((200 - 1.5 * i + 30 * i / RATE, 70.0))
    assert standing.confirmations() == 0
    assert moved.confirmations() == 1
