"""The settings of a simulated scene; `videos` and `configs/scenes` hold examples.

Levels are grey levels of a 14-bit sensor. Positions are pixels, x right, y down, pixel centres at integers, in the
coordinates of the first frame.
"""

from typing import Annotated, Self

from pydantic import AfterValidator, Field, model_validator

from irst_pipeline.settings import FiniteFloat, NotNegative, Positive, Settings
from irst_pipeline.simulation.camera import CameraSettings
from irst_pipeline.simulation.clouds import CloudSettings
from irst_pipeline.simulation.flight import TargetSettings
from irst_pipeline.simulation.sea import SeaSettings
from irst_pipeline.simulation.sensor import LEVEL_MAX, SensorSettings
from irst_pipeline.simulation.terrain import TerrainSettings
from irst_pipeline.simulation.urban import UrbanSettings

SWEPT_MAX = 2**25  # px of scene that a camera may see in all
SIDE_MIN, SIDE_MAX = 16, 4096  # px of a frame


def _ordered(interval: tuple[float, float]) -> tuple[float, float]:
    if interval[0] > interval[1]:
        raise ValueError("[low, high] with low <= high")
    return interval


Side = Annotated[int, Field(ge=SIDE_MIN, le=SIDE_MAX, multiple_of=2)]
Interval = Annotated[tuple[Positive, Positive], AfterValidator(_ordered)]
TurnRate = Annotated[Positive, Field(le=3600)]
Several = Annotated[int, Field(ge=0, le=1000)]


class SkySettings(Settings):
    """A clear sky: even overhead, warmer towards the horizon, where the line of sight runs through more air."""

    level: Annotated[float, Field(ge=0, le=LEVEL_MAX)] = 7300.0
    """Grey levels of the sky far above the horizon."""
    glow: NotNegative = 40.0
    """Grey levels by which the sky at the horizon is warmer."""
    glow_height_px: Positive = 40.0
    """Height over which the glow falls to 1/e."""


class RandomSettings(Settings):
    """Targets drawn by the seed, in the frame and in the sky at half time.

    Those of `count` that do not manoeuvre stay above the mean horizon during the whole sequence if the camera is still.
    """

    count: Several = 0
    """Targets by themselves."""
    snr: Interval = (5.0, 15.0)
    """[low, high]"""
    speed_px_s: Interval = (10.0, 80.0)
    """[low, high]"""
    manoeuvres: Several = 0
    """Turns that each of the `count` makes: one in every such part of the sequence, for half of it."""
    turn_deg_s: Annotated[tuple[TurnRate, TurnRate], AfterValidator(_ordered)] = (20.0, 60.0)
    """[low, high], to the left or to the right."""
    crossings: Several = 0
    """Pairs whose paths cross at 30 to 150 degrees, both at the same place at half time."""
    pairs: Several = 0
    """Pairs that fly side by side."""
    separation_px: Positive = 4.0
    """How far from one another the two of such a pair fly."""
    behind_clouds: bool = False
    """Whether clouds hide all these targets."""


class SceneSettings(Settings):
    """Everything `irst simulate` can be told, but the seed."""

    width_px: Side = 320
    height_px: Side = 256
    frames: Annotated[int, Field(ge=1, le=1_000_000)] = 150
    frame_rate_hz: Annotated[float, Field(ge=0.01, le=10_000)] = 30.0
    view_levels: Annotated[tuple[FiniteFloat, FiniteFloat], AfterValidator(_ordered)] = (7200.0, 7500.0)
    """Grey levels shown as black and white in the 8-bit video."""
    sky: SkySettings = SkySettings()
    clouds: CloudSettings = CloudSettings()
    sea: SeaSettings = SeaSettings()
    terrain: TerrainSettings = TerrainSettings()
    urban: UrbanSettings = UrbanSettings()
    camera: CameraSettings = CameraSettings()
    sensor: SensorSettings = SensorSettings()
    targets: tuple[TargetSettings, ...] = ()
    random: RandomSettings = RandomSettings()
    """More targets, different ones for every seed."""

    def contains(self, x: float, y: float) -> bool:
        """Whether (x, y) px lies on a pixel of the frame."""
        return -0.5 <= x < self.width_px - 0.5 and -0.5 <= y < self.height_px - 0.5

    @property
    def shape(self) -> tuple[int, int]:
        """H, W"""
        return self.height_px, self.width_px

    @property
    def centre(self) -> complex:
        """Of the frame, x + iy px."""
        return complex(self.width_px - 1, self.height_px - 1) / 2

    @property
    def sky_px(self) -> float:
        """Rows of the first frame that are sky on average."""
        return self.height_px - max(self._heights.values())

    @property
    def _heights(self) -> dict[str, float]:
        """Mean heights above the bottom of the frame, px, by the keys that set them."""
        trees = self.terrain.trees_px if self.terrain.height_px else 0.0
        return {
            "urban.height_px": self.urban.height_px,
            "terrain.height_px + trees_px": self.terrain.height_px + trees,
            "sea.height_px": self.sea.height_px,
        }

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        if self.view_levels[0] == self.view_levels[1]:
            raise ValueError("view_levels with black below white")
        if self.sky_px < 8:
            highest = max(self._heights, key=self._heights.__getitem__)
            raise ValueError(f"{highest} to leave 8 rows of sky in {self.height_px}")
        if self.sensor.defects > self.width_px * self.height_px:
            raise ValueError(f"sensor to have no more defective pixels than {self.width_px}x{self.height_px}")
        if 2 * self.random.manoeuvres > self.frames:
            raise ValueError(f"random.manoeuvres with 2 frames or more for each of them in {self.frames}")
        seconds = (self.frames - 1) / self.frame_rate_hz
        width, height = (
            side + abs(v) * seconds for side, v in zip(self.shape[::-1], self.camera.pan_px_s, strict=True)
        )
        if width * height > SWEPT_MAX:
            raise ValueError(f"camera.pan_px_s to sweep {SWEPT_MAX / 1e6:.0f} Mpx of scene or less in {seconds:.1f} s")
        seen: dict[TargetSettings, int] = {}
        for row, target in enumerate(self.targets):
            self._check_target(f"targets.{row}", target)
            if target in seen:
                raise ValueError(f"targets.{row} to differ from targets.{seen[target]}: they overlap in every frame")
            seen[target] = row
        return self

    def _check_target(self, name: str, target: TargetSettings) -> None:
        if target.first_frame >= self.frames or (target.last_frame or 0) >= self.frames:
            raise ValueError(f"{name} to lie within the {self.frames} frames (0 to {self.frames - 1})")
        last = self.frames - 1 if target.last_frame is None else target.last_frame
        for frame in range(target.first_frame, last + 1):
            place, _ = target.motion(frame, self.frame_rate_hz)
            seen = self.camera.pose(self.centre, frame / self.frame_rate_hz).to_image(place)
            if self.contains(seen.real, seen.imag):
                return
        raise ValueError(f"{name} to enter the {self.width_px}x{self.height_px} px frame")
