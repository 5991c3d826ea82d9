"""What the engines run of the network."""

import torch
from torch import Tensor, nn

from irst_pipeline.lsnet.model import LSNet
from irst_pipeline.lsnet.normalise import target_units


class TargetNet(nn.Module):
    """The network as the engines run it: normalised frames to probability and T in units, all (B, 1, H, W)."""

    def __init__(self, network: LSNet) -> None:
        super().__init__()
        self.network = network

    def forward(self, frames: Tensor) -> tuple[Tensor, Tensor]:
        parts = self.network(frames)
        return torch.sigmoid(parts.logits), target_units(parts.background, parts.target)
