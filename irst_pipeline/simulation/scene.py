"""The settings of a simulated scene; `videos` holds examples.

Levels are grey levels of a 14-bit sensor. Positions are pixels, x right, y down, pixel centres at integers.
"""

from typing import Annotated, Self

from pydantic import AfterValidator, Field, model_validator

from irst_pipeline.settings import FiniteFloat, NotNegative, Positive, Settings

LEVEL_MAX = 2**14 - 1


def _ordered(span: tuple[float, float]) -> tuple[float, float]:
    if span[0] > span[1]:
        raise ValueError("[low, high] with low <= high")
    return span


Side = Annotated[int, Field(ge=16, le=4096, multiple_of=2)]
Span = Annotated[tuple[Positive, Positive], AfterValidator(_ordered)]


class SkySettings(Settings):
    """A clear sky: even overhead, warmer towards the horizon, where the line of sight runs through more air."""

    level: Annotated[float, Field(ge=0, le=LEVEL_MAX)] = 7300.0
    """Grey levels of the sky far above the horizon."""
    glow: NotNegative = 40.0
    """Grey levels by which the sky at the horizon is warmer."""
    glow_height_px: Positive = 40.0
    """Height over which the glow falls to 1/e."""


class CloudSettings(Settings):
    """Clouds drifting across the sky: a random field with a 1/f^exponent amplitude spectrum, seen as emitting layer."""

    coverage: Annotated[float, Field(ge=0, le=1)] = 0.5
    """Share of the sky with cloud; 0 for a clear sky."""
    contrast: NotNegative = 40.0
    """Grey levels of a thick cloud above the clear sky."""
    exponent: Annotated[float, Field(ge=1, le=4)] = 2.2
    """Of the amplitude spectrum; higher is smoother."""
    stretch: Positive = 2.5
    """Width over height of a typical cloud."""
    drift_px_s: tuple[FiniteFloat, FiniteFloat] = (4.0, 0.0)
    """Motion of the clouds, x and y."""


class TerrainSettings(Settings):
    """A strip of ground with a line of trees at the bottom of the frame; it hides the sky, not the targets."""

    height_px: NotNegative = 0.0
    """Mean height of the ground above the bottom of the frame; 0 for sky only."""
    relief_px: NotNegative = 4.0
    """Standard deviation of the hills."""
    trees_px: NotNegative = 12.0
    """Mean height of the trees above the ground."""
    ground: FiniteFloat = 45.0
    """Grey levels of the ground above the clear sky."""
    trees: FiniteFloat = 80.0
    """Grey levels of the trees above the clear sky."""
    texture: NotNegative = 8.0
    """Grey levels, standard deviation of the structure in ground and trees."""


class SensorSettings(Settings):
    """Optics and detector: a Gaussian point spread function, integrated over square pixels, and noise."""

    psf_sigma_px: Annotated[float, Field(ge=0.3, le=10)] = 0.7
    """Standard deviation of the blur before the pixels integrate it."""
    read_noise: NotNegative = 3.0
    """Grey levels, standard deviation in each pixel and frame, whatever the signal."""
    electrons_per_level: Positive | None = None
    """Shot noise adds a variance of level / electrons_per_level grey levels^2; without it there is none."""

    @model_validator(mode="after")
    def _has_noise(self) -> Self:
        if self.read_noise == 0 and self.electrons_per_level is None:
            raise ValueError("read_noise above 0, or electrons_per_level: without noise there is no SNR")
        return self


class TargetSettings(Settings):
    """A point target that flies straight on at constant velocity."""

    x_px: FiniteFloat
    """In its first frame."""
    y_px: FiniteFloat
    """In its first frame."""
    vx_px_s: FiniteFloat
    vy_px_s: FiniteFloat
    snr: Positive
    """Peak over the noise of the clear sky, for a target centred on a pixel."""
    first_frame: Annotated[int, Field(ge=0)] = 0
    """Where it appears, counted from 0."""
    last_frame: Annotated[int, Field(ge=0)] | None = None
    """Its last frame; without it the target stays to the end."""

    def position(self, frame: int, frame_rate_hz: float) -> tuple[float, float]:
        """x and y, px, in `frame`."""
        elapsed = (frame - self.first_frame) / frame_rate_hz
        return self.x_px + self.vx_px_s * elapsed, self.y_px + self.vy_px_s * elapsed

    @model_validator(mode="after")
    def _ends_after_start(self) -> Self:
        if self.last_frame is not None and self.last_frame < self.first_frame:
            raise ValueError(f"last_frame at or after first_frame ({self.first_frame})")
        return self


class RandomSettings(Settings):
    """Targets drawn by the seed: they cross the sky above the terrain during the whole sequence."""

    count: Annotated[int, Field(ge=0, le=1000)] = 0
    snr: Span = (5.0, 15.0)
    """[low, high]"""
    speed_px_s: Span = (10.0, 80.0)
    """[low, high]"""


class SceneSettings(Settings):
    """Everything `irst simulate` can be told, but the seed."""

    width_px: Side = 320
    height_px: Side = 256
    frames: Annotated[int, Field(ge=1)] = 150
    frame_rate_hz: Annotated[float, Field(gt=0, le=10_000)] = 30.0
    view_levels: Annotated[tuple[FiniteFloat, FiniteFloat], AfterValidator(_ordered)] = (7200.0, 7500.0)
    """Grey levels shown as black and white in the 8-bit video."""
    sky: SkySettings = SkySettings()
    clouds: CloudSettings = CloudSettings()
    terrain: TerrainSettings = TerrainSettings()
    sensor: SensorSettings = SensorSettings()
    targets: tuple[TargetSettings, ...] = ()
    random: RandomSettings = RandomSettings()
    """More targets, different ones for every seed."""

    def contains(self, x: float, y: float) -> bool:
        """Whether (x, y) px lies on a pixel of the frame."""
        return -0.5 <= x < self.width_px - 0.5 and -0.5 <= y < self.height_px - 0.5

    @property
    def sky_px(self) -> float:
        """Rows of the frame that are sky on average."""
        trees = self.terrain.trees_px if self.terrain.height_px else 0.0
        return self.height_px - self.terrain.height_px - trees

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        if self.view_levels[0] == self.view_levels[1]:
            raise ValueError("view_levels with black below white")
        if self.sky_px < 8:
            raise ValueError(f"terrain.height_px + trees_px to leave 8 rows of sky in {self.height_px}")
        seen: dict[TargetSettings, int] = {}
        for row, target in enumerate(self.targets):
            if target.first_frame >= self.frames or (target.last_frame or 0) >= self.frames:
                raise ValueError(f"targets.{row} to lie within the {self.frames} frames (0 to {self.frames - 1})")
            if target in seen:
                raise ValueError(f"targets.{row} to differ from targets.{seen[target]}: they overlap in every frame")
            seen[target] = row
            last = self.frames - 1 if target.last_frame is None else target.last_frame
            flight = (target.position(frame, self.frame_rate_hz) for frame in range(target.first_frame, last + 1))
            if not any(self.contains(*position) for position in flight):
                raise ValueError(f"targets.{row} to enter the {self.width_px}x{self.height_px} px frame")
        return self
