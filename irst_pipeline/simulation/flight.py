"""How a target flies and how bright it is, frame by frame.

Places and velocities are complex numbers x + iy, px and px/s, in the scene: the coordinates of the first frame.
"""

import cmath
import math
from typing import Annotated, Self

from pydantic import Field, model_validator
from scipy.special import hyp1f1

from irst_pipeline.settings import FiniteFloat, Positive, Settings

FrameNumber = Annotated[int, Field(ge=0)]


class FrameSpan(Settings):
    """From one frame to another, counted from 0."""

    first_frame: FrameNumber
    """Where it begins."""
    last_frame: FrameNumber
    """Where it is over."""

    @model_validator(mode="after")
    def _takes_time(self) -> Self:
        if self.last_frame <= self.first_frame:
            raise ValueError(f"last_frame after first_frame ({self.first_frame})")
        return self


class ManoeuvreSettings(FrameSpan):
    """A turn at constant rate, a change of speed at constant rate, or both at once."""

    turn_deg_s: Annotated[float, Field(ge=-3600, le=3600)] = 0.0
    """Turn rate; above 0 clockwise as seen in the image."""
    acceleration_px_s2: FiniteFloat = 0.0
    """Along the flight, or from rest to the right; below 0 the target slows down, stops and comes back."""

    def flown(self, velocity: complex, seconds: float) -> tuple[complex, complex]:
        """How far a target comes within `seconds` that goes into it with `velocity`, and its velocity then.

        The velocity (v + at) exp(iwt), integrated, gives Kummer's functions, which hold for straight flight as well.
        """
        turned = math.radians(self.turn_deg_s) * seconds
        gained = cmath.rect(self.acceleration_px_s2 * seconds, cmath.phase(velocity))
        way = seconds * (velocity * hyp1f1(1, 2, 1j * turned) + gained / 2 * hyp1f1(2, 3, 1j * turned))
        return complex(way), (velocity + gained) * cmath.rect(1, turned)


class DimmingSettings(FrameSpan):
    """The target grows dim and comes back."""

    share: Annotated[float, Field(ge=0, le=1)]
    """What is left of its SNR half-way; before and after it fades as a cosine does."""

    def at(self, frame: int) -> float:
        """The share that is left in `frame`."""
        done = (frame - self.first_frame) / (self.last_frame - self.first_frame)
        return 1 - (1 - self.share) * math.sin(math.pi * done) ** 2 if 0 < done < 1 else 1.0


class TargetSettings(Settings):
    """A point target: it flies straight on at constant velocity where it does not manoeuvre."""

    x_px: FiniteFloat
    """In its first frame, in the coordinates of the sequence's first frame."""
    y_px: FiniteFloat
    """In its first frame, in the coordinates of the sequence's first frame."""
    vx_px_s: FiniteFloat
    """In its first frame, against the scene."""
    vy_px_s: FiniteFloat
    """In its first frame, against the scene."""
    snr: Positive
    """Peak over the noise of the clear sky, for a target centred on a pixel."""
    first_frame: FrameNumber = 0
    """Where it appears, counted from 0."""
    last_frame: FrameNumber | None = None
    """Its last frame; without it the target stays to the end."""
    manoeuvres: tuple[ManoeuvreSettings, ...] = ()
    """In the order of time, one at a time."""
    dimming: tuple[DimmingSettings, ...] = ()
    behind_clouds: bool = False
    """Clouds of optical thickness tau let exp(-tau) of it through; otherwise it is nearer than they are."""

    def motion(self, frame: float, frame_rate_hz: float) -> tuple[complex, complex]:
        """Place and velocity in `frame`; a fraction is a time between two frames."""
        place, velocity = complex(self.x_px, self.y_px), complex(self.vx_px_s, self.vy_px_s)
        now: float = self.first_frame
        for manoeuvre in self.manoeuvres:
            if frame <= manoeuvre.first_frame:
                break
            place += velocity * ((manoeuvre.first_frame - now) / frame_rate_hz)
            until = min(frame, manoeuvre.last_frame)
            way, velocity = manoeuvre.flown(velocity, (until - manoeuvre.first_frame) / frame_rate_hz)
            place, now = place + way, until
        return place + velocity * ((frame - now) / frame_rate_hz), velocity

    def brightness(self, frame: int) -> float:
        """The share of its SNR that dimming leaves in `frame`."""
        return math.prod(dimming.at(frame) for dimming in self.dimming)

    @model_validator(mode="after")
    def _in_order(self) -> Self:
        if self.last_frame is not None and self.last_frame < self.first_frame:
            raise ValueError(f"last_frame at or after first_frame ({self.first_frame})")
        now = self.first_frame
        for row, manoeuvre in enumerate(self.manoeuvres):
            if manoeuvre.first_frame < now:
                raise ValueError(f"manoeuvres.{row} to begin at or after frame {now}, where what is before it ends")
            now = manoeuvre.last_frame
        return self
