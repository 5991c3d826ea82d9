"""The straight flight that fits a track's detections best, and how well: what flies is told from what is led about.

Least squares (Bar-Shalom, Li and Kirubarajan, "Estimation with Applications to Tracking and Navigation", section 3.4)
know a velocity many times better than filters that allow for manoeuvres, and their misfit says when they do not.

What is kept of a track's detections is the misfit of any line to them, as a quadratic form (n, 5, 5) in (x, vx, y, vy,
1), px and px/s, where the line is now and would be seen now: the sum of squared Mahalanobis distances.
"""

import numpy as np
from numpy.typing import NDArray

from irst_pipeline.tracking.kalman import Gaussians, inverse
from irst_pipeline.types import CameraMotion, Floats, Integers

CERTAIN = 3.0  # standard deviations of a speed
MISFIT_MAX = 2.0  # a degree of freedom, of what flies straight
BROKEN = 100.0  # the same of what is not all one target
# A coordinate is known by a share of 1e-12 at least, with the others: of less, as after an hour, rounding leaves none.
RIDGE = 1 + 1e-12 * np.eye(4)


def misfit_to(measured: Floats, noise: Floats) -> Floats:
    """To single detections (n, 2) of covariance (n, 2, 2), now."""
    away = np.zeros((len(measured), 2, 5))
    away[:, 0, 0] = away[:, 1, 2] = 1
    away[..., 4] = -measured
    return np.asarray(np.swapaxes(away, -1, -2) @ inverse(noise) @ away)


def begun(first: Floats, speed_sd: float) -> Floats:
    """From the misfit to `first` detections, of tracks whose velocities have that spread, px/s."""
    known = speed_sd**-2
    return first + np.diag([0, known, 0, known, 0])


def carried(misfit: Floats, dt: float, motion: CameraMotion) -> Floats:
    """`dt` seconds and a motion of the camera later."""
    before = np.eye(5)  # what a line of now was
    before[[0, 2], [1, 3]] = -dt
    if motion.moved:
        middle = fitted(misfit)[0].mean[:, ::2]
        turn, back = motion.jacobian(middle), np.tile(np.eye(5), (len(misfit), 1, 1))
        back[:, :4:2, :4:2] = back[:, 1:4:2, 1:4:2] = turn
        back[:, :4:2, 4] = motion.apply(middle) - (turn @ middle[..., None])[..., 0]
        before = before @ np.linalg.inv(back)
    return np.asarray(np.swapaxes(before, -1, -2) @ misfit @ before)


def extended(misfit: Floats, count: Integers, last: Floats, speed_sd: float) -> tuple[Floats, Integers]:
    """With the misfit to one more detection, `last`, to each, of `count` (n,) so far.

    Begun anew where that fits no line at all.
    """
    longer = misfit + last
    broken = fitted(longer)[1] > BROKEN * 2 * count
    return np.where(broken[:, None, None], begun(last, speed_sd), longer), np.where(broken, 1, count + 1)


def fitted(misfit: Floats) -> tuple[Gaussians, Floats]:
    """The lines (n, 4) of least misfit, and that (n,)."""
    covariance = np.asarray(np.linalg.inv(misfit[:, :4, :4] * RIDGE), float)
    line = -(covariance @ misfit[:, :4, 4:])[..., 0]
    return Gaussians(line, covariance), misfit[:, 4, 4] + (misfit[:, :4, 4] * line).sum(1)


def fly(misfit: Floats, count: Integers, speed_min: float) -> NDArray[np.bool_]:
    """(n,) which tracks, of so many detections (n,), surely move faster than this, px/s, and straight on."""
    (line, covariance), least = fitted(misfit)
    speed, sd = np.hypot(line[:, 1], line[:, 3]), np.sqrt((covariance[:, 1, 1] + covariance[:, 3, 3]) / 2)
    return np.asarray((speed - CERTAIN * sd > speed_min) & (least < MISFIT_MAX * 2 * (count - 2)))
