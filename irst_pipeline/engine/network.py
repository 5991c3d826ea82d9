"""What the engines run of the network."""

import torch
from torch import Tensor, nn

from irst_pipeline.lsnet.model import LSNet


class TargetNet(nn.Module):
    """The network as the engines run it: normalised frames (B, 1, H, W) to probability and T, both (B, 1, H, W)."""

    def __init__(self, network: LSNet) -> None:
        super().__init__()
        self.network = network

    def forward(self, frames: Tensor) -> tuple[Tensor, Tensor]:
        parts = self.network(frames)
        return torch.sigmoid(parts.logits), parts.target
