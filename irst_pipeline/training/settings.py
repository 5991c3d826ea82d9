"""What a training run can be told; `configs/train` holds examples."""

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from irst_pipeline.settings import Count, NotNegative, Positive, Settings
from irst_pipeline.types import MIN_SIZE


class SourceSettings(Settings):
    """One data set and how often a crop comes from it."""

    folder: str
    """Path below the data root; for `simulated` a folder of scenes, relative to the working directory."""
    layout: Literal["masked_images", "boxed_videos", "backgrounds", "simulated"]
    split: str = "train"
    """List of `masked_images`, by its name or its beginning before an underscore."""
    weight: Positive
    """Share of the crops, relative to the other sources."""
    implant: Annotated[float, Field(ge=0, le=1)] = 0.0
    """Probability that targets are added to a crop: the data set's own where it has masks, else points."""

    @property
    def exact(self) -> bool:
        """Whether it says of each pixel if it is target."""
        return self.layout in ("masked_images", "simulated")


class TrainSettings(Settings):
    """A training run."""

    model: Path
    """YAML of the network's configuration, relative to the working directory."""
    start: str | None = None
    """Weights to start from, a shipped network's name or the path of a .safetensors file; without it, random ones."""
    sources: Annotated[tuple[SourceSettings, ...], Field(min_length=1)]
    seed: Annotated[int, Field(ge=0, lt=2**63)] = 1
    steps: Count
    """Optimiser steps in all."""
    batch: Count = 16
    """Crops a step."""
    crop: Annotated[int, Field(ge=MIN_SIZE, le=2048)] = 128
    """Side of a crop, px."""
    wide: Annotated[float, Field(ge=0, le=1)] = 0.0
    """Share of the steps, at the end, in which crops are half as many and twice as wide: narrow crops show more targets
    in the time, wide ones hold as much clutter to each as a frame does."""
    settle: Annotated[float, Field(ge=0, le=1)] = 0.0
    """Share of the steps, at the end, in which crops of exact masks are neither scaled nor made noisy: at the end the
    network learns outlines as each data set draws them, which a resampled mask no longer shows."""
    learning_rate: Positive = 2e-3
    weight_decay: NotNegative = 1e-2
    gradient_norm: Positive = 1.0
    """Gradients are clipped to this norm."""
    average: Annotated[float, Field(ge=0, lt=1)] = 0.999
    """Decay of the running mean of the weights, which is what is saved as the result."""
    decomposition: NotNegative = 1.0
    """Weight of the decomposition's loss; that of the detections is 1."""
    teacher: str | None = None
    """A larger network to learn from: the name of a shipped one or the path of a .safetensors file."""
    distillation: NotNegative = 1.0
    """Weight of the cross entropy with the teacher's probabilities."""
    video_every: Count = 15
    """One frame in so many of each recording is used, the first of them with a label."""
    scene_seeds: Count = 12
    """How many sequences are made of each simulated scene, each with a seed of its own."""
    checkpoint_every: Count = 250
    """Steps between checkpoints."""
    evaluate_every: Count = 1000
    """Steps between scores on the frames held out of training."""

    def crops(self, step: int) -> tuple[int, int]:
        """How many crops a step takes, and their side in px."""
        if step < (1 - self.wide) * self.steps:
            return self.batch, self.crop
        return max(1, self.batch // 2), 2 * self.crop

    def settled(self, step: int) -> bool:
        """Whether a step's crops of exact masks keep their scale and noise."""
        return step >= (1 - self.settle) * self.steps
