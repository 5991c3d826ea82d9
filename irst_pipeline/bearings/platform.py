"""The platform that carries the camera, and what its frames tell of the world."""

import logging
from collections import deque
from dataclasses import dataclass
from functools import reduce
from typing import Any, NamedTuple

import numpy as np

from irst_pipeline.bearings.camera import Camera
from irst_pipeline.bearings.pointing import Pointing, orientation
from irst_pipeline.errors import UsageError
from irst_pipeline.state import State, Stateful
from irst_pipeline.types import STANDS_STILL, Bearings, CameraMotion, Floats, Frame, Tracks

log = logging.getLogger("irst")

RATE_SECONDS = 0.2  # over which the scene's own rate is taken; about as long as a track's velocity remembers
ZENITH = 1e-9  # rad; nearer to it nothing has an azimuth


class Look(NamedTuple):
    """How a camera saw one frame."""

    time: float
    """s"""
    turn: Floats
    """(3, 3) from the camera's axes to the world's; NaN where nothing is known."""
    motion: Floats
    """(3, 3) homogeneous px of an earlier frame to px of this one, as the tracker was told."""


@dataclass(frozen=True)
class CameraView:
    """How the pixels of one frame lie in the world."""

    camera: Camera
    now: Look
    """Its motion is since `past`."""
    past: Look
    """Of the frame RATE_SECONDS ago; the frame itself where none before it has a pointing, and there are no rates."""

    def bearings(self, tracks: Tracks) -> Bearings:
        """Bearings of tracks in this frame.

        The rates are those of the bearings themselves, d/dt of azimuth and elevation in the world. A track's velocity
        is against the scene as the tracker was told that it moves, in the px of this frame: through the slope of the
        bearings it gives the first part. The second is how that scene moves in the world, from the difference of the
        bearings of one place of it: where it is now, and where the tracker was told it was in the frame of RATE_SECONDS
        ago, each with the pointing of its frame. It is 0 for a scene that stands still, by its picture or by the
        pointing; for one that drifts, as clouds do, it takes out what the drift adds to the first part. Motion that the
        tracker was not told of is in the second part, which trails changes by about 0.1 s.

        The standard deviations are of the track's position alone, to first order; errors of pointing, mount and
        calibration come on top.
        """
        places, n = tracks.position, len(tracks)
        back = CameraMotion(np.asarray(np.linalg.inv(self.now.motion), np.float64), known=True)
        rays, slopes = self.camera.rays(np.concatenate([places, back.apply(places)]))
        directions = np.concatenate([_turned(rays[:n], self.now.turn), _turned(rays[n:], self.past.turn)])
        angles = azimuth_elevation(directions)
        moved = angles[:n] - angles[n:]
        moved[:, 0] -= 360 * np.round(moved[:, 0] / 360)
        slope = _change(directions[:n]) @ self.now.turn[:, :2] @ slopes[:n]
        velocity = np.column_stack([tracks.vx, tracks.vy])[..., None]
        passed = self.now.time - self.past.time
        rate = (slope @ velocity)[..., 0] + moved / (passed if passed > 0 else np.nan)
        xx, xy, yy = tracks.covariance.T
        by_x, by_y = slope[..., 0].T, slope[..., 1].T
        sd = np.sqrt(by_x**2 * xx + 2 * by_x * by_y * xy + by_y**2 * yy)
        return Bearings(*angles[:n].T, *rate.T, *sd)


def _turned(rays: Floats, turn: Floats) -> Floats:
    """(n, 3) in the world, of rays (n, 2) of a camera that is turned so."""
    return rays @ turn[:, :2].T + turn[:, 2]


def azimuth_elevation(directions: Floats) -> Floats:
    """Azimuth, from 0 to below 360, and elevation (n, 2), deg, of directions (n, 3) of any length in the world.

    Axes x right, y down, z forward at azimuth 0: azimuth = atan2(x, z), elevation = atan2(-y, sqrt(x^2 + z^2)). The
    zenith has no azimuth: NaN.
    """
    x, y, z = directions.T
    level = np.hypot(x, z)
    azimuth = np.where(level < ZENITH * np.abs(y), np.nan, np.arctan2(x, z))
    # Twice, for the remainder of -1e-17 is 360.
    return np.column_stack([np.rad2deg(azimuth) % 360 % 360, np.rad2deg(np.arctan2(-y, level))])


def _change(directions: Floats) -> Floats:
    """(n, 2, 3) deg, how `azimuth_elevation` of directions (n, 3) changes with them; NaN at the zenith."""
    x, y, z = directions.T
    level = np.hypot(x, z)
    level[level < ZENITH * np.abs(y)] = np.nan
    flat = level**2
    steep = y / (level * (flat + y**2))
    columns = z / flat, np.zeros_like(x), -x / flat, x * steep, -level / (flat + y**2), z * steep
    return np.rad2deg(np.column_stack(columns)).reshape(-1, 2, 3)


class Platform(Stateful):
    """Keeps, frame by frame, where the camera looks and how the scene has moved in its frames."""

    def __init__(self, camera: Camera, pointing: Pointing | None) -> None:
        """Without a pointing it stands still at azimuth, elevation and roll 0: bearings are relative to it."""
        self._camera, self._pointing = camera, pointing
        mount = camera.settings.mount
        self._mount = orientation(np.array([mount.azimuth_deg, mount.elevation_deg, mount.roll_deg])).as_matrix()
        self._looks: deque[Look] = deque()
        self._said = False

    def motion(self, frame: Frame) -> CameraMotion:
        """Of the camera since the last new picture, as its pointing has it; STANDS_STILL where that is not known."""
        return self._camera.motion(self._turn(frame).T @ self._looks[-1].turn) if self._looks else STANDS_STILL

    def __call__(self, frame: Frame, motion: CameraMotion) -> CameraView:
        """The view of the next frame; `motion` is what the tracker was told of the camera since the last one.

        Tracks go on through a blind frame as if the camera looked where it took the last picture.
        """
        if not (frame.blind and self._looks):
            self._looks.append(Look(frame.time, self._turn(frame), motion.matrix))
        now = self._looks[-1]
        while len(self._looks) > 1 and self._looks[1].time <= now.time - RATE_SECONDS:
            self._looks.popleft()
        past, *later = self._looks
        since = reduce(lambda before, look: look.motion @ before, later, np.eye(3))
        if np.isnan(now.turn).any():
            self._say_unknown(frame)
            self._looks.clear()
        return CameraView(self._camera, now._replace(motion=since), past)

    def _turn(self, frame: Frame) -> Floats:
        """(3, 3) from the camera's axes to the world's; NaN where nothing is known."""
        return self._mount if self._pointing is None else self._pointing.at(frame) @ self._mount

    def state(self) -> State:
        return {
            name: np.array(column) for name, column in zip(Look._fields, zip(*self._looks, strict=True), strict=False)
        }

    def restore(self, state: State) -> None:
        columns = (state.get(name, np.empty(0)) for name in Look._fields)
        self._looks = deque(Look(float(time), turn, motion) for time, turn, motion in zip(*columns, strict=True))

    def record(self) -> dict[str, Any]:
        """Camera model and file of the pointing, as logs hold them."""
        return self._camera.settings.model_dump(mode="json") | {"pointing": self._pointing and str(self._pointing.path)}

    def refuse_another_size(self, frame: Frame) -> None:
        """Raises UsageError for a frame of another size than the camera's."""
        height, width = frame.image.shape
        settings = self._camera.settings
        if (width, height) != (settings.width_px, settings.height_px):
            raise UsageError(
                f"{frame.source}: frames of {width}x{height} px, but the camera model is for {settings.width_px}x"
                f"{settings.height_px} px; give a model that was calibrated for this size"
            )

    def _say_unknown(self, frame: Frame) -> None:
        if self._pointing and not self._said:
            self._said = True
            where = f"frame {frame.index} at {frame.time:.3f} s"
            known = f"{self._pointing.path} ({self._pointing.span})"
            clock = "; time_s is on the recording's own clock: subtract its start, or give frame"
            ended = len(self._looks) > 1  # its clock is the right one, for it has had earlier frames
            mend = "" if self._pointing.by_frame or ended else clock
            log.warning("%s: %s is outside of %s; tracks have no bearings there%s", frame.source, where, known, mend)
