"""Where the camera looks in every frame.

Places are complex numbers x + iy, px: in the image, or in the scene, whose coordinates are those of the first frame.
"""

import cmath
import math
from dataclasses import dataclass, replace
from functools import cached_property, reduce
from typing import Annotated, Final

import numpy as np
from pydantic import Field
from scipy import ndimage

from irst_pipeline.settings import FiniteFloat, Positive, Settings
from irst_pipeline.types import Floats

SPLINE_ORDER: Final = 5  # within 1 % of ideal up to half the Nyquist frequency (Thevenaz, Blu and Unser, 2000)
MARGIN = 12  # px around a view, beyond which the splines' memory of the border has faded to 1e-4

Amplitude = Annotated[float, Field(ge=-100, le=100)]


@dataclass(frozen=True)
class Window:
    """A rectangle of scene pixels."""

    top: int
    left: int
    height: int
    width: int

    @property
    def shape(self) -> tuple[int, int]:
        return self.height, self.width

    @property
    def rows(self) -> Floats:
        """(height, 1) y of the pixel centres, px."""
        return np.arange(self.top, self.top + self.height, dtype=float)[:, None]

    @property
    def columns(self) -> Floats:
        """(width,) x of the pixel centres, px."""
        return np.arange(self.left, self.left + self.width, dtype=float)

    def cut(self, values: Floats, window: "Window") -> Floats:
        """The part in `window` of an array that spans this one."""
        top, left = window.top - self.top, window.left - self.left
        return values[top : top + window.height, left : left + window.width]

    def around(self, other: "Window") -> "Window":
        """The smallest window that holds both."""
        top, left = min(self.top, other.top), min(self.left, other.left)
        bottom = max(self.top + self.height, other.top + other.height)
        right = max(self.left + self.width, other.left + other.width)
        return Window(top, left, bottom - top, right - left)


@dataclass(frozen=True)
class Pose:
    """Where the camera looks in one frame."""

    centre: complex
    """px, the middle of the frame."""
    offset: complex = 0j
    """px, how far its line of sight has moved over the scene since the first frame."""
    roll_deg: float = 0.0
    """How far it has rolled since then; above 0 clockwise, so that the scene turns the other way in the image."""

    @cached_property
    def _turn(self) -> complex:
        return cmath.rect(1, math.radians(self.roll_deg))

    @property
    def _origin(self) -> complex:
        """px, where the pixel (0, 0) of the image is in the scene."""
        return self.centre + self.offset - self._turn * self.centre

    def to_scene(self, place: complex) -> complex:
        """Where a place in the image, px, is in the scene."""
        return self._turn * place + self._origin

    def to_image(self, place: complex) -> complex:
        """Where a place in the scene, px, is in the image, whether the frame shows it or not."""
        return (place - self._origin) * self._turn.conjugate()

    def turned(self, velocity: complex) -> complex:
        """A velocity against the scene along the axes of the image."""
        return velocity * self._turn.conjugate() if self.roll_deg else velocity  # the product would lose the sign of -0

    def window(self, margin: int) -> Window:
        """The scene pixels that the frame shows, and `margin` px more on every side."""
        right, bottom = 2 * self.centre.real, 2 * self.centre.imag
        corners = [self.to_scene(complex(x, y)) for x in (0.0, right) for y in (0.0, bottom)]
        x, y = [corner.real for corner in corners], [corner.imag for corner in corners]
        left, top = math.floor(min(x)) - margin, math.floor(min(y)) - margin
        return Window(top, left, math.ceil(max(y)) + margin + 1 - top, math.ceil(max(x)) + margin + 1 - left)

    def image(self, scene: Floats, window: Window) -> Floats:
        """(H, W): what the frame shows of `scene`, which spans `window`."""
        shape = (round(2 * self.centre.imag) + 1, round(2 * self.centre.real) + 1)
        origin = self._origin - complex(window.left, window.top)
        cosine, sine = self._turn.real, self._turn.imag
        turn: Floats = np.array([[cosine, sine], [-sine, cosine]])
        seen: Floats = ndimage.affine_transform(scene, turn, [origin.imag, origin.real], shape, order=SPLINE_ORDER)
        return seen


class CameraSettings(Settings):
    """How the line of sight moves; the scene moves the other way in the image. It stands still within an exposure."""

    pan_px_s: tuple[FiniteFloat, FiniteFloat] = (0.0, 0.0)
    """Steady motion, x and y."""
    jitter_px: Annotated[float, Field(ge=0, le=100)] = 0.0
    """Root mean square in x and in y, random and new in every frame after the first."""
    vibration_px: tuple[Amplitude, Amplitude] = (0.0, 0.0)
    """Amplitude of a sinusoid, x and y."""
    vibration_hz: Positive = 10.0
    """Its frequency."""
    roll_deg_s: FiniteFloat = 0.0
    """Steady roll about the middle of the frame; above 0 the camera turns clockwise."""

    @property
    def still(self) -> bool:
        return not any((*self.pan_px_s, self.jitter_px, *self.vibration_px, self.roll_deg_s))

    def pose(self, centre: complex, time: float) -> Pose:
        """Where the camera looks at `time`, s, but for the jitter."""
        swing = math.sin(2 * math.pi * self.vibration_hz * time)
        return Pose(
            centre,
            complex(*self.pan_px_s) * time + complex(*self.vibration_px) * swing,
            self.roll_deg_s * time,
        )


class CameraPath:
    """Where it looks in a sequence, frame by frame."""

    def __init__(
        self, settings: CameraSettings, centre: complex, frames: int, frame_rate_hz: float, rng: np.random.Generator
    ) -> None:
        jitter = rng.normal(0, settings.jitter_px, (frames, 2))
        jitter[0] = 0
        steady = [settings.pose(centre, frame / frame_rate_hz) for frame in range(frames)]
        self.poses = [
            replace(pose, offset=pose.offset + complex(*shake))
            for pose, shake in zip(steady, jitter.tolist(), strict=True)
        ]
        self._still = settings.still
        self.extent = reduce(Window.around, map(self.window, range(frames)))
        """All scene pixels that are ever needed."""

    def window(self, frame: int) -> Window:
        """The scene pixels that `image` needs for `frame`."""
        return self.poses[frame].window(0 if self._still else MARGIN)

    def image(self, scene: Floats, frame: int) -> Floats:
        """(H, W): what `frame` shows of `scene`, which spans its window."""
        return scene if self._still else self.poses[frame].image(scene, self.window(frame))
