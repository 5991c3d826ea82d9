"""The training loop: one joint run over all data sets that can be killed at any moment and resumed."""

import csv
import time
from dataclasses import dataclass
from pathlib import Path
from threading import Event
from typing import Annotated, Any, Literal

import numpy as np
import torch
from pydantic import Field
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn
from tqdm import tqdm

from irst_pipeline.datasets import (
    MASKED,
    UNKNOWN,
    Sample,
    held_out,
    read_backgrounds,
    read_boxed_videos,
    read_masked_images,
)
from irst_pipeline.errors import IrstError, UsageError
from irst_pipeline.lsnet.model import MIN_SIZE, LSNet, LSNetConfig
from irst_pipeline.lsnet.normalise import normalise
from irst_pipeline.lsnet.weights import save_weights
from irst_pipeline.settings import Count, NotNegative, Positive, Settings, read_settings
from irst_pipeline.training.augment import random_crop
from irst_pipeline.training.loss import training_loss

STATE_FILE, WEIGHTS_FILE, CURVE_FILE = "state.safetensors", "weights.safetensors", "curve.csv"
WARM_UP_STEPS = 300
DECAY_SHARE = 0.35  # of all steps, at the end, over which the learning rate falls to zero


class SourceSettings(Settings):
    """One data set and how often a crop comes from it."""

    folder: str
    """Path below the data root."""
    layout: Literal["masked_images", "boxed_videos", "backgrounds"]
    weight: Positive
    """Share of the crops, relative to the other sources."""
    implant: Annotated[float, Field(ge=0, le=1)] = 0.0
    """Probability that point targets are added to a crop."""


class TrainSettings(Settings):
    """A training run."""

    model: Path
    """YAML of the network's configuration, relative to the working directory."""
    sources: Annotated[tuple[SourceSettings, ...], Field(min_length=1)]
    seed: int = 1
    steps: Count
    """Optimiser steps in all."""
    batch: Count = 16
    """Crops a step."""
    crop: Annotated[int, Field(ge=MIN_SIZE)] = 128
    """Side of a crop, px."""
    learning_rate: Positive = 2e-3
    weight_decay: NotNegative = 1e-2
    statistics_steps: int
    """Steps in which batch normalisation takes each batch's own statistics. From then on it keeps the running ones, so
    that what is trained is what runs: targets are so rare that the two differ by more than ten points of IoU."""
    gradient_norm: Positive = 1.0
    """Gradients are clipped to this norm."""
    average: Annotated[float, Field(ge=0, lt=1)] = 0.999
    """Decay of the running mean of the weights, which is what is saved as the result."""
    supervised_stages: Count = 2
    """How many of the last stages carry a loss."""
    video_every: Count = 15
    """Of the recordings, one frame in so many is used."""
    checkpoint_every: Count = 250
    """Steps between checkpoints."""
    evaluate_every: Count = 1000
    """Steps between looks at the frames held out of `train`."""


@dataclass(frozen=True)
class DataSet:
    settings: SourceSettings
    training: list[Sample]
    holdout: list[Sample]


def read_source(settings: SourceSettings, root: Path, video_every: int) -> DataSet:
    folder = root / settings.folder
    if not folder.is_dir():
        raise UsageError(f"{folder}: no such folder; give the data root with --data")
    if settings.layout == "masked_images":
        samples = read_masked_images(folder, "train")
    elif settings.layout == "boxed_videos":
        samples = read_boxed_videos(folder, video_every)
    else:
        samples = read_backgrounds(folder)
    kept = [s for s in samples if not held_out(s.name)]
    if not kept:
        raise UsageError(f"{folder}: holds nothing to train on in the layout {settings.layout}")
    return DataSet(settings, kept, [s for s in samples if held_out(s.name)])


def draw_batch(sources: list[DataSet], settings: TrainSettings, step: int) -> tuple[Tensor, Tensor, Tensor]:
    """Frames, masks and weights (B, 1, S, S) of one step; a function of the seed and the step alone."""
    rng = np.random.default_rng([settings.seed, step])
    shares = np.array([s.settings.weight for s in sources])
    crops = []
    for pick in rng.choice(len(sources), settings.batch, p=shares / shares.sum()):
        source = sources[pick]
        sample = source.training[rng.integers(len(source.training))]
        implant = bool(rng.random() < source.settings.implant)
        crops.append(random_crop(sample, settings.crop, implant, rng))
    planes = ([getattr(c, name) for c in crops] for name in ("frame", "mask", "weight"))
    frames, mask, weight = (torch.from_numpy(np.stack(p))[:, None] for p in planes)
    return frames, mask, weight


def learning_rate(settings: TrainSettings, step: int) -> float:
    """Warm-up, a long plateau, then a linear fall to zero."""
    falling = settings.steps * DECAY_SHARE
    factor = min(1.0, (step + 1) / WARM_UP_STEPS, (settings.steps - step) / falling)
    return settings.learning_rate * factor


def pixel_iou(network: LSNet, samples: list[Sample], device: torch.device) -> float:
    """IoU at threshold 0.5, in %, pooled over all pixels to be judged of whole frames at native size."""
    overlap = union = 0
    for sample in samples:
        frame = torch.from_numpy(sample.image)[None, None].to(device)
        with torch.inference_mode():
            found = (network(normalise(frame).frames).logits[0, 0] > 0).cpu().numpy()
        target, judged = sample.mask == MASKED, sample.mask != UNKNOWN
        overlap += int((found & target).sum())
        union += int(((found | target) & judged).sum())
    return 100 * overlap / max(1, union)


class Run:
    """A training run in a folder: network, running mean, optimiser and step, saved and restored as one."""

    def __init__(self, settings: TrainSettings, folder: Path, device: torch.device) -> None:
        torch.manual_seed(settings.seed)
        config = read_settings(LSNetConfig, settings.model)
        try:
            self.network = LSNet(config).to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        except ValueError as error:
            raise UsageError(f"{settings.model}: {error}") from None
        self.settings, self.folder, self.device, self.step = settings, folder, device, 0
        self.mean = LSNet(config).to(device).eval()
        self.mean.load_state_dict(self.network.state_dict())
        self.optimiser = torch.optim.AdamW(
            self.network.parameters(), settings.learning_rate, weight_decay=settings.weight_decay
        )

    def train_step(self, batch: tuple[Tensor, Tensor, Tensor]) -> float:
        for group in self.optimiser.param_groups:
            group["lr"] = learning_rate(self.settings, self.step)
        frames, mask, weight = (t.to(self.device) for t in batch)
        self.network.train()
        if self.step >= self.settings.statistics_steps:
            for module in self.network.modules():
                if isinstance(module, nn.BatchNorm2d):
                    module.eval()
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.device.type == "cuda"):
            stages = self.network.unfold(frames, self.settings.supervised_stages)
            loss = training_loss([type(s)(*(p.float() for p in s)) for s in stages], frames, mask, weight)
        self.optimiser.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(self.network.parameters(), self.settings.gradient_norm)
        self.optimiser.step()
        self.step += 1
        # Early on the running mean would remember the random start: it follows faster then.
        decay = min(self.settings.average, self.step / (self.step + 10))
        with torch.no_grad():
            for mean, now in zip(self.mean.state_dict().values(), self.network.state_dict().values(), strict=True):
                mean.lerp_(now, 1 - decay) if mean.is_floating_point() else mean.copy_(now)
        return loss.item()

    def save(self) -> None:
        """Replace the checkpoint whole: a kill in the middle leaves the one before."""
        tensors = {f"network.{k}": v for k, v in self.network.state_dict().items()}
        tensors |= {f"mean.{k}": v for k, v in self.mean.state_dict().items()}
        for index, moments in self.optimiser.state_dict()["state"].items():
            tensors |= {f"optimiser.{index}.{k}": torch.as_tensor(v) for k, v in moments.items()}
        temporary = self.folder / f".{STATE_FILE}"
        save_file({k: v.contiguous() for k, v in tensors.items()}, temporary, {"step": str(self.step)})
        temporary.replace(self.folder / STATE_FILE)
        note = {"steps": str(self.step), "seed": str(self.settings.seed)}
        save_weights(self.mean, self.folder / WEIGHTS_FILE, note)

    def restore(self) -> None:
        path = self.folder / STATE_FILE
        if not path.exists():
            return
        try:
            with safe_open(path, "pt") as file:
                self.step = int(file.metadata()["step"])
                tensors = {k: file.get_tensor(k) for k in file.keys()}  # noqa: SIM118 (it is not a dict)

            def part(name: str) -> dict[str, Tensor]:
                return {k.removeprefix(name): v for k, v in tensors.items() if k.startswith(name)}

            self.network.load_state_dict(part("network."))
            self.mean.load_state_dict(part("mean."))
        except (SafetensorError, RuntimeError, KeyError) as error:
            reason = str(error).splitlines()[0]
            raise UsageError(f"{path}: not a checkpoint of this run ({reason}); train into another folder") from None
        moments: dict[int, dict[str, Any]] = {}
        for key, value in part("optimiser.").items():
            index, _, name = key.partition(".")
            moments.setdefault(int(index), {})[name] = value
        self.optimiser.load_state_dict({"state": moments, "param_groups": self.optimiser.state_dict()["param_groups"]})


def train(settings: TrainSettings, data: Path, folder: Path, device: torch.device, stop: Event) -> Path:
    """Train, or go on training, in `folder` until the last step or until `stop` is set; returns the weights' path.

    The curve is a CSV: step, seconds of this sitting, loss, and IoU of each source's held-out frames.
    """
    folder.mkdir(parents=True, exist_ok=True)
    sources = [read_source(s, data, settings.video_every) for s in settings.sources]
    run = Run(settings, folder, device)
    run.restore()
    watched = [s for s in sources if s.holdout and s.settings.layout != "backgrounds"]
    names = [s.settings.folder for s in watched]
    curve = folder / CURVE_FILE
    if not run.step:
        curve.write_text(",".join(["step", "seconds", "loss", *(f"iou {n}" for n in names)]) + "\n")
    started, losses = time.monotonic(), []
    progress = tqdm(total=settings.steps, initial=run.step, desc="training", unit="step", mininterval=5)
    while run.step < settings.steps and not stop.is_set():
        losses.append(run.train_step(draw_batch(sources, settings, run.step)))
        progress.update()
        last = run.step == settings.steps or stop.is_set()
        if last or run.step % settings.checkpoint_every == 0:
            run.save()
            progress.set_postfix(loss=f"{np.mean(losses):.3f}", refresh=False)
        if run.step == settings.steps or run.step % settings.evaluate_every == 0:
            scores = [pixel_iou(run.mean, s.holdout, device) for s in watched]
            row = [run.step, time.monotonic() - started, np.mean(losses), *scores]
            with curve.open("a", newline="") as file:
                csv.writer(file).writerow(f"{value:.6g}" for value in row)
            losses.clear()
    progress.close()
    if not run.step:
        raise IrstError("stopped before the first step; nothing was saved")
    return folder / WEIGHTS_FILE
