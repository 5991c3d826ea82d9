"""A simulated camera with a pattern of its own, before fields of one temperature and before scenes."""

from collections.abc import Sequence
from functools import cache
from typing import Any

import cv2
import numpy as np

from irst_pipeline.calibrate import Collected
from irst_pipeline.calibration.flat import FlatField
from irst_pipeline.calibration.maps import Calibration, Defect
from irst_pipeline.types import Floats, Image
from tests.simulation.small_scenes import frames_of

SEED = 5
PATTERN = {"psf_sigma_px": 0.8, "read_noise": 2, "offset_sd": 3, "column_sd": 2, "gain_sd": 1.0}
DEFECTS = {"dead_pixels": 6, "hot_pixels": 5, "hot_level": 9000, "blinking_pixels": 10, "blink_levels": 40}
KNOWN_BAD = {"DEAD": 6, "HOT": 5, "BLINKING": 10, "GAIN": 0}
"""The `bad_pixels` of a camera with these defects."""


def frames(sensor: dict[str, Any] = PATTERN, count: int = 64, **scene: Any) -> list[Image]:
    """What this camera sees of a scene; of a clear sky unless told otherwise."""
    tree: dict[str, Any] = {"width_px": 96, "height_px": 64, "frames": count, "sensor": sensor, **scene}
    return [frame.image for frame in frames_of(SEED, **tree)]


@cache
def flat(level: float, defects: bool = False) -> list[Image]:
    """64 frames of a field that is at `level`, grey levels, all over."""
    return frames({**PATTERN, **(DEFECTS if defects else {})}, sky={"level": level, "glow": 0})


def collected(kind: type[Collected], images: Sequence[Image]) -> Collected:
    """A flat field or a sample of a scene, made of these frames."""
    found = kind(images[0])
    for image in images[1:]:
        found.add(image)
    return found


def field(images: Sequence[Image]) -> FlatField:
    return collected(FlatField, images)


def bad_pixels(calibration: Calibration) -> dict[str, int]:
    """How many there are of each kind."""
    return {kind.name: int((calibration.bad == kind).sum()) for kind in Defect}


def mean_of(images: Sequence[Image]) -> Floats:
    return np.asarray(np.mean(images, axis=0), np.float64)


def fine(image: Floats) -> Floats:
    """What of an image is finer than some 5 px."""
    return image - np.asarray(cv2.blur(image, (5, 5)))
