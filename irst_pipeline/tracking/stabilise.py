"""How the camera has moved between two frames, from what stands still in the scene."""

from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from irst_pipeline.config import CameraMotionModel
from irst_pipeline.levels import eight_bits, percentiles
from irst_pipeline.state import Stateful
from irst_pipeline.types import MIN_SIZE, STANDS_STILL, CameraMotion, Floats, Image, Integers

SIDE_MAX = 200  # px; larger frames are looked at smaller, at a whole fraction, which also averages their noise
FEATURES = 80
FEATURES_MIN = 20  # fewer that agree are no background
AGREEING_MIN = 0.5  # of the features, how many must move as one
RENEW_FRAMES = 15  # new features are sought so often, and whenever too many are lost
TOLERANCE = 0.7  # of those px, between a feature and where the common motion takes it
EXACT = 0.01  # px to which a feature is followed at best
FREEDOM = {"similarity": 4, "homography": 8}  # parameters of those models
FREEDOM_COST = 1.5  # times Schwarz's, for the errors of features near to one another are not independent
STILL = 0.25  # px; less motion than this at every corner is none, for the estimate is not much better
LEVELS = (1.0, 99.0)  # percentiles; what lies beyond does not count for the brightness in which frames are compared
SPREADS = 2.4  # standard deviations from the mean to black and to white there; about the same percentiles

USUAL = (10.0, 90.0)  # percentiles that text does not reach
OUTSHINING = 1.0  # times the range between them, or from the lower to the brightest that is not narrow
NARROW = 5  # px that text and marks are less wide than
STANDING = 15  # frames in which they stay where they are, before they count
EDGES = 3  # px, the square of which they share the pixels
WRITTEN_MAX = 0.15  # of the picture
AWAY = 7  # px, the square round a feature in which there are none
FILL = 15  # px, the square whose mean takes their place

CONVERGED = (cv2.TERM_CRITERIA_COUNT | cv2.TERM_CRITERIA_EPS, 10, 0.03)
"""At most so many steps of a feature, or until one is shorter than so many px."""

RESPONSE_MIN = 0.4
"""Of the phases, to be believed where features cannot be followed."""
BLUR = 1.0  # px, standard deviation, before pictures are compared; finer structure is mostly noise
SURE = 4.0  # standard deviations by which a shift must match better than none

Points = NDArray[np.float32]


class Stabiliser(Stateful):
    """Follows corners of the background from frame to frame (Lucas and Kanade, 1981, in pyramids; corners of Shi and
    Tomasi, 1994) and fits the motion that most of them share (RANSAC), to which targets do not belong.

    Where that fails, as when the camera was pushed, the phases of the whole picture say how far it has shifted.
    """

    kept = ("_last", "_points", "_age", "_standing")

    def __init__(self, model: CameraMotionModel) -> None:
        self._model = model
        self._last: NDArray[np.uint8] | None = None
        self._points: Points = np.empty((0, 2), np.float32)
        self._age = 0
        self._standing: NDArray[np.uint8] | None = None  # (H, W) in how many frames on end there was a stroke

    def __call__(self, image: Image) -> CameraMotion:
        """The camera's motion since the last frame (H, W) that this was called with."""
        if self._model == "off":
            return STANDS_STILL
        # A narrow frame stays as wide as the smallest that is taken at all.
        step = max(1, min(-(-max(image.shape) // SIDE_MAX), min(image.shape) // MIN_SIZE))
        small = _shrunk(image, step)
        written = self._written(small)
        seen = _shown(_filled(small, written))
        last, self._last = self._last, seen
        if last is None or last.shape != seen.shape:
            self._points = np.empty((0, 2), np.float32)
            return STANDS_STILL
        if self._age >= RENEW_FRAMES or len(self._points) < FEATURES // 2:
            clear = cv2.erode(1 - written, _square(AWAY))
            found = cv2.goodFeaturesToTrack(last, FEATURES, 0.01, max(4, min(last.shape) / 16), mask=clear)
            self._points = np.empty((0, 2), np.float32) if found is None else np.asarray(found, np.float32)[:, 0]
            self._age = 0
        self._age += 1
        matrix = self._follow(last, seen, self._points)
        if matrix is None:
            # Features are looked for near where they were: the picture as a whole says how far they have gone.
            shift, response = _shift(last, seen)
            if shift.any():
                matrix = self._follow(last, seen, self._points + shift)
            if matrix is None and response >= RESPONSE_MIN:
                matrix = _shifting(shift)
                self._points = self._points + shift
        if matrix is None:
            self._points = np.empty((0, 2), np.float32)
            return STANDS_STILL
        return self._scaled(matrix, step, image.shape)

    def _written(self, image: NDArray[np.float32]) -> NDArray[np.uint8]:
        """(H, W) 1 on and round text and marks that a recorder writes into the picture, else 0.

        They have the sharpest corners of all and stand still before a scene that moves. Lit windows outshine a scene as
        well, but move with it, or fill more of the picture.
        """
        strokes = _strokes(image)
        if self._standing is None or self._standing.shape != strokes.shape:
            self._standing = np.zeros_like(strokes)
        self._standing = np.minimum(self._standing + 1, STANDING).astype(np.uint8) * strokes
        written = cv2.dilate((self._standing == STANDING).astype(np.uint8), _square(EDGES))
        return np.asarray(written if written.mean() <= WRITTEN_MAX else np.zeros_like(written), np.uint8)

    def _follow(self, last: NDArray[np.uint8], seen: NDArray[np.uint8], guess: Points) -> Floats | None:
        """The matrix (3, 3) that takes most features to where they are found, near the guess (n, 2); they go there."""
        if len(guess) < FEATURES_MIN:
            return None
        before, after = _followed(last, seen, self._points, guess)
        if len(before) < FEATURES_MIN:
            return None
        matrix, agreeing = self._fit(before, after)
        if agreeing.sum() < max(FEATURES_MIN, AGREEING_MIN * len(before)):
            return None
        self._points = after[agreeing]
        return matrix

    def _fit(self, before: Points, after: Points) -> tuple[Floats, NDArray[np.bool_]]:
        """The matrix (3, 3) that takes most of the points to where they went, and which it takes there.

        Of no motion, a shift and what else the model allows, the one that explains the points best for its freedom:
        faint features are followed with errors, and a richer motion carries these to the corners.
        """
        motions, freedom = [np.eye(3), _shifting(np.median(after - before, axis=0))], [0, 2]
        fitted: Any = None
        if self._model == "homography":
            fitted, _ = cv2.findHomography(before, after, cv2.RANSAC, TOLERANCE)
        elif self._model == "similarity":
            fitted, _ = cv2.estimateAffinePartial2D(before, after, None, cv2.RANSAC, TOLERANCE)
        if fitted is not None and np.isfinite(fitted).all():
            matrix = np.eye(3)
            matrix[: len(fitted)] = fitted
            motions.append(matrix)
            freedom.append(FREEDOM[self._model])
        places = before.astype(np.float64)
        there = np.stack([CameraMotion(matrix, known=True).apply(places) for matrix in motions])
        errors = np.square(there - after).sum(2)
        best = int(_surprise(errors, np.array(freedom)).argmin())
        return motions[best], errors[best] <= TOLERANCE**2

    def _scaled(self, matrix: Floats, step: int, shape: tuple[int, ...]) -> CameraMotion:
        """The motion in px of the whole frame, of which the means of `step` x `step` px were seen."""
        up = np.array([[step, 0, (step - 1) / 2], [0, step, (step - 1) / 2], [0, 0, 1]])
        motion = CameraMotion(up @ matrix @ np.linalg.inv(up), known=True)
        height, width = shape
        corners = np.array([[0.0, 0], [width - 1, 0], [0, height - 1], [width - 1, height - 1]])
        if np.abs(motion.apply(corners) - corners).max() < STILL:
            return CameraMotion(np.eye(3), known=True)
        return motion


def _shifting(shift: Points) -> Floats:
    """The matrix (3, 3) that takes all places so far, (2,) px."""
    matrix = np.eye(3)
    matrix[:2, 2] = shift
    return matrix


def _surprise(errors: Floats, freedom: Integers) -> Floats:
    """How badly each motion (m,), of so many parameters, explains features that it misses by such px^2 (m, n): the
    criterion of Schwarz (1978), which no feature weighs on by more than one that is not of the background (Torr, 1998).
    """
    count = 2 * errors.shape[1]
    mean = np.minimum(errors, TOLERANCE**2).mean(1) / 2 + EXACT**2
    return np.asarray(count * np.log(mean) + FREEDOM_COST * freedom * np.log(count))


def _followed(last: NDArray[np.uint8], seen: NDArray[np.uint8], places: Points, guess: Points) -> tuple[Points, Points]:
    """Where features were (n, 2) and where they are now, of those that are found near the guess."""
    moved, status, _ = cv2.calcOpticalFlowPyrLK(
        last,
        seen,
        places[:, None],
        guess[:, None].copy(),
        winSize=(15, 15),
        criteria=CONVERGED,
        flags=cv2.OPTFLOW_USE_INITIAL_FLOW,
    )
    found = np.asarray(status)[:, 0] > 0
    return places[found], np.asarray(moved, np.float32)[found, 0]


def _shift(last: NDArray[np.uint8], seen: NDArray[np.uint8]) -> tuple[Points, float]:
    """(2,) px by which the whole picture has moved, from the phases of both spectra (Kuglin and Hines, 1975), and how
    much of the picture says so: 1 for all of it, below 0.2 for noise. It is 0 unless they then match better."""
    window = cv2.createHanningWindow(last.shape[::-1], cv2.CV_32F)
    shift, response = cv2.phaseCorrelate(last.astype(np.float32), seen.astype(np.float32), window)
    found = np.array(shift, np.float32)
    return found if _matches_better(last, seen, found) else np.zeros_like(found), response


def _matches_better(last: NDArray[np.uint8], seen: NDArray[np.uint8], shift: Points) -> bool:
    """Whether the last picture (H, W), moved by a shift (2,) px, correlates with this one surely better than as it is:
    by Fisher's transform, whose spread is known for pictures of noise (Fisher, 1921)."""
    before, after = (cv2.GaussianBlur(side.astype(np.float32), (0, 0), BLUR) for side in (last, seen))
    height, width = after.shape
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    back = cv2.warpAffine(after, _shifting(shift)[:2], (width, height), flags=flags, borderValue=np.nan)
    both = np.isfinite(back)
    independent = both.sum() / (4 * np.pi * BLUR**2)
    if independent <= 4 or min(side[both].std() for side in (before, after, back)) == 0:
        return False
    alike = (np.corrcoef(before[both], side[both])[0, 1] for side in (back, after))
    moved, still = np.minimum(list(alike), np.nextafter(1.0, 0.0))  # of one the transform would be infinite
    return bool(np.arctanh(moved) - np.arctanh(still) > SURE * np.sqrt(2 / (independent - 3)))


def _shown(image: NDArray[np.float32]) -> NDArray[np.uint8]:
    """(H, W) in 8 bits, even about the mean: one level of brightness that changes from frame to frame moves smooth
    features, and a mean wavers far less than percentiles, which only keep off what outshines the scene."""
    levels = np.clip(image, *percentiles(image, LEVELS))
    middle, reach = levels.mean(), SPREADS * levels.std()
    return eight_bits(image, float(middle - reach), float(middle + reach))


def _strokes(image: NDArray[np.float32]) -> NDArray[np.uint8]:
    """(H, W) 1 where something narrow outshines what is around it by more than the scene varies, else 0."""
    large = cv2.morphologyEx(image, cv2.MORPH_OPEN, _square(NARROW))
    low, high = percentiles(image, USUAL)
    highest = percentiles(np.asarray(large, np.float32), LEVELS)[1]
    return (image - large > OUTSHINING * (max(high, highest) - low)).astype(np.uint8)


def _filled(image: NDArray[np.float32], written: NDArray[np.uint8]) -> NDArray[np.float32]:
    """(H, W) with the mean of what is around it in the place of what is written."""
    if not written.any():
        return image
    clear = (1 - written).astype(np.float32)
    middle = np.average(image, weights=clear)
    around = cv2.blur((image - middle) * clear, (FILL, FILL)) / np.maximum(cv2.blur(clear, (FILL, FILL)), FILL**-2)
    return np.where(written > 0, middle + around, image).astype(np.float32)


def _square(side: int) -> NDArray[np.uint8]:
    return np.ones((side, side), np.uint8)


def _shrunk(image: Image, step: int) -> NDArray[np.float32]:
    """Means of `step` x `step` px, with their fractions of a level."""
    height, width = (side // step for side in image.shape)
    whole = image[: height * step, : width * step].astype(np.float32)
    return np.asarray(cv2.resize(whole, (width, height), interpolation=cv2.INTER_AREA), np.float32)
