"""Where the platform points, frame by frame, from a CSV beside a recording."""

import re
from pathlib import Path

import cv2
import numpy as np
from scipy.spatial.transform import Rotation

from irst_pipeline.columns import FRAME, TIME, read_columns, require
from irst_pipeline.errors import UsageError
from irst_pipeline.types import Floats, Frame

KEYS = (FRAME, TIME)
ANGLES = ("azimuth_deg", "elevation_deg", "roll_deg")  # the last may be missing
ANGLE = re.compile("(?<![a-z])(azimuth|elevation|roll)")  # a name with it is meant as one of those
UNKNOWN = np.full((3, 3), np.nan)
ROUNDED = 1e-6  # s or rad; numbers in a file may be rounded so, as times are in our logs


def orientation(angles: Floats) -> Rotation:
    """The rotations that take a camera's axes to the world's, from azimuth, elevation and roll (..., 3), degrees.

    The camera is turned by the azimuth about the vertical (yaw, positive to the right), then by the elevation about its
    own x (pitch, positive up), then by the roll about its own line of sight (positive clockwise as it looks: its right
    side goes down): R = Ry(azimuth) Rx(elevation) Rz(roll). The world's axes are those of a camera at azimuth,
    elevation and roll 0: x right, y down, z forward; azimuth 0 is wherever the platform's own angles have it.
    """
    return Rotation.from_euler("YXZ", angles, degrees=True)


class Pointing:
    """Orientations of the platform, between the rows by spherical linear interpolation (Shoemake, "Animating rotation
    with quaternion curves", 1985), which crosses 360 degrees and the zenith without a jump."""

    def __init__(self, path: Path, key: str, keys: Floats, angles: Floats) -> None:
        """`keys`: (n,) increasing; frames or times, as `key` says, one of KEYS. `angles`: (n, 3) for `orientation`."""
        self.path = path
        self.span = f"{key} {keys[0]:.12g} to {keys[-1]:.12g}"
        self.by_frame = key == FRAME
        self._keys, turns = keys, orientation(angles)
        self._turns = turns.as_matrix()
        self._steps = (turns[:-1].inv() * turns[1:]).as_rotvec()
        self.turned = np.linalg.norm(self._steps, axis=1)
        """(n - 1,) rad, from each row to the next."""

    def at(self, frame: Frame) -> Floats:
        """(3, 3) from the platform's axes to the world's; NaN before the first row and after the last."""
        key = frame.index if self.by_frame else frame.time
        within = min(max(key, self._keys[0]), self._keys[-1])
        if abs(key - within) > ROUNDED:
            return UNKNOWN
        row = min(int(np.searchsorted(self._keys, within, "right")), len(self._steps)) - 1
        share = (within - self._keys[row]) / (self._keys[row + 1] - self._keys[row])
        return np.asarray(self._turns[row] @ cv2.Rodrigues(share * self._steps[row])[0])


def read_pointing(path: Path) -> Pointing:
    """The pointing in a CSV with a header line, a row a frame or time.

    Columns: `frame` (from 0) or, without it, `time_s` (on the recording's own clock); `azimuth_deg`, `elevation_deg`
    and, if the platform rolls, `roll_deg`. Others are not read, and refused where they are named like an angle. Raises
    UsageError, one line.
    """
    columns = read_columns(path, _wanted)
    key = columns.names[0]
    columns.refuse_unsorted(key)
    keys, angles = columns.table[:, 0], np.zeros((len(columns.lines), len(ANGLES)))
    angles[:, : columns.table.shape[1] - 1] = columns.table[:, 1:]
    azimuth, elevation, roll = angles.T
    columns.refuse(np.abs(elevation) > 90, "elevation_deg beyond +-90; give the angle above the horizon")
    far = np.maximum(np.abs(azimuth), np.abs(roll)) > 3600
    columns.refuse(far, "azimuth_deg or roll_deg beyond +-3600; give degrees")
    if len(keys) < 2:
        raise UsageError(f"{path}: fewer than two rows; give one for the first frame and one for the last at least")
    pointing = Pointing(path, key, keys, angles)
    way = "half a turn from the row before, so either way round; give a row between"
    columns.refuse(np.append(False, pointing.turned > np.pi - ROUNDED), way)
    return pointing


def _wanted(present: list[str]) -> list[str]:
    """Of the columns of a CSV: one of KEYS, and ANGLES."""
    key = next((name for name in KEYS if name in present), "")
    require(present, *ANGLES[:2], key or " or ".join(KEYS))
    if strange := [name for name in present if ANGLE.search(name) and name not in ANGLES]:
        raise ValueError(f"column {strange[0]} is none of {', '.join(ANGLES)}; rename it or take it out")
    return [key, *(name for name in ANGLES if name in present)]
