"""Muon: momentum whose matrices are made orthogonal before the step.

After Jordan et al., "Muon: an optimizer for hidden layers in neural networks", 2024. PyTorch's own takes matrices only;
here the kernels of convolutions are matrices of output channels by all the rest.
"""

from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence

import torch
from torch import Tensor, nn

Polynomial = tuple[float, float, float]
"""a, b, c of a round of Newton and Schulz's iteration, s <- a s + b s^3 + c s^5 for each singular value s <= 1."""

ROUGH: Polynomial = (3.4445, -4.7750, 2.0315)  # of the paper: they bring singular values near one in five rounds
FINE: Polynomial = (1.875, -1.25, 0.375)  # s = 1 stays, and nothing overshoots
MOMENTUM = 0.95
ADAM_SCALE = 0.2  # root mean square of an update of Adam, so that both take one learning rate (Liu et al., 2025)


class Muon(torch.optim.Optimizer):
    """For parameters of two and more dimensions whose columns are mixed alike; Nesterov momentum, decoupled decay."""

    def __init__(self, parameters: Iterable[nn.Parameter], lr: Tensor, weight_decay: float) -> None:
        super().__init__(parameters, {"lr": lr, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> None:  # type: ignore[override]
        if closure is not None:
            raise NotImplementedError("Muon takes no closure")
        for group in self.param_groups:
            # Those of one shape go together: each alone is too little work for a matrix product.
            alike: defaultdict[torch.Size, list[tuple[Tensor, Tensor]]] = defaultdict(list)
            for parameter in group["params"]:
                if parameter.grad is None:
                    continue
                state = self.state[parameter]
                if not state:
                    state["momentum"] = torch.zeros_like(parameter)
                mean = state["momentum"].lerp_(parameter.grad, 1 - MOMENTUM)
                update = parameter.grad.lerp(mean, MOMENTUM).flatten(1)
                alike[update.shape].append((parameter, update))
            for shape, pairs in alike.items():
                scale = ADAM_SCALE * max(shape) ** 0.5
                updates = orthogonal(torch.stack([update for _, update in pairs]))
                for (parameter, _), update in zip(pairs, updates, strict=True):
                    parameter.mul_(1 - group["lr"] * group["weight_decay"])
                    parameter.sub_(update.view(parameter.shape) * (group["lr"] * scale))


def orthogonal(matrices: Tensor, rounds: Sequence[Polynomial] = 5 * (ROUGH,)) -> Tensor:
    """Matrices (..., m, n) with singular values brought near one, by five rough rounds into 0.7 to 1.2, by Newton and
    Schulz's iteration.

    Every round multiplies X by a polynomial P of its Gram matrix G, which makes P G P of G: all rounds but the last
    product can be done on the smaller side.
    """
    tall = matrices.shape[-2] > matrices.shape[-1]
    x = matrices.mT if tall else matrices
    x = x / (x.norm(dim=(-2, -1), keepdim=True) + 1e-7)
    one = torch.eye(x.shape[-2], dtype=x.dtype, device=x.device)
    gram, whole = x @ x.mT, one
    for a, b, c in rounds:
        p = a * one + b * gram + c * gram @ gram
        gram, whole = p @ gram @ p, p @ whole
    x = whole @ x
    return x.mT if tall else x
