"""Calibrations from the scene: what stays where it is in the frame while the scene moves is the camera's own."""

from itertools import pairwise

import cv2
import numpy as np

from irst_pipeline.calibration.defects import SURROUNDINGS_PX, find_defects, outliers, surroundings
from irst_pipeline.calibration.maps import Calibration
from irst_pipeline.types import Floats, Image

SAMPLE_BYTES = 1 << 28
SPREAD = (16.0, 84.0)  # percentiles over time: a standard deviation below the middle, and above
ROWS = 16  # worked on at a time
BLINKING = 2.0  # of the spread around it, at least
ROUNDING = 0.5  # grey levels; a spread that comes of rounding alone
REACH_MIN = 3.0  # grey levels; where those around a pixel change by less over time, rounding hides that it responds
GOLDEN = (5**0.5 - 1) / 2  # successive multiples of it, modulo 1, fill the unit interval evenly
COARSE_PX = 8  # blocks in which the scene's own motion is looked for: the pattern is small in their means
STRUCTURED = 90.0  # percentile of the differences between blocks, above which the scene has structure


class SceneSample:
    """Frames spread evenly over a recording of any length, at most 256 of them and 256 MB (but always 64).

    When it is full, every other one is given up, and from then on only every second one of those to come is kept.
    """

    FRAMES_MIN, FRAMES_MAX = 64, 256
    """Even, for half of a full sample is given up at a time."""

    def __init__(self, first: Image) -> None:
        self.count = 0
        self.depth = str(first.dtype)
        self._limit = min(max(SAMPLE_BYTES // first.nbytes // 2 * 2, self.FRAMES_MIN), self.FRAMES_MAX)
        self._every = 1
        self.frames: list[Image] = []
        self.add(first)

    def add(self, image: Image) -> None:
        """Another frame (H, W), of the same size and depth."""
        if self.count % self._every == 0:
            if len(self.frames) == self._limit:
                self.frames = self.frames[::2]
                self._every *= 2
            self.frames.append(image.copy())  # a view of a decoded frame would keep its colours as well
        self.count += 1


def calibrate_scene(sample: SceneSample) -> Calibration:
    """A calibration, of offsets alone, from frames in which the scene moves.

    A pixel's offset is the median over time of its difference to the median of the 5 x 5 about it: a statistic that is
    0 for all pixels if they all see the same scene in turn (the constant-statistics constraint: Harris and Chiang,
    "Nonuniformity correction of infrared image sequences using the constant-statistics constraint", 1999), taken of the
    fine structure alone. So shading and whatever else is wider than some 5 px stays. What covers a pixel for less than
    half of the time moves its median by less than the noise, and so is not taken away; what stands still is.
    """
    low, middle, high, reach = _over_time(sample.frames)
    spread = (high - low) / 2
    blinking = outliers(spread) & (spread > BLINKING * np.maximum(surroundings(spread), ROUNDING))
    stuck = (reach == 0) & (surroundings(reach) >= REACH_MIN)
    bad = find_defects(middle, stuck, blinking)
    return Calibration(np.ones(bad.shape, np.float32), -middle.astype(np.float32), bad, sample.depth)


def _over_time(frames: list[Image]) -> Floats:
    """(4, H, W): of each pixel's difference to its surroundings, over time, the lower of SPREAD, the median and the
    upper; and the range of its raw levels."""
    # A median of whole levels is a whole one; shifts that spread the frames over a level let it tell parts of one.
    parts = (np.arange(len(frames), dtype=np.float32) * GOLDEN % 1 - 0.5)[:, None, None]
    height = len(frames[0])
    halo = SURROUNDINGS_PX // 2
    bands = []
    for top in range(0, height, ROWS):
        above = min(top, halo)
        rows = slice(top - above, top + ROWS + halo)
        raw = np.stack([frame[rows] for frame in frames]).astype(np.float32)
        around = np.stack([cv2.medianBlur(frame, SURROUNDINGS_PX) for frame in raw])
        inner = slice(above, above + min(ROWS, height - top))
        differences = (raw - around)[:, inner]
        low, high = np.percentile(differences, SPREAD, axis=0)
        bands.append(np.stack([low, np.median(differences + parts, axis=0), high, np.ptp(raw[:, inner], axis=0)]))
    return np.concatenate(bands, axis=1)


def scene_change(sample: SceneSample) -> float:
    """How much the levels at a place change over time, but for noise, over how much they differ between places 8 px
    apart, where the scene has structure: about 0.01 where it stands still, 0.03 where it shakes by 1 px, 0.2 in a long
    pan."""
    height, width = sample.frames[0].shape
    size = max(width // COARSE_PX, 2), max(height // COARSE_PX, 2)
    coarse = [cv2.resize(frame.astype(np.float32), size, interpolation=cv2.INTER_AREA) for frame in sample.frames]
    levels = np.stack(coarse)
    low, high = np.percentile(levels, SPREAD, axis=0)
    steps = np.hypot(*np.gradient(levels, axis=(1, 2))).mean(0)
    structured = steps >= np.percentile(steps, STRUCTURED)
    noise = _noise(sample.frames) / COARSE_PX
    change = np.sqrt(np.maximum(((high - low)[structured] / 2) ** 2 - noise**2, 0))
    return float(np.median(change / np.maximum(steps[structured], np.finfo(np.float32).tiny)))


def _noise(frames: list[Image]) -> float:
    """Standard deviation of what is new in each frame (H, W) and in each pixel, grey levels."""
    differences = (np.diff(after.astype(np.float32) - before, axis=1) for before, after in pairwise(frames))
    # The mean is finer than a median, which of whole levels is a whole one; sd = sqrt(pi / 2) times it if normal.
    return float(np.sqrt(np.pi / 2) / 2 * np.median([np.abs(difference).mean() for difference in differences]))
