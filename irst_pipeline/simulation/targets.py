"""Where the targets are."""

import cmath
import math
from dataclasses import dataclass
from itertools import chain

import numpy as np

from irst_pipeline.simulation.background import Scenery
from irst_pipeline.simulation.camera import CameraPath
from irst_pipeline.simulation.flight import ManoeuvreSettings, TargetSettings
from irst_pipeline.simulation.scene import SceneSettings

MARGIN = 0.05  # of a side of the frame, where no random target is at half time
CROSSING_DEG = (30.0, 150.0)


@dataclass(frozen=True)
class TargetState:
    """The truth of one target in one frame."""

    id: int
    """From 1, in the order of the scene file; random targets follow."""
    x: float
    """px, in the image."""
    y: float
    """px, in the image."""
    vx: float
    """px/s against the scene, along the axes of the image."""
    vy: float
    """px/s against the scene, along the axes of the image."""
    snr: float
    """Peak of what is seen of it, if it were centred on a pixel, over the noise of the clear sky."""
    share: float
    """What clouds and dimming leave of it, 0 to 1."""
    visible: bool
    """Its centre lies on a pixel of the frame, and clouds and dimming do not hide it."""


class Targets:
    """All targets of a scene, set and random: `flights` draws those by themselves, `formations` all others."""

    def __init__(
        self, scene: SceneSettings, camera: CameraPath, flights: np.random.Generator, formations: np.random.Generator
    ) -> None:
        self._scene = scene
        self._camera = camera
        alone = [self._alone(flights, formations) for _ in range(scene.random.count)]
        crossings = [self._crossing(formations) for _ in range(scene.random.crossings)]
        pairs = [self._side_by_side(formations) for _ in range(scene.random.pairs)]
        self._all = (*scene.targets, *alone, *chain(*crossings, *pairs))

    def at(self, frame: int, scenery: Scenery) -> list[TargetState]:
        """The targets that exist in `frame`, inside the image or not, before `scenery`; none is called hidden."""
        return [
            self._state(number, target, frame, scenery)
            for number, target in enumerate(self._all, 1)
            if target.first_frame <= frame and (target.last_frame is None or frame <= target.last_frame)
        ]

    def _state(self, number: int, target: TargetSettings, frame: int, scenery: Scenery) -> TargetState:
        place, velocity = target.motion(frame, self._scene.frame_rate_hz)
        share = target.brightness(frame) * (scenery.transmission(place) if target.behind_clouds else 1.0)
        pose = self._camera.poses[frame]
        seen, moving = pose.to_image(place), pose.turned(velocity)
        return TargetState(
            id=number,
            x=seen.real,
            y=seen.imag,
            vx=moving.real,
            vy=moving.imag,
            snr=share * target.snr,
            share=share,
            visible=self._scene.contains(seen.real, seen.imag),
        )

    def _alone(self, rng: np.random.Generator, turns: np.random.Generator) -> TargetSettings:
        """Across the frame; above the horizon at all times if it flies straight on and the camera stands still."""
        scene = self._scene
        snr = rng.uniform(*scene.random.snr)
        speed = rng.uniform(*scene.random.speed_px_s)
        duration = scene.frames / scene.frame_rate_hz
        first, last = rng.uniform(MARGIN * scene.sky_px, (1 - MARGIN) * scene.sky_px, 2)
        vy = np.clip((last - first) / duration, -speed, speed)
        vx = rng.choice((-1, 1)) * np.sqrt(speed**2 - vy**2)
        x, y = rng.uniform(MARGIN, 1 - MARGIN) * scene.width_px, first + vy * duration / 2
        return self._flown_through(complex(x, y), complex(vx, vy), snr, self._random_turns(turns))

    def _random_turns(self, rng: np.random.Generator) -> tuple[ManoeuvreSettings, ...]:
        """One in every equal part of the sequence, for half of it."""
        turns = []
        for part in range(self._scene.random.manoeuvres):
            frames = self._scene.frames / self._scene.random.manoeuvres
            first = math.floor((part + rng.uniform(0, 0.5)) * frames)
            rate = float(rng.choice((-1, 1)) * rng.uniform(*self._scene.random.turn_deg_s))
            last = first + math.floor(frames / 2)
            turns.append(ManoeuvreSettings(first_frame=first, last_frame=last, turn_deg_s=rate))
        return tuple(turns)

    def _crossing(self, rng: np.random.Generator) -> list[TargetSettings]:
        """Two targets that are at one place at half time."""
        place, heading = self._place(rng), rng.uniform(0, 2 * np.pi)
        headings = (heading, heading + rng.choice((-1, 1)) * np.deg2rad(rng.uniform(*CROSSING_DEG)))
        return [self._flown_through(place, self._velocity(rng, angle), self._snr(rng)) for angle in headings]

    def _side_by_side(self, rng: np.random.Generator) -> list[TargetSettings]:
        """Two targets with one velocity, abreast."""
        place, heading = self._place(rng), rng.uniform(0, 2 * np.pi)
        velocity = self._velocity(rng, heading)
        aside = cmath.rect(self._scene.random.separation_px / 2, heading + np.pi / 2)
        return [self._flown_through(place + side * aside, velocity, self._snr(rng)) for side in (-1, 1)]

    def _place(self, rng: np.random.Generator) -> complex:
        """Anywhere in the sky of the frame."""
        x, y = rng.uniform(MARGIN, 1 - MARGIN, 2)
        return complex(x * self._scene.width_px, y * self._scene.sky_px)

    def _velocity(self, rng: np.random.Generator, heading: float) -> complex:
        return cmath.rect(rng.uniform(*self._scene.random.speed_px_s), heading)

    def _snr(self, rng: np.random.Generator) -> float:
        return rng.uniform(*self._scene.random.snr)

    def _flown_through(
        self, place: complex, velocity: complex, snr: float, manoeuvres: tuple[ManoeuvreSettings, ...] = ()
    ) -> TargetSettings:
        """A target that starts with `velocity`, px/s, and is at `place`, px in the image, at half time."""
        scene, half = self._scene, self._scene.frames // 2
        target = TargetSettings(
            x_px=0,
            y_px=0,
            vx_px_s=velocity.real,
            vy_px_s=velocity.imag,
            snr=snr,
            manoeuvres=manoeuvres,
            behind_clouds=scene.random.behind_clouds,
        )
        way, _ = target.motion(half, scene.frame_rate_hz)
        start = self._camera.poses[half].to_scene(place) - way
        return target.model_copy(update={"x_px": start.real, "y_px": start.imag})
