"""Probabilities that mean what they say.

Crops are chosen to hold targets, which whole frames seldom do: a network trained on them outlines too much and raises
too many alarms at a probability of one half.
"""

import numpy as np
import torch

from irst_pipeline.datasets import MASKED, UNKNOWN, Sample
from irst_pipeline.lsnet.model import LSNet
from irst_pipeline.lsnet.normalise import normalise
from irst_pipeline.types import Floats

SHIFTS = np.linspace(-3, 3, 49)  # of the logits


def calibrate(network: LSNet, sets: list[list[Sample]], device: torch.device) -> float:
    """Shift the logits of a network, on `device` and in eval mode, to the best IoU at probability one half.

    Best is the mean over the sets of the IoU pooled over each, and of shifts that do as well, as where there are no
    targets, the smallest; it is returned.
    """
    iou = np.mean([_iou_by_shift(network, samples, device) for samples in sets], axis=0)
    best = float(min(SHIFTS[iou == iou.max()], key=abs))
    with torch.no_grad():
        network.get_parameter("head.out.bias").add_(best)
    return best


def _iou_by_shift(network: LSNet, samples: list[Sample], device: torch.device) -> Floats:
    """IoU of a set for each of `SHIFTS`."""
    overlap, union = np.zeros(len(SHIFTS)), np.zeros(len(SHIFTS))
    for sample in samples:
        frames = normalise(torch.from_numpy(sample.image)[None, None].to(device)).frames
        with torch.inference_mode():
            logits = network(frames).logits[0, 0].cpu().numpy()
        judged = sample.mask != UNKNOWN
        logits, target = logits[judged], sample.mask[judged] == MASKED
        for index, shift in enumerate(SHIFTS):
            found = logits > -shift
            overlap[index] += np.count_nonzero(found & target)
            union[index] += np.count_nonzero(found | target)
    return overlap / np.maximum(union, 1)
