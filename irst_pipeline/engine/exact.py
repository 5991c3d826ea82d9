"""A network on single images, exactly: PyTorch in float32, at native size.

A set of images has many sizes, and the engine's CPU runtime compiles for each of them, which takes longer than PyTorch
takes for an image; it may also compute in bfloat16, and a score that is published should not depend on the processor.
"""

from dataclasses import dataclass

import torch

from irst_pipeline.errors import FrameError
from irst_pipeline.lsnet.model import LSNet
from irst_pipeline.lsnet.normalise import normalise_image, target_units
from irst_pipeline.memory import told_out_of_memory
from irst_pipeline.types import MIN_SIZE, Image, Map


@dataclass(frozen=True)
class Prediction:
    """What the network says of one image; each is (H, W) float32."""

    probability: Map
    """0..1: that a pixel belongs to a target."""
    target: Map
    """T, grey levels above the background; may be negative."""
    background: Map
    """B, grey levels of the image."""


def predict(network: LSNet, image: Image, device: torch.device) -> Prediction:
    """Run a network that is on `device`, in eval mode, on an image (H, W).

    Raises FrameError for an image too small for the network, IrstError for one too large for the memory.
    """
    height, width = image.shape
    if min(height, width) < MIN_SIZE:
        raise FrameError(f"{width}x{height} px; the network takes {MIN_SIZE}x{MIN_SIZE} and more")
    # TF32, PyTorch's default for convolutions on CUDA, keeps ten bits of a number.
    exact = torch.backends.cudnn.flags(enabled=True, allow_tf32=False)
    with told_out_of_memory(device, image.shape), torch.inference_mode(), exact:
        frames, centre, scale = normalise_image(image, device)
        parts = network(frames)
        target = target_units(parts.background, parts.target) * scale
        planes = torch.sigmoid(parts.logits), target, parts.background * scale + centre
        return Prediction(*(plane[0, 0].cpu().numpy() for plane in planes))
