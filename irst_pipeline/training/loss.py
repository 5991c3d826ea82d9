"""The training loss: overlap of the detections, and the constraints of the decomposition."""

import torch
from torch import Tensor
from torch.nn import functional as F

from irst_pipeline.lsnet.model import Decomposition

CROSS_ENTROPY_WEIGHT = 0.5
STAGE_DISCOUNT = 0.5  # weight of each earlier stage against the one after it
RESIDUAL_WEIGHT = 0.1
BACKGROUND_WEIGHT = 0.1
MARGIN = 3  # px round a target in which the background is not asked to equal the frame
AREA_MIN = 10.0  # px, so that a frame without a target does not divide by nothing


def cross_entropy(logits: Tensor, probability: Tensor, weight: Tensor) -> Tensor:
    """Cross entropy with a mask or a teacher's probability, a target pixel and frame (B,). All (B, 1, H, W)."""
    entropy = F.binary_cross_entropy_with_logits(logits, probability, weight, reduction="none").sum((1, 2, 3))
    return entropy / ((probability * weight).sum((1, 2, 3)) + AREA_MIN)


def detection_loss(logits: Tensor, mask: Tensor, weight: Tensor) -> Tensor:
    """Soft IoU a frame plus cross entropy a target pixel, over the pixels to be judged. All (B, 1, H, W)."""
    p, target = logits.sigmoid() * weight, mask * weight
    overlap, total = (p * target).sum((1, 2, 3)), (p + target).sum((1, 2, 3))
    soft_iou = (overlap + 1) / (total - overlap + 1)
    return (1 - soft_iou + CROSS_ENTROPY_WEIGHT * cross_entropy(logits, mask, weight)).mean()


def decomposition_loss(parts: Decomposition, frames: Tensor, elsewhere: Tensor) -> Tensor:
    """0.1 ||D - B - T - N||^2 + 0.1 ||elsewhere (D - B)||_1, both a pixel; `elsewhere` is 0 round the targets."""
    residual = frames - parts.background - parts.target - parts.noise
    background = (elsewhere * (frames - parts.background)).abs().mean()
    return RESIDUAL_WEIGHT * residual.square().mean() + BACKGROUND_WEIGHT * background


def training_loss(stages: list[Decomposition], frames: Tensor, mask: Tensor, weight: Tensor) -> Tensor:
    """Deep supervision: the last stage counts whole, each earlier one less."""
    elsewhere = 1 - F.max_pool2d(mask, 2 * MARGIN + 1, stride=1, padding=MARGIN)
    discounts = [STAGE_DISCOUNT**age for age in reversed(range(len(stages)))]
    losses = [
        discount * (detection_loss(parts.logits, mask, weight) + decomposition_loss(parts, frames, elsewhere))
        for discount, parts in zip(discounts, stages, strict=True)
    ]
    return torch.stack(losses).sum()
