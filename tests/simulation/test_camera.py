"""A camera that moves: what it shows, and what is said of it."""

from itertools import pairwise
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from scipy import ndimage

from irst_pipeline.simulation import TrueFrame, simulate
from irst_pipeline.simulation.camera import Pose
from irst_pipeline.tracking.stabilise import Stabiliser
from irst_pipeline.types import Floats
from tests.simulation.small_scenes import centroid, frames_of, images, path_of, rows, scene, target

STILL_CLOUDS = {"coverage": 0.5, "contrast": 400, "exponent": 1.5, "drift_px_s": [0, 0]}
RICH: dict[str, Any] = {
    "clouds": STILL_CLOUDS,
    "terrain": {"height_px": 8, "relief_px": 2, "trees_px": 6},
    "sensor": {"read_noise": 1e-3},
}
WOODS = {"height_px": 40, "relief_px": 4, "trees_px": 12, "texture": 20}


def noiseless(**camera: Any) -> Floats:
    """(frames, H, W)"""
    return images(frames_of(**RICH, camera=camera))


def test_a_camera_that_pans_by_whole_pixels_shows_the_shifted_scene() -> None:
    frames = noiseless(pan_px_s=[50, -25])
    for first, second in pairwise(frames):
        assert np.abs(second[1:, :-2] - first[:-1, 2:]).max() <= 1, "2 px to the right and 1 px up"
    assert frames.std() > 20


def test_half_a_pixel_is_half_a_pixel() -> None:
    """Two shifts by half a pixel, one by the camera and one by Fourier's theorem, make a whole one."""
    frames = noiseless(pan_px_s=[12.5, 0])
    middle = frames[:, 8:40]
    shifted = np.fft.ifft(ndimage.fourier_shift(np.fft.fft(middle[1] - middle[1].mean()), (0, -0.5))).real
    error = shifted + middle[1].mean() - middle[2]
    assert np.abs(error[:, 20:-20]).max() < 0.03 * np.ptp(middle)


def test_a_still_scene_rolls_about_the_middle() -> None:
    first, *_, last = noiseless(roll_deg_s=25 * 90 / 11)
    turned = np.rot90(first[:, 8:56])  # the camera has turned clockwise by 90 degrees, so the scene the other way
    assert np.abs(turned - last[:, 8:56]).max() <= 1


@pytest.mark.parametrize("camera", [{"pan_px_s": [30, 20]}, {"jitter_px": 1.5}, {"pan_px_s": [9, 0], "roll_deg_s": 9}])
def test_targets_are_where_the_truth_says(camera: dict[str, Any]) -> None:
    flight = target(x_px=30.3, y_px=20.6, vx_px_s=30, vy_px_s=11, snr=8000)
    for frame in frames_of(targets=[flight], camera=camera, sensor={"read_noise": 0.5}):
        (state,) = frame.targets
        assert centroid(frame) == pytest.approx((state.x, state.y), abs=0.05)
        place = frame.pose.to_scene(complex(state.x, state.y))
        assert place == pytest.approx(30.3 + 20.6j + (30 + 11j) * frame.time)


def test_the_velocity_is_against_the_scene_along_the_axes_of_the_image() -> None:
    frames = frames_of(targets=[target(vx_px_s=10)], camera={"pan_px_s": [40, 0], "roll_deg_s": 25 * 90 / 11})
    path = path_of(frames)
    assert path[0, 2:] == pytest.approx([10, 0])
    assert path[-1, 2:] == pytest.approx([0, -10]), "the camera has turned clockwise, so right is up in its image"


def test_views_are_undone() -> None:
    pose = Pose(31.5 + 23.5j, 4.2 - 3.1j, 17.0)
    assert pose.to_image(pose.to_scene(3 + 40j)) == pytest.approx(3 + 40j)
    assert pose.to_scene(31.5 + 23.5j) == pytest.approx(35.7 + 20.4j), "it rolls about the middle"


def test_jitter_has_the_set_spread_in_both_axes_and_is_white() -> None:
    frames = frames_of(frames=1500, width_px=16, height_px=16, camera={"jitter_px": 0.8})
    offset = np.array([(frame.pose.offset.real, frame.pose.offset.imag) for frame in frames])
    assert offset[0].tolist() == [0, 0], "the first frame's coordinates are the scene's"
    assert np.sqrt((offset**2).mean(axis=0)) == pytest.approx([0.8, 0.8], rel=0.06)
    assert np.abs(np.corrcoef(np.column_stack([offset[1:], offset[:-1]]).T) - np.eye(4)).max() < 0.1


def test_vibration_is_a_sinusoid() -> None:
    frames = frames_of(frames=50, camera={"vibration_px": [3, -1], "vibration_hz": 5})
    for frame in frames:
        assert frame.pose.offset == pytest.approx((3 - 1j) * np.sin(2 * np.pi * 5 * frame.time))


def test_the_camera_that_is_written_is_the_one_that_looked(tmp_path: Path) -> None:
    settings = scene(camera={"pan_px_s": [10, 5], "jitter_px": 1, "roll_deg_s": 3})
    simulate(settings, tmp_path / "moving", 3)
    written = rows(tmp_path / "moving" / "truth_camera.csv")
    for row, frame in zip(written, frames_of(3, camera=settings.camera), strict=True):
        assert complex(row["dx_px"], row["dy_px"]) == pytest.approx(frame.pose.offset, abs=1e-4)
        assert row["roll_deg"] == pytest.approx(frame.pose.roll_deg) == pytest.approx(3 * frame.index / 25)
    simulate(scene(), tmp_path / "still", 3)
    assert not (tmp_path / "still" / "truth_camera.csv").exists()


def matrix(before: TrueFrame, after: TrueFrame) -> Floats:
    """Takes homogeneous px of one frame to px of the other."""
    corners = [0j, 100 + 0j, 100j]
    moved = [after.pose.to_image(before.pose.to_scene(corner)) for corner in corners]
    source, goal = (np.array([(z.real, z.imag) for z in places], np.float32) for places in (corners, moved))
    return np.vstack([cv2.getAffineTransform(source, goal), [0, 0, 1]])


def test_the_stabiliser_measures_the_true_motion() -> None:
    tree: dict[str, Any] = {"width_px": 320, "height_px": 256, "clouds": STILL_CLOUDS, "terrain": WOODS}
    camera = {"pan_px_s": [40, 10], "jitter_px": 2, "roll_deg_s": 5}
    stabiliser, corners = Stabiliser("similarity"), np.array([[10.0, 10], [300, 20], [20, 240], [310, 250]])
    frames = frames_of(**tree, frames=8, camera=camera)
    stabiliser(frames[0].image)
    for before, after in pairwise(frames):
        found = stabiliser(after.image)
        assert found.known
        true = (np.column_stack([corners, np.ones(4)]) @ matrix(before, after).T)[:, :2]
        assert found.apply(corners) == pytest.approx(true, abs=0.5)
