"""From target pixels to detections."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array
from scipy.sparse.csgraph import connected_components

from irst_pipeline.config import DetectionSettings
from irst_pipeline.types import Detections, Floats, Frame, Image, Integers, TargetPixels

RIM = 4  # px round a blob's box in which the local background is measured
GUARD = 1  # px of a blob's soft edge that belong to it and not to its background
LEVELS = 65536.0  # grey levels of any image, at most
NOISE_MIN = 0.3  # grey levels: the rounding of an integer image, 1/sqrt(12)
LOCALISATION_SD = 0.05  # px; what remains of the centroid's error at any SNR (pixel response, compression)
PIXEL_MOMENTS = np.array([1 / 12, 0.0, 1 / 12])  # px^2; a pixel has an extent of its own
CUT_SD = 0.5  # error of the centroid of a blob that the frame's border cuts off, over its width or height
SHAPE_SD = 0.05  # error of a centroid because its blob's outline changes between frames, over the blob's extent


def detect(frame: Frame, found: TargetPixels, settings: DetectionSettings) -> tuple[Detections, int]:
    """Blobs (8-connected) of the pixels found, strongest first, and how many more there were than are taken; also weak
    ones, for the tracker to choose from.

    Their centroid is weighted with the image's contrast to the local background; its covariance is that of a blob of
    the measured second moments at the measured SNR, sigma^2 / SNR^2 (Winick, "Cramer-Rao lower bounds on the
    performance of charge-coupled-device optical position estimators", 1986), plus a share of the blob's extent, for
    its outline changes between frames, plus a floor; at the frame's border also what may lie outside.
    """
    blobs = find_blobs(_cores(found, frame.image.shape, settings.threshold), frame.image.shape)
    large = np.flatnonzero(blobs.area >= settings.min_area)
    strongest_first = large[np.argsort(-blobs.score[large], kind="stable")]
    chosen = strongest_first[: settings.max_detections]
    detections = measure(frame.image, blobs, chosen)
    shown = detections.snr > 0  # what is as bright as all around it, as behind a shutter, is no target
    return detections.take(shown), len(strongest_first) - len(chosen)


def _cores(found: TargetPixels, shape: tuple[int, ...], threshold: float) -> TargetPixels:
    """The pixels above the threshold, and of blobs that have none those above this share of their highest probability.

    A weak target is thus drawn as a strong one is, for which the highest probability is about one.
    """
    if found.probability.min(initial=1) >= threshold:
        return found
    _, blob = _joined(found.places, shape)
    highest = np.zeros(blob.max() + 1)
    np.maximum.at(highest, blob, found.probability)
    core = found.probability >= threshold * np.where(highest < threshold, highest, 1.0)[blob]
    return TargetPixels(found.places[core], found.probability[core], found.intensity[core])


class Blobs(NamedTuple):
    """The blobs of a frame in the order of their first pixels; n rows, as in `Detections` but for the box."""

    labels: NDArray[np.int32]
    """(H + 2, W + 2): the frame with a border of `GUARD`; i + 1 on the pixels of blob i, 0 elsewhere."""
    box: Integers
    """(n, 4) left, top, width, height in whole pixels."""
    area: Integers
    score: Floats
    intensity: Floats


def _joined(places: Integers, shape: tuple[int, ...]) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
    """The blobs' label image, as in `Blobs`, and the number of each pixel's blob."""
    ys, xs = np.divmod(places, shape[1])
    labels = np.zeros((shape[0] + 2 * GUARD, shape[1] + 2 * GUARD), np.int32)
    count = len(places)
    labels[ys + GUARD, xs + GUARD] = np.arange(1, count + 1)
    # A pixel in each row, the four of its neighbours that come after it in the columns.
    after = np.stack([labels[ys + GUARD + dy, xs + GUARD + dx] for dy, dx in ((0, 1), (1, -1), (1, 0), (1, 1))], 1)
    touching = after > 0
    begins = np.concatenate([[0], touching.sum(1, dtype=np.int32).cumsum(dtype=np.int32)])
    links = csr_array((np.ones(begins[-1]), after[touching] - 1, begins), (count, count))
    blob = connected_components(links, directed=False)[1]
    labels[ys + GUARD, xs + GUARD] = blob + 1
    return labels, blob


def find_blobs(found: TargetPixels, shape: tuple[int, ...]) -> Blobs:
    """Join the pixels of a frame (H, W) that touch, at an edge or a corner. It takes no longer for a larger frame."""
    labels, blob = _joined(found.places, shape)
    order = np.argsort(blob, kind="stable")
    starts = np.flatnonzero(np.diff(blob[order], prepend=-1))
    ys, xs = np.divmod(found.places[order], shape[1])
    top, left = (np.minimum.reduceat(v, starts) for v in (ys, xs))
    bottom, right = (np.maximum.reduceat(v, starts) for v in (ys, xs))
    score, intensity = (
        np.maximum.reduceat(v[order], starts).astype(np.float64) for v in (found.probability, found.intensity)
    )
    box = np.column_stack([left, top, right - left + 1, bottom - top + 1])
    return Blobs(labels, box, np.bincount(blob), score, intensity)


def measure(image: Image, blobs: Blobs, chosen: Integers) -> Detections:
    """The detections of these rows (n,) of the blobs, measured all at once.

    The pixels of all windows, a blob's box and its rim each, lie one window after the other in flat arrays.
    """
    owner, ys, xs = _windows(blobs.box[chosen], image.shape)
    levels = image[ys, xs].astype(np.float64)
    around = np.arange(2 * GUARD + 1)
    places = ys * blobs.labels.shape[1] + xs
    near = blobs.labels.ravel()[places + np.add.outer(blobs.labels.shape[1] * around, around).reshape(-1, 1)]
    label, wanted = near[len(near) // 2], chosen[owner] + 1
    background, noise = _surroundings(levels, owner, (near == 0).all(0), len(chosen))
    contrast = levels - background[owner]
    blob = label == wanted
    starts = np.flatnonzero(np.diff(owner[blob], prepend=-1))
    cold = np.add.reduceat(contrast[blob], starts) < 0
    contrast *= np.where(cold, -1.0, 1.0)[owner]  # a cold target is measured as a hot one
    snr = np.maximum.reduceat(contrast[blob], starts) / noise
    own = blob | ((label == 0) & (near == wanted).any(0))
    x, y, moments = _moments(owner[own], xs[own], ys[own], np.maximum(contrast[own], 0), len(chosen))
    relative = 1 / np.maximum(snr, 1.0) ** 2 + SHAPE_SD**2
    covariance = (moments + PIXEL_MOMENTS) * relative[:, None] + np.array([1.0, 0.0, 1.0]) * LOCALISATION_SD**2
    corner, size = blobs.box[chosen, :2], blobs.box[chosen, 2:]
    cut = (corner == 0) | (corner + size == image.shape[::-1])
    covariance[:, ::2] += (cut * CUT_SD * size) ** 2
    return Detections(
        x=x,
        y=y,
        covariance=covariance,
        # From the corner pixel's centre to the box's edge is half a pixel.
        box=blobs.box[chosen] - np.array([0.5, 0.5, 0, 0]),
        area=blobs.area[chosen],
        score=blobs.score[chosen],
        intensity=blobs.intensity[chosen],
        snr=snr,
    )


def _moments(owner: Integers, xs: Integers, ys: Integers, weight: Floats, blobs: int) -> tuple[Floats, Floats, Floats]:
    """Centroids x and y (n,) of the pixels of n blobs, and their second moments about them, (n, 3): xx, xy, yy.

    `owner` is each pixel's blob. Where all of a blob's weights are 0, its pixels weigh the same.
    """

    def per_blob(values: Floats) -> Floats:
        return np.asarray(np.bincount(owner, values, blobs), np.float64)

    weight = np.where(per_blob(weight)[owner] > 0, weight, 1.0)
    weight /= per_blob(weight)[owner]
    x, y = per_blob(weight * xs), per_blob(weight * ys)
    dx, dy = xs - x[owner], ys - y[owner]
    return x, y, np.stack([per_blob(weight * product) for product in (dx * dx, dx * dy, dy * dy)], 1)


def _windows(boxes: Integers, shape: tuple[int, ...]) -> tuple[Integers, Integers, Integers]:
    """Which box's window a pixel lies in, its row and its column, for the pixels of all windows."""
    left, top, width, height = boxes.T
    y0, x0 = np.maximum(top - RIM, 0), np.maximum(left - RIM, 0)
    rows, columns = np.minimum(top + height + RIM, shape[0]) - y0, np.minimum(left + width + RIM, shape[1]) - x0
    sizes = rows * columns
    owner = np.repeat(np.arange(len(boxes)), sizes)
    within = np.arange(len(owner)) - np.repeat(np.cumsum(sizes) - sizes, sizes)
    row, column = np.divmod(within, columns[owner])
    return owner, y0[owner] + row, x0[owner] + column


def _surroundings(levels: Floats, owner: Integers, around: NDArray[np.bool_], windows: int) -> tuple[Floats, Floats]:
    """Median and standard deviation of what is around the blobs of each window; of all of it where nothing is.

    The latter comes from the mean absolute deviation, as if normal: a neighbour's edge weighs little in it, and it does
    not jump between whole levels as the median deviation of an 8-bit sky does.
    """
    filled = np.bincount(owner[around], minlength=windows) == 0
    around = around | filled[owner]
    levels, owner = levels[around], owner[around]
    counts = np.bincount(owner)
    # Windows come one after the other, so that all can be sorted at once, each apart from the next.
    apart = LEVELS * owner
    ordered = np.sort(levels + apart) - apart
    first = np.cumsum(counts) - counts
    background = (ordered[first + (counts - 1) // 2] + ordered[first + counts // 2]) / 2
    deviation = np.bincount(owner, np.abs(levels - background[owner])) / counts
    return background, np.maximum(np.sqrt(np.pi / 2) * deviation, NOISE_MIN)
