"""Bearings and their rates, against the geometry of the world."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from irst_pipeline.bearings.camera import Camera, MountSettings, PinholeSettings
from irst_pipeline.bearings.platform import Platform, azimuth_elevation
from irst_pipeline.bearings.pointing import Pointing
from irst_pipeline.config import TrackerSettings
from irst_pipeline.errors import UsageError
from irst_pipeline.tracking.tracker import Tracker
from irst_pipeline.types import STANDS_STILL, Bearings, CameraMotion, Floats, Frame, Tracks
from tests.sinks.sink_streams import detections, tracks

RATE, FOCAL, MIDDLE = 30.0, 600.0, (159.5, 127.5)
IMAGE = np.zeros((256, 320), np.uint8)
CAMERA = Camera(PinholeSettings(width_px=320, height_px=256, focal_px=(FOCAL, FOCAL)))


def axes(azimuth: float, elevation: float, roll: float = 0.0) -> tuple[Floats, Floats, Floats]:
    """Right, down and forward of a camera that points there, in a world of x east, y down, z north."""
    a, e, r = np.deg2rad([azimuth, elevation, roll])
    forward = np.array([np.sin(a) * np.cos(e), -np.sin(e), np.cos(a) * np.cos(e)])
    right = np.array([np.cos(a), 0, -np.sin(a)])
    down = np.cross(forward, right)
    return right * np.cos(r) + down * np.sin(r), down * np.cos(r) - right * np.sin(r), forward


def pixel(target: tuple[float, float], pointing: tuple[float, ...]) -> tuple[float, float]:
    """Where a camera that points there sees what is at this azimuth and elevation."""
    sight = axes(*target)[2]
    right, down, forward = axes(*pointing)
    depth = sight @ forward
    return MIDDLE[0] + FOCAL * float(sight @ right / depth), MIDDLE[1] + FOCAL * float(sight @ down / depth)


def platform(angles: Floats, camera: Camera = CAMERA, key: str = "frame") -> Platform:
    """`angles`: (n, 3), azimuth, elevation and roll of the frames or seconds."""
    return Platform(camera, Pointing(Path("p.csv"), key, np.arange(len(angles), dtype=float), angles))


def frame(index: int) -> Frame:
    return Frame(IMAGE, index, index / RATE, "clip")


def seen(pointing: tuple[float, ...], shown: Tracks, camera: Camera = CAMERA) -> Bearings:
    """Bearings in the second frame of a platform that stands still."""
    still = platform(np.tile(np.resize((*pointing, 0.0), 3), (2, 1)), camera)
    still(frame(0), STANDS_STILL)
    return still(frame(1), STANDS_STILL).bearings(shown)


@pytest.mark.parametrize("pointing", [(0, 0, 0), (30, 10, 0), (359.5, -40, 33), (200, 75, -170)])
def test_the_middle_is_where_the_platform_points(pointing: tuple[float, float, float]) -> None:
    found = seen(pointing, tracks([MIDDLE[0]], [MIDDLE[1]]))
    assert (found.azimuth[0], found.elevation[0]) == pytest.approx(pointing[:2], abs=1e-9)


def test_an_azimuth_is_below_360_also_a_hair_left_of_north() -> None:
    azimuth = azimuth_elevation(np.array([[x, 0.0, 1.0] for x in (-1e-3, -1e-17, 0.0, 1e-17)]))[:, 0]
    assert ((azimuth >= 0) & (azimuth < 360)).all(), azimuth


@pytest.mark.parametrize("pointing", [(0, 0, 0), (30, 10, 5), (359.5, -40, 33), (200, 84, -170)])
def test_what_is_at_a_bearing_is_found_there(pointing: tuple[float, float, float]) -> None:
    targets = [(pointing[0] + a, pointing[1] + e) for a in (-8.0, 0.3, 9) for e in (-7.0, 0.2, 5)]
    x, y = zip(*(pixel(target, pointing) for target in targets), strict=True)
    found = seen(pointing, tracks(x, y))
    np.testing.assert_allclose(found.azimuth, [a % 360 for a, _ in targets], atol=1e-9)
    np.testing.assert_allclose(found.elevation, [e for _, e in targets], atol=1e-9)


def test_rates_and_spreads_turn_with_the_roll() -> None:
    shown = tracks([MIDDLE[0]], [MIDDLE[1]], velocity=(12.0, -3.0))
    shown.covariance[0] = (4.0, 0.0, 1.0)
    degree = np.rad2deg(1 / FOCAL)  # a pixel's
    level, rolled = seen((50, 0), shown), seen((50, 0, 90), shown)
    # The camera's right side goes down: what moves right in it goes down, what moves up in it goes right.
    for found, rates, spreads in ((level, (12, 3), (2, 1)), (rolled, (3, -12), (1, 2))):
        assert (found.azimuth_rate[0] / degree, found.elevation_rate[0] / degree) == pytest.approx(rates)
        assert (found.azimuth_sd[0] / degree, found.elevation_sd[0] / degree) == pytest.approx(spreads)
    shown.covariance[0] = (2.5, 1.5, 2.5)  # 4 from upper left to lower right, 1 across
    turned = seen((50, 0, 45), shown)
    assert (turned.azimuth_sd[0] / degree, turned.elevation_sd[0] / degree) == pytest.approx((1, 2))
    shown.covariance[0] = (4.0, 0.0, 1.0)
    high = seen((50, 60), shown)
    assert (high.azimuth_rate[0] / degree, high.azimuth_sd[0] / degree) == pytest.approx((24, 4))


def test_a_mounted_camera_looks_beside_where_the_platform_points() -> None:
    mount = MountSettings(azimuth_deg=90, elevation_deg=20)
    camera = Camera(CAMERA.settings.model_copy(update={"mount": mount}))
    middle = tracks([MIDDLE[0]], [MIDDLE[1]])
    found = seen((40, 0), middle, camera)
    assert (found.azimuth[0], found.elevation[0]) == pytest.approx((130, 20))
    found = seen((40, 15), middle, camera)  # nose up: a camera that looks out to the right keeps its elevation
    assert found.elevation[0] == pytest.approx(20, abs=1)
    found = seen((40, 0, 15), middle, camera)  # right side down: it looks lower
    assert found.elevation[0] == pytest.approx(5)


def test_without_a_pointing_bearings_are_from_the_line_of_sight() -> None:
    still = Platform(CAMERA, None)
    still(frame(0), STANDS_STILL)
    x, y = pixel((-3, 2), (0, 0))
    found = still(frame(1), STANDS_STILL).bearings(tracks([x], [y]))
    assert (found.azimuth[0], found.elevation[0]) == pytest.approx((357, 2))


def test_nothing_blows_up_at_the_zenith() -> None:
    found = seen((10, 90), tracks([MIDDLE[0], MIDDLE[0], 100], [MIDDLE[1], MIDDLE[1] + 1e-3, 100]))
    away = np.rad2deg(np.arctan(np.hypot(59.5, 27.5) / FOCAL))
    np.testing.assert_allclose(found.elevation, [90, 90, 90 - away], atol=1e-3)
    assert np.isnan([found.azimuth[0], found.azimuth_rate[0], found.azimuth_sd[0]]).all()
    for values in vars(found).values():
        assert np.isfinite(values[1:]).all()
    assert found.azimuth[1] == pytest.approx(10)  # below the middle of a camera that looks up is where it came from


def test_a_frame_outside_of_the_pointing_has_no_bearings(caplog: pytest.LogCaptureFixture) -> None:
    moving = Platform(CAMERA, Pointing(Path("p.csv"), "frame", np.array([2.0, 4.0]), np.zeros((2, 3))))
    found = [moving(frame(i), STANDS_STILL).bearings(tracks([100], [90])) for i in range(7)]
    assert [i for i, f in enumerate(found) if np.isfinite([f.azimuth, f.elevation, f.azimuth_sd]).all()] == [2, 3, 4]
    # Nor a rate in the first frame that has bearings: nothing tells whether the scene moves.
    assert [i for i, f in enumerate(found) if np.isfinite([f.azimuth_rate, f.elevation_rate]).all()] == [3, 4]
    assert [record.getMessage() for record in caplog.records] == [
        "clip: frame 0 at 0.000 s is outside of p.csv (frame 2 to 4); tracks have no bearings there"
    ]


def test_a_pointing_in_the_time_of_the_world_is_told_how_to_be_mended(caplog: pytest.LogCaptureFixture) -> None:
    moving = Platform(CAMERA, Pointing(Path("p.csv"), "time_s", np.array([1.7e9, 1.7e9 + 60]), np.zeros((2, 3))))
    assert np.isnan(moving(frame(0), STANDS_STILL).bearings(tracks([100], [90])).azimuth).all()
    assert caplog.text.rstrip().endswith("time_s is on the recording's own clock: subtract its start, or give frame")


def test_a_pointing_that_ends_early_is_not_taken_for_one_of_another_clock(caplog: pytest.LogCaptureFixture) -> None:
    moving = platform(np.zeros((3, 3)), key="time_s")
    for index in range(0, 150, 30):
        moving(frame(index), STANDS_STILL)
    assert caplog.messages == [
        "clip: frame 90 at 3.000 s is outside of p.csv (time_s 0 to 2); tracks have no bearings there"
    ]


def test_a_recording_of_another_size_is_refused() -> None:
    with pytest.raises(UsageError, match=r"^clip: frames of 80x64 px, but the camera model is for 320x256 px; give"):
        Platform(CAMERA, None).refuse_another_size(Frame(np.zeros((64, 80), np.uint8), 0, 0.0, "clip"))


def turn(before: Floats, after: Floats) -> CameraMotion:
    """How the scene's pixels move when the camera turns, exactly."""
    lens = np.array([[FOCAL, 0, MIDDLE[0]], [0, FOCAL, MIDDLE[1]], [0, 0, 1]])
    rotation = np.array(axes(*after)) @ np.array(axes(*before)).T
    return CameraMotion(lens @ rotation @ np.linalg.inv(lens), known=True)


def follow(
    angles: Floats, target: Callable[[float], tuple[float, float]], told_by: str
) -> Iterator[tuple[float, Bearings]]:
    """Times and bearings of a target under a camera that points so, frame by frame, by way of the tracker, which is
    told of the camera's motion by the scene, by the pointing or not at all."""
    tracker, carrier = Tracker(TrackerSettings()), platform(angles)
    for index in range(len(angles)):
        motion = carrier.motion(frame(index)) if told_by == "pointing" else STANDS_STILL
        if told_by == "scene" and index:
            motion = turn(angles[index - 1], angles[index])
        x, y = pixel(target(index / RATE), tuple(angles[index]))
        found = detections([x], [y])
        found.score[:] = 0.99
        shown, _ = tracker.step(frame(index), found, motion)
        bearings = carrier(frame(index), motion).bearings(shown)
        assert len(shown) == 1
        yield index / RATE, bearings


def pan(azimuth_rate: float, elevation_rate: float, roll_rate: float = 0.0) -> Floats:
    """Three seconds from just before north."""
    time = np.arange(3 * RATE)[:, None] / RATE
    return np.asarray((358.0, 20.0, 5.0) + time * (azimuth_rate, elevation_rate, roll_rate))


@pytest.mark.parametrize("told_by", ["scene", "pointing", "nothing"])
@pytest.mark.parametrize("angles", [pan(3, 0), pan(-2, 1.5), pan(2, -1, 4)], ids=["pan", "both", "all"])
def test_what_stands_still_in_the_world_has_no_rate_under_a_camera_that_moves(angles: Floats, told_by: str) -> None:
    place = tuple(angles[45, :2] + (1.5, -1))
    for time, found in follow(angles, lambda _: (float(place[0]), float(place[1])), told_by):
        assert abs((found.azimuth[0] - place[0] + 180) % 360 - 180) < 0.02 + (time < 1)
        assert abs(found.elevation[0] - place[1]) < 0.02 + (time < 1)
        if time > 1:
            assert abs(found.azimuth_rate[0]) < 0.06
            assert abs(found.elevation_rate[0]) < 0.06


@pytest.mark.parametrize("told_by", ["scene", "pointing", "nothing"])
def test_what_moves_in_the_world_has_its_rate_there(told_by: str) -> None:
    """Also while it crosses north."""
    for time, found in follow(pan(3, 0.5), lambda t: (358 + 1.7 * t, 21 - 0.8 * t), told_by):
        if time > 1:
            assert abs((found.azimuth[0] - 358 - 1.7 * time + 180) % 360 - 180) < 0.02
            assert (found.azimuth_rate[0], found.elevation_rate[0]) == pytest.approx((1.7, -0.8), abs=0.06)


@pytest.mark.parametrize("told_by", ["scene", "pointing"])
def test_what_stands_still_in_the_world_does_so_in_repeats_too(told_by: str) -> None:
    """A camera of 10 Hz pans and is recorded at 30."""
    angles, tracker = pan(3, 0.5), Tracker(TrackerSettings())
    carrier, place = platform(angles), angles[45, :2] + (1.5, -1)
    for index in range(len(angles)):
        taken = index - index % 3
        now = replace(frame(index), blind=index > taken)
        motion = STANDS_STILL
        if index and not now.blind:
            by_scene = told_by == "scene"
            motion = turn(angles[taken - 3], angles[taken]) if by_scene else carrier.motion(now)
        x, y = pixel((float(place[0]), float(place[1])), tuple(angles[taken]))
        found = detections([x], [y])
        found.score[:] = 0.99
        shown, _ = tracker.step(now, found, motion)
        bearings = carrier(now, motion).bearings(shown)
        if index > RATE:
            assert abs((bearings.azimuth[0] - place[0] + 180) % 360 - 180) < 0.02
            assert abs(bearings.elevation[0] - place[1]) < 0.02
            assert abs(bearings.azimuth_rate[0]) < 0.06
            assert abs(bearings.elevation_rate[0]) < 0.06


def test_a_pointing_that_changes_at_once_leaves_no_rate() -> None:
    """At 30 deg/s a frame later, and back; nothing of the scene tells."""
    azimuth = 40 + np.concatenate([np.zeros(45), np.arange(1, 6), np.arange(4, -1, -1), np.zeros(35)])
    angles = np.column_stack([azimuth, np.full((90, 2), 10.0)])
    for time, found in follow(angles, lambda _: (42.0, 11.0), "pointing"):
        assert (found.azimuth[0], found.elevation[0]) == pytest.approx((42, 11), abs=0.02)
        if time > 1:
            assert (found.azimuth_rate[0], found.elevation_rate[0]) == pytest.approx((0, 0), abs=0.06)


def test_a_pointing_says_nothing_of_the_motion_where_it_cannot() -> None:
    at_rest = platform(np.tile([300.123, 40.1, 7.7], (2, 1)))
    assert at_rest.motion(frame(0)) is STANDS_STILL  # of the first frame
    at_rest(frame(0), STANDS_STILL)
    assert at_rest.motion(frame(1)).known
    assert not at_rest.motion(frame(1)).moved
    assert at_rest.motion(frame(2)) is STANDS_STILL  # after its last row
    for far in (85.0, 170.0):  # what was in the picture is beside the camera, or behind it
        turned = platform(np.array([[0.0, 0, 0], [far, 0, 0]]))
        turned(frame(0), STANDS_STILL)
        assert turned.motion(frame(1)) is STANDS_STILL


def test_a_scene_that_drifts_is_not_the_world() -> None:
    """Clouds that the stabiliser takes for the scene go by; the camera and the target stand still."""
    drift = CameraMotion(np.array([[1.0, 0, 2.0], [0, 1, 0], [0, 0, 1]]), known=True)
    tracker, carrier = Tracker(TrackerSettings()), platform(np.zeros((60, 3)))
    for index in range(60):
        found = detections([100.0], [90.0])
        found.score[:] = 0.99
        shown, _ = tracker.step(frame(index), found, drift if index else STANDS_STILL)
        bearings = carrier(frame(index), drift if index else STANDS_STILL).bearings(shown)
    assert shown.vx[0] == pytest.approx(-60, abs=1)
    assert bearings.azimuth_rate[0] == pytest.approx(0, abs=0.06)
