"""Tracks of a recording once all of it has been seen: every position from what came before and after it.

A track is smoothed from its first detection to its last, also over the frames before it was confirmed; tracks that one
target must have left behind, one after the other, are stitched together.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import product
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.special import chdtri

from irst_pipeline.tracking.association import Pairs, assign
from irst_pipeline.tracking.kalman import Gaussians, innovations, log_density, predict, update
from irst_pipeline.tracking.motion import ConstantVelocity
from irst_pipeline.types import Floats, Integers

WALKS = (3.0, 10.0, 30.0, 100.0, 300.0)  # px/s that a velocity gains in a second; each track takes the likeliest
SHAKES = (0.0, 0.05, 0.1, 0.2)  # px that the camera's motion from frame to frame was found amiss; likewise
TARGET = ConstantVelocity(1.0)
STITCH_SECONDS = 2.0  # the longest gap that is closed
STITCH_PROBABILITY = 0.99  # share of the right joints that pass


@dataclass(frozen=True)
class History:
    """What was measured of one track; k rows, from its first detection to its last."""

    frame: Integers
    """(k,)"""
    time: Floats
    """(k,) s"""
    measured: Floats
    """(k, 2) px; NaN in a frame without a detection"""
    noise: Floats
    """(k, 2, 2) px^2, likewise"""
    look: Floats
    """(k, 4) width and height, px, score and SNR of the detection, likewise"""

    @property
    def seen(self) -> NDArray[np.bool_]:
        """(k,) whether there is a detection."""
        return np.isfinite(self.measured[:, 0])


class _Motions(NamedTuple):
    """How targets may move, each as one of m: with nearly constant velocity before a camera whose motion is not quite
    known."""

    walk: Floats
    """(m,) px/s, spread that a velocity gains in a second"""
    shake: Floats
    """(m,) px, spread that a place gains in a frame"""

    def process_noise(self, dt: float) -> Floats:
        """(m, 4, 4)"""
        target = TARGET.process_noise(dt) * (self.walk**2)[..., None, None]
        return target + np.diag([1.0, 0, 1, 0]) * (self.shake**2)[..., None, None]


def smooth(history: History, speed_sd: float) -> Gaussians:
    """States x, vx, y, vy (k, 4) in px and px/s, and their covariances, given all detections.

    A Kalman filter forwards and Rauch, Tung and Striebel's recursion (1965) back, under the likeliest of some motions.
    `speed_sd`: px/s, spread of the velocity before the first detection.
    """
    motions = _Motions(*np.array(list(product(WALKS, SHAKES))).T)
    likelihood = np.sum([density for _, density in _forwards(history, motions, speed_sd)], axis=0)
    motion = _Motions(*(column[likelihood.argmax()] for column in motions))
    states = [state for state, _ in _forwards(history, motion, speed_sd)]
    mean, covariance = (np.stack(parts) for parts in zip(*states, strict=True))
    for i in range(len(mean) - 2, -1, -1):
        dt = history.time[i + 1] - history.time[i]
        f = TARGET.transition(dt)
        expected = predict(states[i], f, motion.process_noise(dt))
        gain = np.linalg.solve(expected.covariance, f @ states[i].covariance).T
        mean[i] += gain @ (mean[i + 1] - expected.mean)
        covariance[i] += gain @ (covariance[i + 1] - expected.covariance) @ gain.T
    return Gaussians(mean, covariance)


def _forwards(history: History, motions: _Motions, speed_sd: float) -> Iterator[tuple[Gaussians, Floats]]:
    """Frame by frame the filtered states (m, 4) and the log densities (m,) of its detection, 0 without one."""
    mean, covariance = np.zeros(4), np.zeros((4, 4))
    mean[::2] = history.measured[0]
    covariance[::2, ::2] = history.noise[0]
    covariance[[1, 3], [1, 3]] = speed_sd**2
    none = np.zeros_like(motions.walk)
    state = Gaussians(mean, covariance)
    yield state, none
    for dt, measured, noise, seen in zip(
        np.diff(history.time), history.measured[1:], history.noise[1:], history.seen[1:], strict=True
    ):
        state, density = predict(state, TARGET.transition(dt), motions.process_noise(dt)), none
        if seen:
            innovation = innovations(state, measured, noise)
            state, density = update(state, innovation, noise), log_density(innovation)
        yield state, density


def stitch(
    histories: Mapping[int, History],
    states: Mapping[int, Gaussians],
    frames: Integers,
    times: Floats,
    jumps: Mapping[int, int],
) -> dict[int, History]:
    """Join histories of one target, which are smoothed to `states`, both by id: where one's end, carried on, meets
    another's beginning.

    A joined one has the earlier id, and is to be smoothed as a whole; the others are returned as they are. Of all ways
    to join them the one of the least total distance is taken. `frames` and `times`: (f,) of the whole recording, in
    their order. `jumps`: which is known to go on elsewhere, as which.
    """
    ids = sorted(histories, key=lambda id_: histories[id_].time[0])
    begins = np.array([histories[id_].time[0] for id_ in ids])
    limit, walk = float(chdtri(4, 1 - STITCH_PROBABILITY)), ConstantVelocity(WALKS[len(WALKS) // 2])
    elsewhere = set(jumps.values())
    pairs, distances = [], []
    for i, early in enumerate(ids):
        over = histories[early].time[-1]
        last = Gaussians(states[early].mean[-1], states[early].covariance[-1])
        for j in range(*begins.searchsorted([over, over + STITCH_SECONDS], "right")):
            if early in jumps or ids[j] in elsewhere:
                continue
            gap, late = begins[j] - over, states[ids[j]]
            ahead = predict(last, walk.transition(gap), walk.process_noise(gap))
            away = late.mean[0] - ahead.mean
            pairs.append((i, j))
            distances.append(away @ np.linalg.solve(ahead.covariance + late.covariance[0], away))
    joints = Pairs(*np.array(pairs, np.int64).reshape(-1, 2).T)
    joints = joints.take(assign(joints, limit - np.array(distances)))
    following = {ids[i]: ids[j] for i, j in zip(*joints, strict=True)}
    later = set(following.values())
    chains = {}
    for first in (id_ for id_ in ids if id_ not in later):
        chain = [first]
        while chain[-1] in following:
            chain.append(following[chain[-1]])
        parts = [histories[id_] for id_ in chain]
        chains[first] = joined(parts, frames, times) if len(parts) > 1 else parts[0]
    return chains


def joined(parts: list[History], frames: Integers, times: Floats) -> History:
    """One history over all frames from the first part's beginning to the last one's end."""
    begin, end = np.searchsorted(frames, [parts[0].frame[0], parts[-1].frame[-1]])
    frame, time = frames[begin : end + 1], times[begin : end + 1]
    measured, noise, look = (np.full((len(frame), *shape), np.nan) for shape in ((2,), (2, 2), (4,)))
    for part in parts:
        rows = np.searchsorted(frame, part.frame)
        measured[rows], noise[rows], look[rows] = part.measured, part.noise, part.look
    return History(frame, time, measured, noise, look)
