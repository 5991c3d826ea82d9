"""How well maps of a frame find the targets of its mask, at native size, as the field measures it."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from irst_pipeline.datasets import MASKED, UNKNOWN
from irst_pipeline.evaluation.matching import distances, match
from irst_pipeline.types import Floats, Integers

REACH = float(np.nextafter(3.0, 0.0))  # px from a target's centroid to that of the blob that serves it: less than 3


@dataclass(frozen=True)
class FrameCounts:
    """What is counted in one frame, over the pixels that are to be judged."""

    overlap: int
    """px found that are target."""
    union: int
    """px found, or target, or both."""
    targets: int
    hits: int
    """Targets that a blob of their own serves."""
    false_pixels: int
    """px of the blobs that serve no target."""
    pixels: int

    @property
    def iou(self) -> float:
        """0..1; 1 where nothing is to be found and nothing is."""
        return self.overlap / self.union if self.union else 1.0


@dataclass(frozen=True)
class DetectionScores:
    """The field's figures over a set of frames, as shares; NaN where there was nothing to measure."""

    images: int
    targets: int
    iou: float
    """Pooled over all pixels."""
    niou: float
    """Mean of the frames' own IoU (Dai et al., "Asymmetric contextual modulation", WACV 2021)."""
    f1: float
    """Of pixels, pooled."""
    pd: float
    """Probability of detection: targets served, of all targets."""
    fa: float
    """False-alarm rate: pixels of the blobs that serve no target, of all pixels."""


def count(found: NDArray[np.bool_], mask: NDArray[np.uint8]) -> FrameCounts:
    """Compare the pixels found (H, W) with a mask (H, W) of `MASKED`, `UNKNOWN` and background.

    What is found in unknown pixels is neither right nor wrong: blobs are made of the others. Blobs and targets are
    8-connected. They are matched one to one, as many as lie within `REACH` and those as near as can be; what serves no
    target counts as false whatever its size. Raises ValueError where the sizes differ.
    """
    if found.shape != mask.shape:
        raise ValueError(f"a map of {found.shape} does not fit a mask of {mask.shape}")
    judged, truth = mask != UNKNOWN, mask == MASKED
    found = found & judged
    overlap = int(np.count_nonzero(found & truth))
    union = int(np.count_nonzero(found)) + int(np.count_nonzero(truth)) - overlap
    (wanted, _), (centroids, areas) = _blobs(truth), _blobs(found)
    _, served = match(distances(wanted, centroids), REACH)
    false_pixels = int(np.delete(areas, served).sum())
    return FrameCounts(overlap, union, len(wanted), len(served), false_pixels, int(np.count_nonzero(judged)))


def pool(counts: Iterable[FrameCounts]) -> DetectionScores:
    """The scores of a set of frames."""
    rows = list(counts)
    overlap, union = sum(c.overlap for c in rows), sum(c.union for c in rows)
    targets = sum(c.targets for c in rows)
    return DetectionScores(
        images=len(rows),
        targets=targets,
        iou=_share(overlap, union),
        niou=_share(sum(c.iou for c in rows), len(rows)),
        f1=_share(2 * overlap, overlap + union),
        pd=_share(sum(c.hits for c in rows), targets),
        fa=_share(sum(c.false_pixels for c in rows), sum(c.pixels for c in rows)),
    )


class DetectorCounts:
    """What is counted of one detector, image by image, at its operating threshold and along a curve of others."""

    def __init__(self, threshold: float, curve: Sequence[float] | Floats) -> None:
        self.threshold = threshold
        self.by_image: dict[str, FrameCounts] = {}
        """At the operating threshold."""
        self._curve: dict[float, list[FrameCounts]] = {float(value): [] for value in sorted({*curve, threshold})}

    def add(self, name: str, response: NDArray[np.floating[Any]], mask: NDArray[np.uint8]) -> None:
        """Judge a map (H, W), found where it is above a threshold, by the image's mask as `count` does."""
        for threshold, rows in self._curve.items():
            rows.append(count(response > threshold, mask))
        self.by_image[name] = self._curve[self.threshold][-1]

    def scores(self) -> DetectionScores:
        """At the operating threshold."""
        return pool(self._curve[self.threshold])

    def curve(self) -> dict[float, DetectionScores]:
        """By threshold, ascending; the operating one is among them."""
        return {threshold: pool(rows) for threshold, rows in self._curve.items()}


def _blobs(mask: NDArray[np.bool_]) -> tuple[Floats, Integers]:
    """Centroids (n, 2) in px, x and y, and areas (n,) of 8-connected blobs."""
    _, _, stats, centroids = cv2.connectedComponentsWithStats(mask.astype(np.uint8), connectivity=8)
    return np.asarray(centroids, np.float64)[1:], np.asarray(stats, np.int64)[1:, cv2.CC_STAT_AREA]


def _share(part: float, whole: float) -> float:
    return part / whole if whole else float("nan")
