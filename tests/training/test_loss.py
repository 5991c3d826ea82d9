"""The loss prefers what a detector should do."""

import pytest
import torch

from irst_pipeline.explain import effective_rank, singular_values
from irst_pipeline.lsnet.model import Decomposition
from irst_pipeline.training.loss import detection_loss, effective_rank_log, painted_over, rank_growth, training_loss


@pytest.fixture
def masked() -> tuple[torch.Tensor, torch.Tensor]:
    mask = torch.zeros(2, 1, 32, 32)
    mask[0, 0, 10:13, 10:13] = 1
    return mask, torch.ones_like(mask)


def test_the_loss_prefers_better_detections(masked: tuple[torch.Tensor, torch.Tensor]) -> None:
    mask, weight = masked
    perfect, nothing, everything = 20 * mask - 10, torch.full_like(mask, -10), torch.full_like(mask, 10)
    losses = [detection_loss(logits, mask, weight).item() for logits in (perfect, nothing, everything)]
    assert losses[0] < 0.05 < losses[1] < losses[2]


def test_pixels_not_to_be_judged_do_not_count(masked: tuple[torch.Tensor, torch.Tensor]) -> None:
    mask, weight = masked
    weight = weight.clone()
    weight[:, :, 20:, 20:] = 0
    logits = torch.full_like(mask, -10)
    noisy = logits.clone()
    noisy[:, :, 20:, 20:] = 10
    assert detection_loss(logits, mask, weight) == detection_loss(noisy, mask, weight)


@pytest.mark.parametrize("side", [1, 8, 16])
def test_a_painted_over_frame_has_no_target_and_is_the_same_elsewhere(side: int) -> None:
    mask = torch.zeros(2, 1, 64, 64)
    mask[0, 0, 24 : 24 + side, 30 : 30 + side] = 1
    slope = torch.linspace(2, 4, 64).view(1, 1, 64, 1).expand_as(mask)
    clean = painted_over(slope + 50 * mask, mask)
    torch.testing.assert_close(clean, slope, rtol=0, atol=0.5)
    assert torch.equal(clean[1], slope[1])


def test_a_decomposition_that_sums_to_the_frame_costs_less(masked: tuple[torch.Tensor, torch.Tensor]) -> None:
    mask, weight = masked
    frames = torch.randn_like(mask) + 5 * mask
    logits, zero = 20 * mask - 10, torch.zeros_like(mask)
    exact = Decomposition(logits, mask * frames, (1 - mask) * frames, zero)
    empty = Decomposition(logits, zero, zero, zero)
    assert training_loss([exact], frames, mask, weight, 1.0) < training_loss([empty], frames, mask, weight, 1.0)


@pytest.mark.parametrize("rank", [1, 3, 16])
def test_the_rank_in_the_loss_is_that_of_explain_where_all_directions_are_alike(rank: int) -> None:
    directions = (torch.cat([torch.ones(side, 1), torch.randn(side, side - 1)], 1) for side in (40, 32))
    left, right = (torch.linalg.qr(columns).Q[:, 1 : rank + 1] for columns in directions)  # of no mean
    image = left @ right.T
    assert effective_rank(singular_values(image.numpy())) == pytest.approx(rank, rel=1e-3)
    assert effective_rank_log(image[None, None]).exp().item() == pytest.approx(rank, rel=1e-3)


def test_the_gradient_of_the_rank_is_that_of_its_singular_values() -> None:
    images = torch.randn(2, 1, 40, 32, requires_grad=True)
    values = torch.linalg.svdvals(images[:, 0] - images.mean((2, 3)).unsqueeze(-1))
    by_values = 2 * values.sum(-1).log() - values.square().sum(-1).log()
    ours = effective_rank_log(images)
    torch.testing.assert_close(ours, by_values, rtol=0, atol=0.01)
    ours_by, values_by = (torch.autograd.grad(ranks.sum(), images)[0].flatten() for ranks in (ours, by_values))
    assert torch.cosine_similarity(ours_by, values_by, dim=0) > 0.98


def test_the_rank_of_a_background_may_fall_but_not_rise_from_stage_to_stage() -> None:
    whole = torch.randn(2, 1, 32, 32)
    low, none = torch.randn(2, 1, 32, 2) @ torch.randn(2, 1, 2, 32), torch.zeros_like(whole)

    def stage(background: torch.Tensor) -> Decomposition:
        return Decomposition(none, none, background, none)

    assert rank_growth([stage(whole), stage(low), stage(low)]) == 0
    assert rank_growth([stage(low), stage(whole)]) > 1
    # A step up is not made good by one down.
    assert rank_growth([stage(low), stage(whole), stage(low)]) > 1
    # A stage that says nothing yet has a rank, and a gradient, too.
    nothing = torch.zeros_like(whole, requires_grad=True)
    (gradient,) = torch.autograd.grad(rank_growth([stage(nothing), stage(whole)]), nothing)
    assert gradient.isfinite().all()
