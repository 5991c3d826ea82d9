"""Motion models: how a state and its covariance move in a time step."""

from typing import Protocol

import numpy as np
from filterpy.common import Q_continuous_white_noise

from irst_pipeline.types import Floats


class MotionModel(Protocol):
    """A linear model of a state whose position is `OBSERVATION @ state`."""

    def transition(self, dt: float) -> Floats:
        """F (d, d) for a step of `dt` seconds."""

    def process_noise(self, dt: float) -> Floats:
        """Q (d, d) for a step of `dt` seconds."""


class ConstantVelocity:
    """Nearly constant velocity: states x, vx, y, vy in px and px/s.

    Continuous white-noise acceleration (Bar-Shalom, Li and Kirubarajan, "Estimation with Applications to Tracking and
    Navigation", section 6.2.2): one Q(dt) for every step, so that two half steps are one whole step.
    """

    def __init__(self, velocity_walk: float) -> None:
        """`velocity_walk`: px/s, the spread velocity gains in one second; its square is the spectral density."""
        self._density = velocity_walk**2

    def transition(self, dt: float) -> Floats:
        return np.kron(np.eye(2), np.array([[1.0, dt], [0.0, 1.0]]))

    def process_noise(self, dt: float) -> Floats:
        return np.kron(np.eye(2), Q_continuous_white_noise(2, dt, self._density))


OBSERVATION = np.array([[1.0, 0, 0, 0], [0, 0, 1, 0]])
"""H: position out of the state x, vx, y, vy."""
