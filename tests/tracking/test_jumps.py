"""Targets that are suddenly elsewhere, and such as only seem so."""

import numpy as np
import pytest

from irst_pipeline.config import TrackerSettings
from irst_pipeline.types import Tracks, TrackStatus
from tests.tracking.scenes import RATE, Scene, every_kind, moving

CUT = 40
"""The frame from which on all is elsewhere."""


def flown(scene: Scene, *, jump: tuple[float, float] = (120, 90), hidden: int = 0, starts: float = 50) -> Tracks:
    """The tracks after 60 frames of a target that jumps, and is in no frame for `hidden` of them."""
    for i in range(60):
        x, y = moving(i, x=starts)
        gone = CUT <= i < CUT + hidden
        tracks = scene(*([] if gone else [(x, y) if i < CUT else (x + jump[0], y + jump[1])]))
    return tracks


@every_kind
def test_a_target_that_is_suddenly_elsewhere_keeps_its_id(settings: TrackerSettings) -> None:
    scene = Scene(settings)
    tracks = flown(scene)
    assert tracks.id.tolist() == [1]
    assert (tracks.age[0], tracks.hits[0]) == (60, 60)
    assert tracks.x[0] == pytest.approx(moving(59)[0] + 120, abs=1)
    assert tracks.vx[0] == pytest.approx(40, abs=15)
    assert [(event.kind, event.id, event.was) for event in scene.events] == [
        ("confirmed", 1, None),
        ("jumped", 1, 2),
    ]
    assert CUT + 2 <= scene.events[1].frame < CUT + 10


def test_a_target_that_jumps_again_keeps_its_id_again() -> None:
    scene = Scene()
    for i in range(100):
        x, y = moving(i, vx=20)
        tracks = scene((x + 60 * (i >= 40) + 60 * (i >= 60), y))
    assert (tracks.id.tolist(), tracks.hits.tolist()) == ([1], [100])
    assert [event.kind for event in scene.events] == ["confirmed", "jumped", "jumped"]


def test_a_target_that_is_hidden_before_another_comes_is_another() -> None:
    kinds = {}
    for hidden in (0, 2, 3):
        scene = Scene()
        flown(scene, hidden=hidden)
        kinds[hidden] = [event.kind for event in scene.events]
    assert kinds[0] == kinds[2] == ["confirmed", "jumped"]
    assert kinds[3][:2] == ["confirmed", "confirmed"]


def test_a_target_that_left_the_picture_is_not_the_one_that_comes_then() -> None:
    scene = Scene()
    flown(scene, starts=319.5 - 40 * CUT / 30, jump=(-200, 90))
    assert [event.kind for event in scene.events if event.kind != "dropped"] == ["confirmed", "confirmed"]


def test_a_target_that_appears_beside_one_that_is_seen_has_an_id_of_its_own() -> None:
    scene = Scene()
    for i in range(60):
        tracks = scene(moving(i), *([moving(i, y=200)] if i >= CUT else []))
    assert tracks.id.tolist() == [1, 2]
    assert [event.kind for event in scene.events] == ["confirmed", "confirmed"]


def test_targets_that_are_seen_together_once_are_two() -> None:
    scene = Scene()
    for i in range(60):
        scene(*([moving(i)] if i <= CUT else []), *([moving(i, y=200)] if i >= CUT else []))
    assert [event.kind for event in scene.events][:2] == ["confirmed", "confirmed"]


def test_of_two_that_jump_each_goes_on_as_the_nearer() -> None:
    scene = Scene()
    for i in range(60):
        shift = 45 * (i >= CUT)
        tracks = scene(*[(x + shift, y) for x, y in (moving(i, y=60), moving(i, y=200))])
    assert dict(zip(tracks.id.tolist(), (tracks.y > 120).tolist(), strict=True)) == {1: False, 2: True}
    assert sorted(event.kind for event in scene.events) == ["confirmed", "confirmed", "jumped", "jumped"]


@pytest.mark.parametrize(
    ("jump", "others", "ids"),
    [((120, 90), [200, 240], [2, 3, 4]), ((25, 15), [200, 240], [1, 2, 3]), ((120, 90), [200], [1, 2])],
    ids=["far", "near", "far, as many as fly on"],
)
def test_where_more_fly_on_a_target_is_elsewhere_only_as_far_as_it_may_have_turned(
    jump: tuple[float, float], others: list[float], ids: list[int]
) -> None:
    scene = Scene()
    for i in range(60):
        x, y = moving(i)
        shift = jump if i >= CUT else (0, 0)
        tracks = scene((x + shift[0], y + shift[1]), *(moving(i, y=other) for other in others))
    assert sorted(tracks.id[tracks.status == TrackStatus.CONFIRMED].tolist()) == ids


def test_in_a_struck_camera_those_that_are_seen_first_do_not_hold_the_others_to_have_flown_on() -> None:
    scene = Scene()
    for i in range(60):
        shown = [moving(i, y=60), moving(i, y=130), moving(i, y=200)]
        if i >= CUT:  # one of them comes into view again with each frame
            shown = [(x + 110, y) for x, y in shown[: i - CUT + 1]]
        tracks = scene(*shown)
    assert sorted(tracks.id.tolist()) == [1, 2, 3]
    assert [event.kind for event in scene.events] == ["confirmed"] * 3 + ["jumped"] * 3


def test_targets_that_come_and_go_among_many_keep_ids_of_their_own() -> None:
    rng, scene = np.random.default_rng(2), Scene()
    places, velocities = rng.uniform(20, (300, 236), (150, 2)), rng.normal(0, 20, (150, 2))
    begin = rng.uniform(-10, 40, 150)
    end = begin + rng.exponential(5, 150)
    for i in range(1200):
        there = (begin <= i / RATE) & (i / RATE < end)
        scene(*(places + velocities * (i / RATE - begin[:, None]))[there])
    kinds = [event.kind for event in scene.events]
    assert kinds.count("confirmed") > 100
    assert kinds.count("jumped") <= 4, "one ends beside where another begins"


def test_a_dim_target_that_fades_has_not_jumped_to_another_that_shows() -> None:
    scene = Scene()
    scene.score = 0.5
    for _ in range(360):
        scene()
    flown(scene)
    assert [event.kind for event in scene.events] == ["confirmed", "confirmed"]


def test_a_dim_target_that_fades_has_not_jumped_to_a_bright_one() -> None:
    scene = Scene()
    scene.score = 0.2
    for _ in range(360):
        scene()
    for i in range(60):
        scene.score = 0.2 if i < CUT else 0.95
        scene(moving(i) if i < CUT else moving(i, x=170, y=190))
    assert [event.kind for event in scene.events][:2] == ["confirmed", "confirmed"]
