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


def detection_loss(logits: Tensor, mask: Tensor, weight: Tensor) -> Tensor:
    """Soft IoU a frame plus cross entropy a target pixel, over the pixels to be judged. All (B, 1, H, W)."""
    p = logits.sigmoid() * weight
    mask = mask * weight
    overlap, total = (p * mask).sum((1, 2, 3)), (p + mask).sum((1, 2, 3))
    soft_iou = (overlap + 1) / (total - overlap + 1)
    entropy = F.binary_cross_entropy_with_logits(logits, mask, weight, reduction="none").sum((1, 2, 3))
    return (1 - soft_iou + CROSS_ENTROPY_WEIGHT * entropy / (mask.sum((1, 2, 3)) + AREA_MIN)).mean()


def decomposition_loss(parts: Decomposition, frames: Tensor, mask: Tensor) -> Tensor:
    """0.1 ||D - B - T - N||^2 + 0.1 ||(1 - dilate(mask)) (D - B)||_1, both a pixel."""
    residual = frames - parts.background - parts.target - parts.noise
    elsewhere = 1 - F.max_pool2d(mask, 2 * MARGIN + 1, stride=1, padding=MARGIN)
    background = (elsewhere * (frames - parts.background)).abs().mean()
    return RESIDUAL_WEIGHT * residual.square().mean() + BACKGROUND_WEIGHT * background


def training_loss(stages: list[Decomposition], frames: Tensor, mask: Tensor, weight: Tensor) -> Tensor:
    """Deep supervision: the last stage counts whole, each earlier one less."""
    discounts = [STAGE_DISCOUNT**age for age in reversed(range(len(stages)))]
    losses = [
        discount * (detection_loss(parts.logits, mask, weight) + decomposition_loss(parts, frames, mask))
        for discount, parts in zip(discounts, stages, strict=True)
    ]
    return torch.stack(losses).sum()
