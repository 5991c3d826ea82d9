"""What is evaluated: a network and the classical baselines, each a map of a frame and a threshold on it."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np
import torch
from tqdm import tqdm

from irst_pipeline.datasets import Sample
from irst_pipeline.errors import IrstError, UsageError
from irst_pipeline.evaluation.baselines import local_contrast, max_median, pstnn, white_top_hat
from irst_pipeline.evaluation.detection import DetectorCounts
from irst_pipeline.lsnet.model import LSNet
from irst_pipeline.predict import predict
from irst_pipeline.types import Floats, Image, Map

PROBABILITIES = 1 / (1 + np.exp(-np.linspace(-9, 9, 37)))
"""Thresholds of a network's curve, evenly spaced in logits; 0.5 is in their middle."""
DEVIATIONS = np.geomspace(1, 128, 29)
"""Thresholds k of a baseline's curve."""


@dataclass(frozen=True)
class Detector:
    """Something that finds targets where its response is above a threshold."""

    name: str
    respond: Callable[[Image], Map]
    """From an image (H, W) to a response (H, W)."""
    threshold: float
    """At which it is scored."""
    curve: Floats
    """Thresholds of its Pd/Fa curve."""


def network_detector(name: str, network: LSNet, device: torch.device) -> Detector:
    """The probabilities of a network that is on `device`, in eval mode, found above 0.5."""
    return Detector(name, lambda image: predict(network, image, device).probability, 0.5, PROBABILITIES)


def standardised(saliency: Map) -> Map:
    """Saliency in standard deviations above its mean over the frame."""
    deviation = float(saliency.std())
    return (saliency - saliency.mean()) / np.float32(deviation) if deviation else np.zeros_like(saliency)


def _baseline(name: str, saliency: Callable[[Image], Map], k: float) -> Detector:
    return Detector(name, lambda image: standardised(saliency(image)), k, DEVIATIONS)


BASELINES = (
    _baseline("white top-hat", white_top_hat, 11.3),
    _baseline("max-median", max_median, 16.0),
    _baseline("MPCM", local_contrast, 6.7),
    _baseline("PSTNN", pstnn, 19.0),
)
"""The classical detectors under the field's adaptive threshold, mean + k deviations of a frame's saliency.

k gives the highest pixel F1, among the values of `DEVIATIONS`, over every fourth frame of the train splits of
NUDT-SIRST and NUAA-SIRST together; it is the same for every set that is scored.
"""


def score(detector: Detector, samples: Iterable[Sample], curve: bool = True) -> DetectorCounts:
    """Count what a detector finds in labelled frames of any sizes, for its curve or at its threshold alone.

    Raises UsageError for a frame that the detector cannot take.
    """
    counts = DetectorCounts(detector.threshold, detector.curve if curve else ())
    for sample in tqdm(samples, desc=detector.name, unit="image", leave=False, disable=None):
        try:
            response = detector.respond(sample.image)
        except IrstError as error:
            raise UsageError(f"{sample.name}: {error}; take it out of the split") from None
        counts.add(sample.name, response, sample.mask)
    return counts
