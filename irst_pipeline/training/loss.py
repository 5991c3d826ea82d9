"""The training loss: overlap of the detections, and the constraints of the decomposition."""

import torch
from torch import Tensor
from torch.nn import functional as F

from irst_pipeline.lsnet.model import Decomposition
from irst_pipeline.training.muon import FINE, ROUGH, orthogonal

CROSS_ENTROPY_WEIGHT = 0.5
STAGE_DISCOUNT = 0.5  # weight of each earlier stage against the one after it
RESIDUAL_WEIGHT = 1.0
BACKGROUND_WEIGHT = 0.5
RANK_WEIGHT = 3.0
RANK_WINDOW = 128  # px
MARGIN = 3  # px round a target that belong to it as far as the background is concerned
SURROUNDINGS = 32  # px, side of the square whose mean takes a target's place
CONTRAST_MIN = 10.0  # units of the frame times px, so that a frame without a target does not divide by nothing
AREA_MIN = 10.0  # px, so that a frame without a target does not divide by nothing
EPSILON = 1e-6


def cross_entropy(logits: Tensor, probability: Tensor, weight: Tensor) -> Tensor:
    """Cross entropy with a mask or a teacher's probability, by target pixel: (B, 1, H, W) each to (B,)."""
    entropy = F.binary_cross_entropy_with_logits(logits, probability, weight, reduction="none").sum((1, 2, 3))
    return entropy / ((probability * weight).sum((1, 2, 3)) + AREA_MIN)


def detection_loss(logits: Tensor, mask: Tensor, weight: Tensor) -> Tensor:
    """1 - soft IoU plus cross entropy by target pixel: the mean over frames (B, 1, H, W); weight 0: not judged."""
    p, target = logits.sigmoid() * weight, mask * weight
    overlap, total = (p * target).sum((1, 2, 3)), (p + target).sum((1, 2, 3))
    soft_iou = (overlap + 1) / (total - overlap + 1)
    return (1 - soft_iou + CROSS_ENTROPY_WEIGHT * cross_entropy(logits, mask, weight)).mean()


def painted_over(frames: Tensor, mask: Tensor) -> Tensor:
    """The frames (B, 1, H, W) with the targets and a margin round them replaced by their surroundings."""
    elsewhere = 1 - F.max_pool2d(mask, 2 * MARGIN + 1, stride=1, padding=MARGIN)
    sums, shares = (
        F.avg_pool2d(plane, SURROUNDINGS, stride=4, padding=SURROUNDINGS // 2 - 2)
        for plane in (frames * elsewhere, elsewhere)
    )
    surroundings = F.interpolate(sums / shares.clamp(min=1e-3), frames.shape[-2:], mode="bilinear")
    return torch.where(elsewhere > 0, frames, surroundings)


def decomposition_loss(parts: Decomposition, frames: Tensor, background: Tensor, weight: Tensor) -> Tensor:
    """||D - B - T - N||_1 + 0.5 ||B* - B||_1, both a pixel, + 0.5 of the share of the targets' contrast left in B.

    B* is the frame with its targets painted over. First powers, for noise is so much weaker than the scene that squares
    would leave several times its level; a share, for targets are so few pixels that B could else keep them.
    """
    residual = (frames - parts.background - parts.target - parts.noise).abs().mean()
    # Where nobody knows whether there is a target, nobody knows the background.
    left, contrast = weight * (background - parts.background).abs(), weight * (frames - background).abs()
    kept = (left * (contrast > 0)).sum((1, 2, 3)) / (contrast.sum((1, 2, 3)) + CONTRAST_MIN)
    return RESIDUAL_WEIGHT * residual + BACKGROUND_WEIGHT * (left.mean() + kept.mean())


def effective_rank_log(images: Tensor) -> Tensor:
    """log((sum s)^2 / sum s^2) of each image's singular values s, its mean taken off: (B, 1, H, W) to (B,).

    The logarithm of an effective rank: r for r equal values, as is the one of `irst explain`, which takes Shannon's
    entropy of their shares where this takes Renyi's of order two. Of an image U S V^T the sum of the values is its
    product with U V^T, which is also that sum's gradient: matrix products do, where a decomposition would take longer
    than all the rest of a step.
    """
    levels = images.nan_to_num()  # a loss that is not finite is told by the other terms
    levels = levels[:, 0] - levels.mean((2, 3)).unsqueeze(-1)
    with torch.no_grad():
        rotations = orthogonal(levels, 5 * (ROUGH,) + 3 * (FINE,))
    sums, squares = (levels * rotations).sum((1, 2)), levels.square().sum((1, 2))
    return 2 * (sums + EPSILON).log() - (squares + EPSILON**2).log()


def rank_growth(stages: list[Decomposition]) -> Tensor:
    """By how much the logarithm of the background's effective rank grows from stage to stage, summed over those and
    averaged over frames. It is judged on a window in the middle."""
    height, width = stages[0].background.shape[-2:]
    top, left = max(0, height - RANK_WINDOW) // 2, max(0, width - RANK_WINDOW) // 2
    rows, columns = slice(top, top + RANK_WINDOW), slice(left, left + RANK_WINDOW)
    ranks = effective_rank_log(torch.cat([parts.background[..., rows, columns] for parts in stages]))
    ranks = ranks.view(len(stages), -1)
    return F.relu(ranks.diff(dim=0)).sum(0).mean()


def training_loss(
    stages: list[Decomposition], frames: Tensor, mask: Tensor, weight: Tensor, decomposition: float
) -> Tensor:
    """Deep supervision: the decomposition counts alike in every stage, the detections less the earlier a stage is.

    `decomposition` is the weight of all terms but those of the detections.
    """
    background = painted_over(frames, mask)
    losses = [
        decomposition * decomposition_loss(parts, frames, background, weight)
        + STAGE_DISCOUNT**age * detection_loss(parts.logits, mask, weight)
        for age, parts in enumerate(reversed(stages))
    ]
    return torch.stack(losses).sum() + decomposition * RANK_WEIGHT * rank_growth(stages)
