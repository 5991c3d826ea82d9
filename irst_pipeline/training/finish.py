"""What a trained network still needs: probabilities that mean what they say, and kernels that float16 has room for.

Crops are chosen to hold targets, which whole frames seldom do: a network trained on them outlines too much and raises
too many alarms at a probability of one half.
"""

import numpy as np
import torch

from irst_pipeline.datasets import MASKED, UNKNOWN, Sample
from irst_pipeline.lsnet.model import LSNet
from irst_pipeline.lsnet.modules import BackgroundStep
from irst_pipeline.lsnet.normalise import normalise_image
from irst_pipeline.types import Floats

SHIFTS = np.linspace(-3, 3, 49)  # of the logits


def shift_logits(network: LSNet, sets: list[list[Sample]], device: torch.device) -> float:
    """Shift the logits of a network, on `device` and in eval mode, to the best IoU at probability one half.

    Best is the mean over the sets of the IoU pooled over each, and of shifts that do as well, as where there are no
    targets, the smallest; it is returned.
    """
    iou = np.mean([_iou_by_shift(network, samples, device) for samples in sets], axis=0)
    best = float(min(SHIFTS[iou == iou.max()], key=abs))
    with torch.no_grad():
        network.get_parameter("head.out.bias").add_(best)
    return best


def bring_to_scale(network: LSNet) -> None:
    """Scale the kernels behind the scans so that what they put out is at most twice what they are given.

    A norm follows each and takes its scale away again, so that nothing bounds it in training; float16 would overflow.
    The factors are powers of two, which change no digit.
    """
    for module in network.modules():
        if isinstance(module, BackgroundStep) and len(module.up):
            kernel = module.up[-1].get_parameter("0.weight")
            with torch.no_grad():
                kernel.mul_(2.0 ** -(kernel.abs().sum((1, 2, 3)).max() / 2).log2().ceil())


def _iou_by_shift(network: LSNet, samples: list[Sample], device: torch.device) -> Floats:
    """IoU of a set for each of `SHIFTS`."""
    overlap, union = np.zeros(len(SHIFTS)), np.zeros(len(SHIFTS))
    for sample in samples:
        frames = normalise_image(sample.image, device).frames
        with torch.inference_mode():
            logits = network(frames).logits[0, 0].cpu().numpy()
        judged = sample.mask != UNKNOWN
        logits, target = logits[judged], sample.mask[judged] == MASKED
        for index, shift in enumerate(SHIFTS):
            found = logits > -shift
            overlap[index] += np.count_nonzero(found & target)
            union[index] += np.count_nonzero(found | target)
    return overlap / np.maximum(union, 1)
