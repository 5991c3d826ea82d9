"""Pixels and rays, against the formula of the lens."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from irst_pipeline.bearings.camera import Camera, PinholeSettings
from irst_pipeline.errors import UsageError
from irst_pipeline.settings import read_settings
from irst_pipeline.types import Floats
from tests.running import ROOT

LENS: dict[str, Any] = {
    "width_px": 640,
    "height_px": 512,
    "focal_px": (700.0, 690.0),
    "principal_point_px": (311.0, 260.0),
    "distortion": (-0.3, 0.11, 0.002, -0.001, -0.02),
}
GRID = np.stack(np.meshgrid(np.linspace(-0.5, 639.5, 30), np.linspace(-0.5, 511.5, 25)), -1).reshape(-1, 2)


def seen(rays: Floats, lens: dict[str, Any]) -> Floats:
    """Where the lens shows rays (n, 2): Brown's formula, as OpenCV's manual has it."""
    k1, k2, p1, p2, k3 = lens["distortion"]
    x, y = rays.T
    r2 = x**2 + y**2
    radial = 1 + k1 * r2 + k2 * r2**2 + k3 * r2**3
    x, y = (
        x * radial + 2 * p1 * x * y + p2 * (r2 + 2 * x**2),
        y * radial + p1 * (r2 + 2 * y**2) + 2 * p2 * x * y,
    )
    return np.column_stack([x, y]) * lens["focal_px"] + lens["principal_point_px"]


def test_every_pixel_comes_back_to_where_it_was() -> None:
    rays, _ = Camera(PinholeSettings(**LENS)).rays(GRID)
    np.testing.assert_allclose(seen(rays, LENS), GRID, atol=1e-6)
    plain = Camera(PinholeSettings(**LENS | {"distortion": (0.0,) * 5})).rays(GRID)[0]
    assert np.abs(plain - rays).max() > 0.01, "the lens does something"


def test_the_slope_is_how_rays_change() -> None:
    camera, step = Camera(PinholeSettings(**LENS)), 1e-3
    numeric = [(camera.rays(GRID + e)[0] - camera.rays(GRID - e)[0]) / (2 * step) for e in step * np.eye(2)]
    np.testing.assert_allclose(camera.rays(GRID)[1], np.stack(numeric, -1), atol=1e-9)


def test_a_field_of_view_reaches_from_edge_to_edge() -> None:
    camera = Camera(PinholeSettings(width_px=320, height_px=256, horizontal_fov_deg=40))
    rays, _ = camera.rays(np.array([[-0.5, 127.5], [159.5, 127.5], [319.5, 127.5], [159.5, 287.5]]))
    angles = np.rad2deg(np.arctan(rays))
    np.testing.assert_allclose(angles, [[-20, 0], [0, 0], [20, 0], [0, 20]], atol=1e-9)


def test_what_the_lens_cannot_show_has_no_ray() -> None:
    camera = Camera(PinholeSettings(**LENS))
    rays, slope = camera.rays(np.array([[5000.0, 260], [311, 260], [np.nan, 3]]))
    assert np.isnan(rays).any(1).tolist() == np.isnan(slope).any((1, 2)).tolist() == [True, False, True]
    assert [len(part) for part in camera.rays(np.empty((0, 2)))] == [0, 0]


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ("focal_px: [700, 0]", "key `focal_px.1`: expected greater than 0, found 0"),
        ("focal_px: 700", r"key `focal_px`: expected 2 numbers, as \[1, 2\], found 700"),
        ("focal_px: [700, 690, 1]", r"key `focal_px`: expected 2 numbers, as \[1, 2\]"),
        ("distortion: {k1: 0.1}", r"key `distortion`: expected 5 numbers, as \[1, 2, 3, 4, 5\]"),
        ("horizontal_fov_deg: 40", "expected either focal_px or horizontal_fov_deg"),
        ("focal_px: null", "expected either focal_px or horizontal_fov_deg"),
        ("distortion: [-0.3, 0.1]", r"key `distortion`: expected 5 numbers, as \[1, 2, 3, 4, 5\]$"),
        ("distortion: [-2.5, 0, 0, 0, 0]", r"one ray, which \(0, 0\) has not"),
        ("principal_point: [3, 4]", "did you mean `principal_point_px`?"),
        (f"width_px: {10**30}", "key `width_px`: expected less than 1000000000, found 1"),
        ("mount: {elevation_deg: 91}", "key `mount.elevation_deg`: expected less than or equal to 90, found 91"),
    ],
)
def test_a_camera_that_cannot_be_is_told_in_one_line(change: str, expected: str, tmp_path: Path) -> None:
    path, key = tmp_path / "camera.yaml", change.partition(":")[0]
    lines = [line for line in ("width_px: 640", "height_px: 512", "focal_px: [700, 690]") if not line.startswith(key)]
    path.write_text("\n".join([*lines, change]))
    with pytest.raises(UsageError, match=f"^{path}: .*{expected}") as caught:
        read_settings(PinholeSettings, path)
    assert "\n" not in str(caught.value)


def test_the_examples_are_valid() -> None:
    examples = list((ROOT / "configs" / "cameras").glob("*.yaml"))
    assert examples
    for path in examples:
        read_settings(PinholeSettings, path)
