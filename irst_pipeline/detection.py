"""From a target map to detections."""

from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from irst_pipeline.config import DetectionSettings
from irst_pipeline.types import Detections, Floats, Frame, Image, TargetMap

RIM = 4  # px round a blob's box in which the local background is measured
GUARD = 1  # px of a blob's soft edge that belong to it and not to its background
NOISE_MIN = 0.3  # grey levels: the rounding of an integer image, 1/sqrt(12)
LOCALISATION_SD = 0.1  # px; what remains of the centroid's error at any SNR (pixel response, compression)
PIXEL_MOMENTS = np.array([1 / 12, 0.0, 1 / 12])  # px^2; a pixel has an extent of its own
SHAPE_SD = 0.1  # of a blob's extent; by so much its outline, and with it the centroid, changes between frames


def detect(frame: Frame, found: TargetMap, settings: DetectionSettings) -> Detections:
    """Blobs (8-connected) of probability above the threshold, strongest first.

    Their centroid is weighted with the image's contrast to the local background; its covariance is that of a blob of
    the measured second moments at the measured SNR, sigma^2 / SNR^2 (Winick, "Cramer-Rao lower bounds on the
    performance of charge-coupled-device optical position estimators", 1986), plus a share of the blob's extent, by
    which an outline changes between frames, plus a floor.
    """
    above = found.probability > settings.threshold
    count, labelled, found_stats, _ = cv2.connectedComponentsWithStats(above.astype(np.uint8), connectivity=8)
    labels, stats = np.asarray(labelled, np.int32), np.asarray(found_stats, np.int32)
    scores = np.zeros(count)
    np.maximum.at(scores, labels[above], found.probability[above])
    order = np.argsort(-scores, kind="stable")
    large = stats[order, cv2.CC_STAT_AREA] >= settings.min_area
    chosen = order[large & (order > 0)][: settings.max_detections]  # label 0 is the background
    blobs = [_measure(frame.image, found.intensity, labels, int(label), stats[label]) for label in chosen]
    return Detections(
        x=np.array([b.x for b in blobs]),
        y=np.array([b.y for b in blobs]),
        covariance=np.array([b.covariance for b in blobs]).reshape(-1, 3),
        # From the corner pixel's centre to the box's edge is half a pixel.
        box=stats[chosen, :4] - np.array([0.5, 0.5, 0, 0]),
        area=stats[chosen, cv2.CC_STAT_AREA].astype(np.int64),
        score=scores[chosen],
        intensity=np.array([b.intensity for b in blobs]),
        snr=np.array([b.snr for b in blobs]),
    )


class Blob(NamedTuple):
    """What is measured on one blob's pixels."""

    x: float
    y: float
    covariance: Floats
    intensity: float
    snr: float


def _measure(
    image: Image, intensity: NDArray[np.float32], labels: NDArray[np.int32], label: int, row: NDArray[np.int32]
) -> Blob:
    left, top, width, height = (int(v) for v in row[:4])
    y0, x0 = max(0, top - RIM), max(0, left - RIM)
    window = np.s_[y0 : top + height + RIM, x0 : left + width + RIM]
    levels, near = image[window].astype(np.float64), labels[window]
    blob = near == label
    background, noise = _surroundings(levels, near)
    contrast = levels - background
    contrast *= 1.0 if contrast[blob].sum() >= 0 else -1.0  # a cold target is measured as a hot one
    snr = float(contrast[blob].max()) / noise
    own = _grown(blob) & (blob | (near == 0))
    ys, xs = np.nonzero(own)
    weight = np.clip(contrast[own], 0, None)
    weight = weight / weight.sum() if weight.any() else np.full(len(xs), 1 / len(xs))
    x, y = float(weight @ xs), float(weight @ ys)
    dx, dy = xs - x, ys - y
    moments = np.array([weight @ dx**2, weight @ (dx * dy), weight @ dy**2]) + PIXEL_MOMENTS
    relative = 1 / max(snr, 1.0) ** 2 + SHAPE_SD**2
    covariance = moments * relative + np.array([1.0, 0.0, 1.0]) * LOCALISATION_SD**2
    return Blob(x + x0, y + y0, covariance, float(intensity[window][blob].max()), snr)


def _surroundings(levels: Floats, near: NDArray[np.int32]) -> tuple[float, float]:
    """Median and standard deviation of what is around the blobs of a window.

    The latter comes from the mean absolute deviation (sd = sqrt(pi / 2) times it if normal): a neighbour's edge weighs
    little in it, and it does not jump between whole levels as the median deviation of an 8-bit sky does.
    """
    around = ~_grown(near > 0)
    rim = levels[around] if around.any() else levels
    background = float(np.median(rim))
    return background, max(1.2533 * float(np.abs(rim - background).mean()), NOISE_MIN)


def _grown(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    side = 2 * GUARD + 1
    return np.asarray(cv2.dilate(mask.astype(np.uint8), np.ones((side, side), np.uint8)), bool)
