"""Scenes of points without images: what a detector would report of targets among false alarms, for Monte Carlo runs.

Positions are pixels, x right, y down, pixel centres at integers; the frame spans -0.5 to side - 0.5.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated

import numpy as np
from pydantic import Field

from irst_pipeline.settings import Count, NotNegative, Positive, Settings
from irst_pipeline.types import Detections, Floats, Integers

TARGET_SCORE = (0.80, 0.10)  # mean and standard deviation
FALSE_SCORE = (0.55, 0.15)
FULL_SNR = 10.0  # of a detection whose score is 1; in proportion below
NOISE_LEVELS = 3.0  # grey levels of noise that such an SNR refers to
BOX_PX = 3


class PointSettings(Settings):
    """Targets at constant velocity that bounce off the borders, seen with noise, gaps and clutter."""

    width_px: Count = 640
    height_px: Count = 512
    frames: Count = 100
    frame_rate_hz: Positive = 30.0
    targets: Annotated[int, Field(ge=0)] = 10
    """They are there in all frames and start anywhere."""
    velocity_sd_px: NotNegative = 1.5
    """px a frame; standard deviation of the velocity, in x and in y."""
    noise_px: Positive = 3.0
    """Standard deviation of a measured position, in x and in y."""
    detection_probability: Annotated[float, Field(ge=0, le=1)] = 0.9
    """Of each target in each frame."""
    false_alarms: Annotated[int, Field(ge=0)] = 20
    """Exactly so many in every frame, anywhere in it."""


@dataclass(frozen=True)
class PointFrame:
    """One frame: the truth, n rows, and what is detected of it."""

    index: int
    time: float
    """s"""
    id: Integers
    """(n,) from 1."""
    position: Floats
    """(n, 2) px: x, y."""
    velocity: Floats
    """(n, 2) px/s: x, y."""
    detections: Detections


def point_frames(scene: PointSettings, seed: int) -> Iterator[PointFrame]:
    """The frames of `scene`; the same for the same seed.

    A measurement may lie outside of the frame, by its noise, when its target is at the border.
    """
    rng = np.random.default_rng(seed)
    size = np.array([scene.width_px, scene.height_px], float)
    start, step = rng.uniform(0, size, (scene.targets, 2)), rng.normal(0, scene.velocity_sd_px, (scene.targets, 2))
    for index in range(scene.frames):
        position, direction = _bounced(start + index * step, size)
        velocity = direction * step * scene.frame_rate_hz
        seen = position[rng.random(scene.targets) < scene.detection_probability]
        yield PointFrame(
            index=index,
            time=index / scene.frame_rate_hz,
            id=np.arange(1, scene.targets + 1),
            position=position - 0.5,
            velocity=velocity,
            detections=_detections(scene, seen - 0.5, rng.uniform(0, size, (scene.false_alarms, 2)) - 0.5, rng),
        )


def _bounced(straight: Floats, size: Floats) -> tuple[Floats, Floats]:
    """Straight flights folded into 0 to `size`: positions, and 1 where they go on as they began or -1 where back."""
    lap = np.mod(straight, 2 * size)
    return size - np.abs(size - lap), np.where(lap < size, 1.0, -1.0)


def _detections(scene: PointSettings, seen: Floats, false: Floats, rng: np.random.Generator) -> Detections:
    """Measurements of what is `seen` (n, 2) px, and false alarms (m, 2) px."""
    score = np.concatenate([rng.normal(*TARGET_SCORE, len(seen)), rng.normal(*FALSE_SCORE, len(false))]).clip(0, 1)
    order = np.argsort(-score)
    position, score = np.concatenate([rng.normal(seen, scene.noise_px), false])[order], score[order]
    return Detections(
        x=position[:, 0],
        y=position[:, 1],
        covariance=np.tile(scene.noise_px**2 * np.array([1.0, 0.0, 1.0]), (len(score), 1)),
        box=np.column_stack([position - BOX_PX / 2, np.full_like(position, BOX_PX)]),
        area=np.full(len(score), BOX_PX**2),
        score=score,
        intensity=NOISE_LEVELS * FULL_SNR * score,
        snr=FULL_SNR * score,
    )
