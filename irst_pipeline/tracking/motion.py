"""Motion models: how a state and its covariance move in a time step, and how a target changes from one to another."""

from collections.abc import Sequence
from functools import lru_cache
from typing import Protocol

import numpy as np

from irst_pipeline.config import TrackerSettings
from irst_pipeline.tracking.kalman import Gaussians, positions
from irst_pipeline.types import CameraMotion, Floats

STEPS_KEPT = 64  # in time, of each of which the matrices are kept


class MotionModel(Protocol):
    """A linear model of a state that holds position, velocity and perhaps acceleration, first in x and then in y.

    d is 4 or 6.
    """

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


class ConstantAcceleration:
    """Nearly constant acceleration: states x, vx, ax, y, vy, ay in px, px/s and px/s^2.

    Continuous white-noise jerk (ibid., section 6.2.3).
    """

    def __init__(self, acceleration_walk: float) -> None:
        """`acceleration_walk`: px/s^2, the spread acceleration gains in one second."""
        self._density = acceleration_walk**2

    def transition(self, dt: float) -> Floats:
        return np.kron(np.eye(2), np.array([[1, dt, dt**2 / 2], [0, 1, dt], [0, 0, 1]]))

    def process_noise(self, dt: float) -> Floats:
        rows = [[dt**5 / 20, dt**4 / 8, dt**3 / 6], [dt**4 / 8, dt**3 / 3, dt**2 / 2], [dt**3 / 6, dt**2 / 2, dt]]
        noise: Floats = self._density * np.kron(np.eye(2), np.array(rows))
        return noise


class Unaccelerated:
    """A model of constant velocity with the state of those of acceleration: its acceleration moves nothing, and is
    drawn anew in every step.

    So a target that begins to accelerate is expected to with any acceleration that such targets have.
    """

    KEPT = np.array([0, 1, 3, 4])

    def __init__(self, model: MotionModel, acceleration_sd: float) -> None:
        """`acceleration_sd`: px/s^2 of targets that accelerate."""
        self._model, self._variance = model, acceleration_sd**2

    def transition(self, dt: float) -> Floats:
        return self._lifted(self._model.transition(dt), 0.0)

    def process_noise(self, dt: float) -> Floats:
        return self._lifted(self._model.process_noise(dt), self._variance)

    def _lifted(self, matrix: Floats, rest: float) -> Floats:
        whole = np.diag(np.array([0, 0, rest, 0, 0, rest]))
        whole[np.ix_(self.KEPT, self.KEPT)] = matrix
        return whole


class Manoeuvres:
    """Two or more models, of which a target follows one at a time and changes at random moments."""

    def __init__(self, models: Sequence[MotionModel], stays: Sequence[float]) -> None:
        """`stays`: s, how long a target follows each model in the mean before it changes to any of the others."""
        self._models = models
        others = len(models) - 1
        # Of the Markov chain in continuous time; in the long run its shares of the time are as the mean stays.
        rates = (np.full((len(models), len(models)), 1 / others) - (1 + 1 / others) * np.eye(len(models))) / np.array(
            stays
        )[:, None]
        self._speeds, self._modes = np.linalg.eig(rates.T)
        self._inverse = np.linalg.inv(self._modes)
        self.shares = np.array(stays) / np.sum(stays)
        """(m,) how probable each model is of a target that nothing is known of."""
        self.step = lru_cache(STEPS_KEPT)(lambda dt: (self.transition(dt), self.process_noise(dt), self.changes(dt)))
        """All three of a step of `dt` seconds; kept, for a camera's frames are evenly spaced."""

    def transition(self, dt: float) -> Floats:
        """F (m, d, d)"""
        return np.array([model.transition(dt) for model in self._models])

    def process_noise(self, dt: float) -> Floats:
        """Q (m, d, d)"""
        return np.array([model.process_noise(dt) for model in self._models])

    def changes(self, dt: float) -> Floats:
        """(m, m): probability that a target which follows model i does model j after `dt` seconds."""
        changes = np.asarray(((self._modes * np.exp(self._speeds * dt)) @ self._inverse).T.real)
        # Rounding may take a change that is impossible in no time below 0, and a model's covariance with it.
        return np.maximum(changes, 0)


def manoeuvres(s: TrackerSettings) -> Manoeuvres:
    """The motion models that targets follow under these settings, the cruise first."""
    models: list[tuple[MotionModel, float]] = [
        (ConstantVelocity(s.velocity_walk), s.cruise_seconds),
        (ConstantVelocity(s.manoeuvre_walk), s.manoeuvre_seconds),
    ]
    if s.turn_rate:
        rates = np.deg2rad([s.turn_rate, -s.turn_rate])
        models += [(CoordinatedTurn(rate, s.velocity_walk), s.manoeuvre_seconds) for rate in rates]
    if s.acceleration_sd:
        # In the time that it lasts, a steady acceleration may become any other of its kind.
        steady = ConstantAcceleration(s.acceleration_sd / np.sqrt(s.cruise_seconds))
        still = [(Unaccelerated(model, s.acceleration_sd), stay) for model, stay in models]
        models = [*still, (steady, s.cruise_seconds)]
    return Manoeuvres(*zip(*models, strict=True))


def beyond(places: Floats, shape: tuple[int, ...]) -> Floats:
    """(...,) px from the border of an image (H, W) out to places (..., 2); below 0 inside."""
    (height, width), x, y = shape, places[..., 0], places[..., 1]
    return np.asarray(np.maximum(np.abs(x - (width - 1) / 2) - width / 2, np.abs(y - (height - 1) / 2) - height / 2))


def moved(states: Gaussians, motion: CameraMotion) -> Gaussians:
    """States (..., d) as they look after the camera has moved; velocities stay those against the scene."""
    order = states.mean.shape[-1] // 2
    places = positions(states).mean
    turn = motion.jacobian(places)
    # What turns the places turns velocities and accelerations alike.
    whole = np.zeros(states.covariance.shape)
    for derivative in range(order):
        whole[..., derivative::order, derivative::order] = turn
    mean = (whole @ states.mean[..., None])[..., 0]
    mean[..., ::order] = motion.apply(places)
    return Gaussians(mean, whole @ states.covariance @ np.swapaxes(whole, -1, -2))
