"""Where the targets are."""

from dataclasses import dataclass

import numpy as np

from irst_pipeline.simulation.scene import SceneSettings, TargetSettings


@dataclass(frozen=True)
class TargetState:
    """The truth of one target in one frame."""

    id: int
    """From 1, in the order of the scene file; random targets follow."""
    x: float
    """px"""
    y: float
    """px"""
    vx: float
    """px/s"""
    vy: float
    """px/s"""
    snr: float
    """Peak, if it were centred on a pixel, over the noise of the clear sky."""
    visible: bool
    """Its centre lies on a pixel of the frame."""


class Targets:
    """All targets of a scene, set and random."""

    def __init__(self, scene: SceneSettings, rng: np.random.Generator) -> None:
        self._scene = scene
        self._all = (*scene.targets, *(_random_target(scene, rng) for _ in range(scene.random.count)))

    def at(self, frame: int) -> list[TargetState]:
        """The targets that exist in `frame`, inside the image or not."""
        return [
            self._state(number, target, frame)
            for number, target in enumerate(self._all, 1)
            if target.first_frame <= frame and (target.last_frame is None or frame <= target.last_frame)
        ]

    def _state(self, number: int, target: TargetSettings, frame: int) -> TargetState:
        x, y = target.position(frame, self._scene.frame_rate_hz)
        return TargetState(number, x, y, target.vx_px_s, target.vy_px_s, target.snr, self._scene.contains(x, y))


def _random_target(scene: SceneSettings, rng: np.random.Generator) -> TargetSettings:
    """A target that is in the frame at half time and above the terrain at all times."""
    snr = rng.uniform(*scene.random.snr)
    speed = rng.uniform(*scene.random.speed_px_s)
    duration = scene.frames / scene.frame_rate_hz
    margin = 0.05
    top, bottom = margin * scene.sky_px, (1 - margin) * scene.sky_px
    first, last = rng.uniform(top, bottom, 2)
    vy = np.clip((last - first) / duration, -speed, speed)
    vx = rng.choice((-1, 1)) * np.sqrt(speed**2 - vy**2)
    middle = rng.uniform(margin, 1 - margin) * scene.width_px
    return TargetSettings(
        x_px=float(middle - vx * duration / 2),
        y_px=float(first),
        vx_px_s=float(vx),
        vy_px_s=float(vy),
        snr=float(snr),
    )
