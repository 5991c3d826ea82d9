"""A network and the classical baselines, each a map of a frame and a threshold on it, scored on labelled frames."""

from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from tqdm import tqdm

from irst_pipeline.datasets import Sample, read_masked_images
from irst_pipeline.engine import find_device, load_model
from irst_pipeline.engine.exact import predict
from irst_pipeline.errors import IrstError, UsageError
from irst_pipeline.evaluation.baselines import local_contrast, max_median, pstnn, white_top_hat
from irst_pipeline.evaluation.detection import DetectionScores, DetectorCounts
from irst_pipeline.evaluation.detection_report import DETECTION_FILES, detection_table, write_detection_report
from irst_pipeline.folders import claim_folder, clear_folder
from irst_pipeline.lsnet.model import LSNet
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


def score_network(network: LSNet, samples: list[Sample], device: torch.device) -> DetectionScores:
    """Scores at threshold 0.5 of a network that is on `device`, in eval mode, on whole frames of any sizes."""
    return score(network_detector("network", network, device), samples, curve=False).scores()


def evaluate_detection(folder: Path, split: str, model: str, device: str, out: Path | None, overwrite: bool) -> None:
    """Score a network, and the classical baselines on the same frames, on a split of a set in the field's layout.

    The network runs in PyTorch in float32 at native size (`engine/exact.py`). The results go to `out`, by default
    runs/evaluate-SET-SPLIT-MODEL, and as a table to stdout. Raises IrstError, a line for the user.
    """
    weights, on = load_model(model), find_device(device)
    if weights.name in {baseline.name for baseline in BASELINES}:
        raise UsageError(f"--model {model}: {weights.name} is also the name of a baseline; give it another name")
    name = folder.resolve().name
    out = out or Path("runs") / f"evaluate-{name}-{split}-{weights.name}"
    samples = read_masked_images(folder, split)
    inputs = [path for part in ("images", "masks", "img_idx") for path in (folder / part).iterdir()]
    earlier = claim_folder(out, DETECTION_FILES, [*inputs, Path(model)], overwrite)
    detectors = [network_detector(weights.name, weights.network.to(on), on), *BASELINES]
    try:
        counts = {detector.name: score(detector, samples) for detector in detectors}
    except BaseException:
        with suppress(OSError):  # as where earlier results are in it
            out.rmdir()
        raise
    what = {
        "dataset": name,
        "split": split,
        "model": weights.name,
        "weights_sha256": weights.sha256,
        "device": str(on),
        "images": len(samples),
    }
    clear_folder(out, earlier)  # late: scoring may fail, and earlier results stay then
    write_detection_report(out, what, counts)
    print(f"{name} {split}: {len(samples)} images, {counts[weights.name].scores().targets} targets")
    print(detection_table(counts))
    print(f"results  {out}: {' '.join(DETECTION_FILES)}")
