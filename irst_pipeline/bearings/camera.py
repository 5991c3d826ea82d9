"""The camera: from pixels to the rays they look along.

Axes of the camera: x right, y down, z forward along the line of sight. Pixel centres are at integers, as in OpenCV.
"""

from typing import Annotated, Self

import cv2
import numpy as np
from pydantic import Field, model_validator

from irst_pipeline.settings import Count, FiniteFloat, Positive, Settings
from irst_pipeline.types import STANDS_STILL, CameraMotion, Floats

STEPS_MAX = 10  # of Newton's method, from OpenCV's own inversion, which is only good to about 0.01 px
TOLERANCE = 1e-3  # px, error before the last step, which squares it; a pixel whose ray stays farther off has none

Elevation = Annotated[float, Field(ge=-90, le=90)]


class MountSettings(Settings):
    """How the camera is turned on its platform: yaw, then pitch, then roll, as in `orientation`."""

    azimuth_deg: FiniteFloat = 0.0
    """To the right of where the platform points."""
    elevation_deg: Elevation = 0.0
    """Above it."""
    roll_deg: FiniteFloat = 0.0
    """Clockwise about the line of sight, as the camera looks."""


class PinholeSettings(Settings):
    """A camera model: pinhole and lens distortion, for frames of one size; `configs/cameras` has an example."""

    width_px: Count
    """Of the frames that it was calibrated for."""
    height_px: Count
    """Likewise."""
    focal_px: tuple[Positive, Positive] | None = None
    """Focal lengths along x and y, px; or else horizontal_fov_deg."""
    horizontal_fov_deg: Annotated[float, Field(gt=0, lt=180)] | None = None
    """Field of view from the outer edge of the first column to that of the last, as it would be without distortion and
    with the optical axis in the middle; square pixels."""
    principal_point_px: tuple[FiniteFloat, FiniteFloat] | None = None
    """x and y of the optical axis; the middle of the frame without it."""
    distortion: tuple[FiniteFloat, FiniteFloat, FiniteFloat, FiniteFloat, FiniteFloat] = (0.0, 0.0, 0.0, 0.0, 0.0)
    """k1, k2, p1, p2, k3 of OpenCV's model (Brown, "Close-Range Camera Calibration", 1971)."""
    mount: MountSettings = MountSettings()

    @model_validator(mode="after")
    def _every_pixel_has_one_ray(self) -> Self:
        if (self.focal_px is None) == (self.horizontal_fov_deg is None):
            raise ValueError("either focal_px or horizontal_fov_deg")
        width, height = self.width_px, self.height_px
        grid = np.stack(np.meshgrid(np.linspace(0, width - 1, 17), np.linspace(0, height - 1, 17)), -1).reshape(-1, 2)
        rays, _ = Camera(self).rays(grid)
        if lost := grid[np.isnan(rays[:, 0])].tolist():
            raise ValueError(
                f"distortion that gives every pixel one ray, which ({lost[0][0]:g}, {lost[0][1]:g}) has not; calibrate "
                f"it with points up to the borders of the frame"
            )
        return self


class Camera:
    """Pixels and rays of a pinhole camera with distortion, by OpenCV's model."""

    def __init__(self, settings: PinholeSettings) -> None:
        self.settings = settings
        width, height = settings.width_px, settings.height_px
        across = width / 2 / np.tan(np.deg2rad((settings.horizontal_fov_deg or 90) / 2))
        fx, fy = settings.focal_px or (across, across)
        cx, cy = settings.principal_point_px or ((width - 1) / 2, (height - 1) / 2)
        self._matrix = np.array([[fx, 0, cx], [0, fy, cy], [0, 0, 1.0]])
        self._distortion = np.array(settings.distortion)

    def rays(self, pixels: Floats) -> tuple[Floats, Floats]:
        """Rays (n, 2), x and y where z is 1, through pixels (n, 2), and how they change with those, (n, 2, 2) per px.

        NaN where the distortion leaves a pixel without a ray; such a pixel is outside of the frame.
        """
        if not len(pixels):
            return np.empty((0, 2)), np.empty((0, 2, 2))
        rays = np.asarray(cv2.undistortPoints(pixels[:, None], self._matrix, self._distortion), np.float64)[:, 0]
        with np.errstate(all="ignore"):  # what has no ray may go anywhere
            for _ in range(STEPS_MAX):
                seen, slope = self.project(rays)
                inverse, area = _inverse(slope)
                rays = rays + (inverse @ (pixels - seen)[..., None])[..., 0]
                # Where the area is negative the image is folded, and the ray is not the one that light took.
                found = (np.abs(pixels - seen) < TOLERANCE).all(1) & (area > 0)
                if found.all():
                    break
        rays[~found], inverse[~found] = np.nan, np.nan
        return rays, inverse

    def motion(self, turn: Floats) -> CameraMotion:
        """How the picture of what is far away moves as the camera turns; `turn` (3, 3) takes its axes of before to
        those of now.

        Exact without distortion, which it leaves out. STANDS_STILL for a turn that is not known, or so far that part of
        the last picture is beside the camera or behind it.
        """
        matrix = self._matrix @ turn @ np.linalg.inv(self._matrix)
        right, bottom = self.settings.width_px - 1, self.settings.height_px - 1
        corners = np.array([[0, 0, 1], [right, 0, 1], [0, bottom, 1], [right, bottom, 1]])
        if not (corners @ matrix[2] > 0).all():
            return STANDS_STILL
        return CameraMotion(np.round(matrix / matrix[2, 2], 12), known=True)  # rounded: no turn is no motion

    def project(self, rays: Floats) -> tuple[Floats, Floats]:
        """Pixels (n, 2) that rays (n, 2) come through, and how they change with the ray, (n, 2, 2) px."""
        places = cv2.convertPointsToHomogeneous(rays)
        pixels, slopes = cv2.projectPoints(places, np.zeros(3), np.zeros(3), self._matrix, self._distortion)
        # Columns 3 and 4 of OpenCV's Jacobian are those of a translation, which at z = 1 is a step of the ray.
        return np.asarray(pixels, np.float64)[:, 0], np.asarray(slopes, np.float64)[:, 3:5].reshape(-1, 2, 2)


def _inverse(matrices: Floats) -> tuple[Floats, Floats]:
    """Inverses (n, 2, 2) and determinants (n,), without an error for a singular one."""
    a, b, c, d = matrices.reshape(-1, 4).T
    area = a * d - b * c
    return (np.array([d, -b, -c, a]) / area).T.reshape(-1, 2, 2), area
