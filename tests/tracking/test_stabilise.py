"""The camera's motion, from scenes that were moved by a known one."""

import cv2
import numpy as np
import pytest

from irst_pipeline.simulation.layers import random_field
from irst_pipeline.tracking.stabilise import Stabiliser
from irst_pipeline.types import CameraMotion, Floats, Image

SHAPE = (256, 320)
CORNERS = np.array([[10.0, 10], [300, 20], [20, 240], [310, 250]])
RNG = np.random.default_rng(0)
SCENE = 7000 + 150 * random_field((768, 960), 1.5, RNG)


def view(matrix: Floats, noise: float = 2.0, scene: Floats = SCENE) -> Image:
    """What a camera sees whose pixel p shows the place matrix @ p of the scene, less the scene's middle."""
    middle = np.array([[1.0, 0, 320], [0, 1, 256], [0, 0, 1]])
    seen = cv2.warpPerspective(scene, middle @ matrix, SHAPE[::-1], flags=cv2.INTER_CUBIC | cv2.WARP_INVERSE_MAP)
    return np.round(seen + RNG.normal(0, noise, SHAPE)).astype(np.uint16)


def turned(dx: float = 0, dy: float = 0, degrees: float = 0, zoom: float = 1) -> Floats:
    """About the frame's middle."""
    cosine, sine = np.cos(np.deg2rad(degrees)) * zoom, np.sin(np.deg2rad(degrees)) * zoom
    there = np.array([[1, 0, 160 + dx], [0, 1, 128 + dy], [0, 0, 1]])
    back = np.array([[1, 0, -160], [0, 1, -128], [0, 0, 1.0]])
    return np.asarray(there @ [[cosine, -sine, 0], [sine, cosine, 0], [0, 0, 1]] @ back)


def expected(before: Floats, after: Floats) -> Floats:
    """Where the corners of the frame before are in the frame after."""
    there = np.column_stack([CORNERS, np.ones(4)]) @ (np.linalg.inv(after) @ before).T
    return there[:, :2] / there[:, 2:]


@pytest.mark.parametrize(
    ("model", "motion"),
    [
        ("translation", turned(dx=7.3, dy=-4.6)),
        ("similarity", turned(dx=9.5, dy=3.1)),
        ("similarity", turned(dx=2, degrees=1.5, zoom=1.03)),
        ("homography", turned(dx=3, degrees=1) @ np.array([[1, 0, 0], [0, 1, 0], [1e-5, -2e-5, 1]])),
    ],
)
def test_a_moved_camera_is_measured_to_a_fraction_of_a_pixel(model: str, motion: Floats) -> None:
    stabiliser = Stabiliser(model)  # type: ignore[arg-type]
    stabiliser(view(np.eye(3)))
    found = stabiliser(view(motion))
    assert found.known
    np.testing.assert_allclose(found.apply(CORNERS), expected(np.eye(3), motion), atol=0.3)


def test_a_camera_that_is_pushed_to_and_fro_is_measured_in_every_frame() -> None:
    stabiliser, before = Stabiliser("similarity"), turned()
    for push in np.random.default_rng(1).normal(0, 15, (30, 2)):
        now = turned(*push)
        found = stabiliser(view(now))
        if not np.array_equal(before, turned()):
            assert found.known
            np.testing.assert_allclose(found.apply(CORNERS), expected(before, now), atol=1.5)  # the outer corners
        before = now


def test_a_pan_adds_up() -> None:
    stabiliser, places = Stabiliser("similarity"), CORNERS
    for step in range(60):
        motion = turned(dx=1.7 * step, dy=0.6 * step)
        places = stabiliser(view(motion)).apply(places)
    np.testing.assert_allclose(places, expected(np.eye(3), motion), atol=3)  # after 107 px


def test_a_still_camera_stands_still_exactly() -> None:
    stabiliser = Stabiliser("similarity")
    found = [stabiliser(view(np.eye(3), noise=5.0)) for _ in range(40)]
    assert not any(motion.moved for motion in found)
    assert all(motion.known for motion in found[1:])


@pytest.mark.parametrize("noise", [2.0, 6.0, 15.0, 30.0])
def test_a_camera_at_rest_before_soft_clouds_with_noise_is_never_said_to_move(noise: float) -> None:
    """Clouds without edges, of a spread of 30: what moves in the picture is the noise."""
    rng, moved = np.random.default_rng(100), 0
    for exponent in (1.9, 2.6):
        stabiliser, clouds = Stabiliser("similarity"), 7300 + 30 * random_field((240, 320), exponent, rng)
        for _ in range(60):
            moved += stabiliser(np.round(clouds + rng.normal(0, noise, clouds.shape)).astype(np.uint16)).moved
    assert moved == 0


@pytest.mark.parametrize("push", [0.0, 1.0])
def test_a_background_as_faint_as_the_noise_is_followed_no_farther_than_it_is_seen(push: float) -> None:
    """The scene's spread is 150. A rotation or zoom fitted to such features would be off by 0.7 px at the corners."""
    stabiliser, before, errors = Stabiliser("similarity"), turned(), []
    for shift in np.random.default_rng(2).normal(0, push, (30, 2)):
        now = turned(*shift)
        found = stabiliser(view(now, noise=150.0))
        errors.append(np.abs(found.apply(CORNERS) - expected(before, now)).max())
        before = now
    assert np.median(errors) < 0.4
    assert push or np.mean(errors) < 0.05, "a still camera stands still"


def test_a_pan_over_soft_faint_clouds_is_measured_in_every_frame() -> None:
    """Whose spread is a dozen levels: the levels shown as black and white must not waver from frame to frame."""
    rng = np.random.default_rng(3)
    clouds = 7300 + 12 * random_field((512, 760), 2.6, rng)
    stabiliser, shift = Stabiliser("similarity"), np.array([[1, 0, -1.5], [0, 1, 0], [0, 0, 1]])
    for step in range(40):
        back = np.array([[1, 0, 1.5 * step], [0, 1, 0.0]])
        seen = cv2.warpAffine(clouds, back, (640, 512), flags=cv2.INTER_CUBIC | cv2.WARP_INVERSE_MAP)
        found = stabiliser(np.round(seen + rng.normal(0, 2, seen.shape)).astype(np.uint16))
        if step:
            np.testing.assert_allclose(found.matrix, shift, atol=0.5)


def test_targets_are_not_the_background() -> None:
    stabiliser, scene = Stabiliser("similarity"), SCENE
    for step in range(10):
        with_targets = scene.copy()
        for row in range(8):
            y, x = 280 + 25 * row, 350 + 6 * step + 20 * row
            with_targets[y : y + 3, x : x + 3] += 800
        found = stabiliser(view(turned(dx=4.0 * step), scene=with_targets))
    np.testing.assert_allclose(found.apply(CORNERS), expected(turned(), turned(dx=4)), atol=0.3)


def written(image: Image, frame: int) -> Image:
    """With a clock, two lines of text and a reticle, 2 % of the frame, above all of the scene."""
    ink = np.zeros(image.shape, np.uint8)
    lines = ((12, f"12:30:{frame:02d}"), (234, "WHT NFOV x2 REC"), (250, f"AZ 104.{frame % 10} EL 03.2"))
    for row, text in lines:
        cv2.putText(ink, text, (6, row), cv2.FONT_HERSHEY_PLAIN, 0.9, 255)
    for x, y in ((-1, 0), (1, 0), (0, -1), (0, 1)):
        cv2.line(ink, (160 + 6 * x, 128 + 6 * y), (160 + 24 * x, 128 + 24 * y), 255)
    assert 0.015 < (ink > 0).mean() < 0.03
    return np.where(ink > 0, 12000, image).astype(np.uint16)


@pytest.mark.parametrize("push", [0.0, 4.0])
def test_text_and_a_reticle_do_not_hold_the_motion_fast(push: float) -> None:
    stabiliser, before, pushes = Stabiliser("similarity"), turned(), np.random.default_rng(4).normal(0, push, (40, 2))
    for step, (dx, dy) in enumerate(pushes):
        now = turned(dx=1.5 * step + dx, dy=dy)
        found = stabiliser(written(view(now), step))
        if step >= 15:  # in which they have shown that they do not move
            assert found.known
            np.testing.assert_allclose(found.apply(CORNERS), expected(before, now), atol=1)
        before = now


def test_lights_that_outshine_a_scene_are_followed() -> None:
    """They are all that can be seen of it, and the camera stands still at first."""
    stabiliser, lights = Stabiliser("similarity"), np.zeros(SCENE.shape)
    lights[np.random.default_rng(5).integers(0, 768, 700), np.random.default_rng(6).integers(0, 960, 700)] = 1000
    scene: Floats = 7000 + np.asarray(cv2.GaussianBlur(lights, (0, 0), 0.8), np.float64)
    for step in range(-20, 20):
        now, before = turned(dx=max(0, 2 * step)), turned(dx=max(0, 2 * step - 2))
        found = stabiliser(view(now, scene=scene))
        if step > 5:
            np.testing.assert_allclose(found.apply(CORNERS), expected(before, now), atol=0.5)


@pytest.mark.parametrize("noise", [20.0, 0.0])
def test_where_nothing_is_known_nothing_moves(noise: float) -> None:
    stabiliser = Stabiliser("similarity")
    for _ in range(10):
        found = stabiliser(RNG.normal(7000, noise, SHAPE).astype(np.uint16))
        assert not found.moved
    assert not found.known


def test_a_change_of_gain_or_size_is_no_motion() -> None:
    stabiliser, image = Stabiliser("similarity"), view(np.eye(3))
    stabiliser(image)
    assert not stabiliser((image * 1.3).astype(np.uint16)).moved
    assert not stabiliser(image[:200, :300]).moved


def test_large_frames_are_measured_in_their_own_pixels() -> None:
    stabiliser = Stabiliser("similarity")
    big = cv2.resize(SCENE, None, fx=2, fy=2, interpolation=cv2.INTER_CUBIC)
    for step in range(5):
        found = stabiliser(np.round(big[200:1224, 300 + 6 * step : 1580 + 6 * step]).astype(np.uint16))
    np.testing.assert_allclose(found.apply(CORNERS), CORNERS - [6, 0], atol=0.4)


@pytest.mark.parametrize("tall", [False, True])
@pytest.mark.parametrize("side", [16, 40])
def test_the_motion_of_narrow_frames_is_measured(side: int, tall: bool) -> None:
    stabiliser, shift = Stabiliser("similarity"), [0, -30] if tall else [-30, 0]
    scene = cv2.resize(SCENE, (2400, 768), interpolation=cv2.INTER_CUBIC)
    for step in range(5):
        strip = scene[100 : 100 + side, 30 * step : 2000 + 30 * step] + RNG.normal(0, 2, (side, 2000))
        found = stabiliser(np.round(strip.T if tall else strip).astype(np.uint16))
    assert found.known
    place = np.array([[8.0, 8.0]])
    np.testing.assert_allclose(found.apply(place), place + shift, atol=1)
    assert not stabiliser(np.full((2000, side) if tall else (side, 2000), 7000, np.uint16)).known


def test_the_jacobian_is_the_slope_of_the_motion() -> None:
    motion = CameraMotion(turned(3, 2, 5, 1.1) @ np.array([[1, 0, 0], [0, 1, 0], [2e-4, -1e-4, 1]]), known=True)
    step = 1e-4
    slopes = [(motion.apply(CORNERS + axis) - motion.apply(CORNERS - axis)) / (2 * step) for axis in np.eye(2) * step]
    np.testing.assert_allclose(motion.jacobian(CORNERS), np.stack(slopes, -1), atol=1e-6)
