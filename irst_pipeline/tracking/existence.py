"""Whether a track is of a target or of clutter: a sequential probability ratio test (Wald, 1945), as in Blackman and
Popoli, "Design and Analysis of Modern Tracking Systems", section 6.2."""

import math

import numpy as np
from scipy.special import betaln

from irst_pipeline.state import Stateful
from irst_pipeline.types import Floats, Integers

SCORE_GAIN_MAX = 4.0  # a score alone is never more evidence than a factor of e^4
WEAK_POWER, WEAK_PIVOT = 0.45, 0.01
"""The likelihood ratio of a dim target against clutter is (score / pivot) ** power, for scores from 0.01 up. On
simulated skies the power is 0.9; with half of it noise that lines up makes fewer tracks."""
SCORE_MIN = 1e-9  # of which there is a logarithm
SET_BACK = 1.0  # evidence that a dim track, which has enough but does not fly, has to earn again
FADED_SCORE, FADED_SNR = 0.03, 0.3  # of its last ones; by more does a bright target hardly fade between two detections
FADED_GAIN = -7.0  # evidence that its SNR did: about one in a thousand such targets
DIM_SPEED_MIN = 6.0  # px/s, of a dim track at least; of less, clouds drift, and their edges seem to
LASTING_HITS = 3  # of a track: a weak detection that it takes then is one that goes on from frame to frame
LASTING_MAX = 0.5  # share of the weak detections that go on, above which they are of the scene
LASTING_USUAL = 0.25  # share of the strong detections of no known target that go on, as those of new targets do
UNCHANGED_MIN = 0.5  # share of a frame's pixels that compression has left as they were, from which on it is strong
MEMORY_FRAMES = 60
VISIBLE_MIN, VISIBLE_MAX = 0.05, 0.99  # a target long missed may be seen again, and one just seen be hidden


class ScoreModel:
    """How much more likely a score in 0..1 is of a target than of clutter; both have beta distributions."""

    def __init__(self, target: tuple[float, float], clutter: tuple[float, float]) -> None:
        """Mean and standard deviation of both."""
        (a, b), (c, d) = self._shape(*target), self._shape(*clutter)
        self._powers, self._constant = (a - c, b - d), float(betaln(c, d) - betaln(a, b))

    @staticmethod
    def _shape(mean: float, sd: float) -> tuple[float, float]:
        count = mean * (1 - mean) / sd**2 - 1
        return mean * count, (1 - mean) * count

    def gain(self, scores: Floats) -> Floats:
        """Logarithm of the ratio for scores (k,), within bounds."""
        inner = np.minimum(np.maximum(scores, 1e-3), 1 - 1e-3)  # np.clip takes longer than all the rest
        ratio = self._powers[0] * np.log(inner) + self._powers[1] * np.log1p(-inner) + self._constant
        return np.minimum(np.maximum(ratio, -SCORE_GAIN_MAX), SCORE_GAIN_MAX)


def weak_gain(scores: Floats) -> Floats:
    """The logarithm of the same ratio for the scores (k,) of weak detections, of a dim target or of clutter."""
    return WEAK_POWER * np.log(np.maximum(scores, SCORE_MIN) / WEAK_PIVOT)


class Persistence(Stateful):
    """Which share of the detections of one kind goes on from frame to frame: most of them in a scene with structure,
    and of the rests of noise in compressed video; next to none in noise itself."""

    kept = ("_count", "_lasting")

    def __init__(self, share: float) -> None:
        """`share`: before anything is seen."""
        self._count, self._lasting = float(MEMORY_FRAMES), share * MEMORY_FRAMES

    def add(self, count: int, lasting: int) -> None:
        """So many detections in a frame, of which so many go on."""
        fade = math.exp(-1 / MEMORY_FRAMES)
        self._count, self._lasting = self._count * fade + count, self._lasting * fade + lasting

    def but_for(self, own: Integers, age: Integers) -> Floats:
        """The share (n,) but for each track's `own` detections in `age` frames."""
        known = own * MEMORY_FRAMES / age * (1 - np.exp(-age / MEMORY_FRAMES))  # as faded as the counts are
        return np.maximum(self._lasting - known, 0) / np.maximum(self._count - known, 1)


class Starts(Stateful):
    """How many tracks are begun a second, as a mean over the last while."""

    MEMORY_SECONDS = 10.0
    FRAME_SECONDS_MAX = 1.0  # of a longer gap nothing is known
    kept = ("_count", "_seconds")

    def __init__(self) -> None:
        self._count, self._seconds = 1.0, 1.0

    def add(self, count: int, dt: float) -> None:
        watched = min(dt, self.FRAME_SECONDS_MAX)
        fade = math.exp(-watched / self.MEMORY_SECONDS)
        self._count, self._seconds = self._count * fade + count, self._seconds * fade + watched

    def evidence_needed(self, false_tracks_per_hour: float) -> float:
        """The log likelihood ratio that clutter reaches by chance so seldom that so few of its starts become tracks."""
        allowed = false_tracks_per_hour / 3600 * self._seconds / max(self._count, 1e-3)
        return -math.log(min(allowed, 0.5))


def where_lasting(share: Floats) -> Floats:
    """How much of its evidence (n,) a detection adds where such a share of those that are of no target goes on as a
    target does."""
    return np.minimum((1 - share) / (1 - LASTING_USUAL), 1.0)


def independence(dt: float, stays: float) -> float:
    """How much of its evidence a frame adds, `dt` seconds after the one before, to clutter that stays so long."""
    return min(1.0, dt / stays) if stays else float(dt > 0)


def visible_though_missed(visible: Floats, detected: Floats, independent: float) -> Floats:
    """The probability (n,) that targets are not hidden, from that of before a frame in which they were missed.

    `detected` (n,): how probably they would have been, had they been visible; `independent`: how much of its evidence
    the frame adds. After Musicki, Evans and Stankovic, "Integrated probabilistic data association", IEEE Trans.
    Automatic Control 1994, whose targets may exist and not be observable.
    """
    before, missed = np.minimum(visible, VISIBLE_MAX), (1 - detected) ** independent
    return np.maximum(before * missed / (1 - before * (1 - missed)), VISIBLE_MIN)
