"""Motion models: how a state and its covariance move in a time step, and how a target changes from one to another."""

from typing import Protocol

import numpy as np

from irst_pipeline.tracking.kalman import Gaussians
from irst_pipeline.types import CameraMotion, Floats


class MotionModel(Protocol):
    """A linear model of a state whose position is `OBSERVATION @ state`."""

    def transition(self, dt: float) -> Floats:
        """F (4, 4) for a step of `dt` seconds."""

    def process_noise(self, dt: float) -> Floats:
        """Q (4, 4) for a step of `dt` seconds."""


class ConstantVelocity:
    """Nearly constant velocity: states x, vx, y, vy in px and px/s.

    Continuous white-noise acceleration (Bar-Shalom, Li and Kirubarajan, "Estimation with Applications to Tracking and
    Navigation", section 6.2.2): one Q(dt) for every step, so that two half steps are one whole step.
    """

    def __init__(self, velocity_walk: float) -> None:
        """`velocity_walk`: px/s, the spread velocity gains in one second; its square is the spectral density."""
        self._density = velocity_walk**2

    def transition(self, dt: float) -> Floats:
        return np.array([[1, dt, 0, 0], [0, 1, 0, 0], [0, 0, 1, dt], [0, 0, 0, 1]])

    def process_noise(self, dt: float) -> Floats:
        place, both, speed = dt**3 / 3, dt**2 / 2, dt
        return self._density * np.array(
            [[place, both, 0, 0], [both, speed, 0, 0], [0, 0, place, both], [0, 0, both, speed]]
        )


class CoordinatedTurn(ConstantVelocity):
    """Nearly constant speed on a circle (ibid., section 11.7.1, for a known rate); Q as of constant velocity."""

    def __init__(self, turn_rate: float, velocity_walk: float) -> None:
        """`turn_rate`: rad/s, from x towards y; not 0."""
        super().__init__(velocity_walk)
        self._rate = turn_rate

    def transition(self, dt: float) -> Floats:
        sine, cosine = np.sin(self._rate * dt), np.cos(self._rate * dt)
        along, across = sine / self._rate, (1 - cosine) / self._rate
        return np.array([[1, along, 0, -across], [0, cosine, 0, -sine], [0, across, 1, along], [0, sine, 0, cosine]])


class Manoeuvres:
    """Two or more models, of which a target follows one at a time and changes at random moments."""

    def __init__(self, models: list[MotionModel], stays: list[float]) -> None:
        """`stays`: s, how long a target follows each model in the mean before it changes to any of the others."""
        self._models = models
        others = len(models) - 1
        # Of the chain in continuous time, which in the long run spends its time as the mean stays are to one another.
        rates = (np.full((len(models), len(models)), 1 / others) - (1 + 1 / others) * np.eye(len(models))) / np.array(
            stays
        )[:, None]
        self._speeds, self._modes = np.linalg.eig(rates.T)
        self._inverse = np.linalg.inv(self._modes)
        self.shares = np.array(stays) / np.sum(stays)
        """(m,) how probable each model is of a target that nothing is known of."""

    def transition(self, dt: float) -> Floats:
        """F (m, 4, 4)"""
        return np.stack([model.transition(dt) for model in self._models])

    def process_noise(self, dt: float) -> Floats:
        """Q (m, 4, 4)"""
        return np.stack([model.process_noise(dt) for model in self._models])

    def changes(self, dt: float) -> Floats:
        """(m, m): probability that a target which follows model i does model j after `dt` seconds."""
        return np.asarray(((self._modes * np.exp(self._speeds * dt)) @ self._inverse).T.real)


OBSERVATION = np.array([[1.0, 0, 0, 0], [0, 0, 1, 0]])
"""H: position out of the state x, vx, y, vy."""


def moved(states: Gaussians, motion: CameraMotion) -> Gaussians:
    """States (..., 4) as they look after the camera has moved; velocities stay those against the scene."""
    places = states.mean @ OBSERVATION.T
    turn = motion.jacobian(places)
    # States are x, vx, y, vy: what turns the places turns the velocities alike.
    whole = np.zeros(states.covariance.shape)
    whole[..., ::2, ::2] = whole[..., 1::2, 1::2] = turn
    mean = (whole @ states.mean[..., None])[..., 0]
    mean[..., ::2] = motion.apply(places)
    return Gaussians(mean, whole @ states.covariance @ np.swapaxes(whole, -1, -2))
