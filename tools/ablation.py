"""What each part of the network is worth: every variant is trained alike and briefly, and scored on held-out frames.

usage: ablation.py --data DATA [--config configs/train/lsnet-nano.yaml] [--out runs/ablation] [--set steps=400 ...]

Held out is a tenth of each train split; nothing is scored on a test split. The table goes to OUT/table.md as well.
What was stopped goes on with the same command.
"""

import argparse
import csv
import os
from collections.abc import Callable
from pathlib import Path

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import torch
from torch import Tensor, nn

from irst_pipeline.errors import told_in_one_line
from irst_pipeline.lsnet.model import LSNet, UnfoldingStage
from irst_pipeline.lsnet.modules import BackgroundStep, SoftThreshold
from irst_pipeline.settings import read_settings
from irst_pipeline.signals import stop_on_signals
from irst_pipeline.training.loop import CURVE_FILE, train
from irst_pipeline.training.run import TrainingRun, open_run
from irst_pipeline.training.settings import TrainSettings


class Nothing(nn.Module):
    """In the place of a part: adds nothing, attends to nothing."""

    def forward(self, x: Tensor) -> Tensor:
        return torch.zeros_like(x)


class Held(nn.Module):
    """In the place of the multiplier's step: Y stays zero, which makes half-quadratic splitting of ADMM."""

    def forward(self, y: Tensor, _residual: Tensor) -> Tensor:
        return y


def replacing(kind: type[nn.Module], part: str, other: Callable[[], nn.Module]) -> Callable[[LSNet], LSNet]:
    """A change of the network in which `part` of every module of a kind is another one."""

    def change(network: LSNet) -> LSNet:
        for module in [m for m in network.modules() if isinstance(m, kind)]:
            module.add_module(part, other())
        return network

    return change


def with_stages(count: int) -> Callable[[LSNet], LSNet]:
    def change(network: LSNet) -> LSNet:
        del network.stages[count:]
        network.config = network.config.model_copy(update={"stages": count})
        return network

    return change


def unchanged(network: LSNet) -> LSNet:
    return network


# A change of the network, and a factor of the decomposition loss.
VARIANTS: dict[str, tuple[Callable[[LSNet], LSNet], float]] = {
    "whole": (unchanged, 1.0),
    "no scan": (replacing(BackgroundStep, "scan", Nothing), 1.0),
    "no attention": (replacing(SoftThreshold, "attention", Nothing), 1.0),
    "HQS (Y = 0)": (replacing(UnfoldingStage, "multiplier", Held), 1.0),
    "2 stages": (with_stages(2), 1.0),
    "1 stage": (with_stages(1), 1.0),
    "no decomposition loss": (unchanged, 0.0),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--config", type=Path, default=Path("configs/train/lsnet-nano.yaml"))
    parser.add_argument("--out", type=Path, default=Path("runs/ablation"))
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE")
    options = parser.parse_args()
    settings = read_settings(TrainSettings, options.config, options.set)
    stop = stop_on_signals()
    lines: list[str] = []
    for name, (change, factor) in VARIANTS.items():
        folder = options.out / name.replace(" ", "-")
        weight = factor * settings.decomposition
        own = settings.model_copy(update={"decomposition": weight, "evaluate_every": settings.steps})
        run = open_run(own, folder, torch.device("cpu"))
        train(TrainingRun(change(run.network), run.teacher, own, folder), options.data, stop)
        if stop.is_set():
            return
        with (folder / CURVE_FILE).open() as file:
            row = list(csv.DictReader(file))[-1]
        scores = {key: f"{100 * float(value):.1f}" for key, value in row.items() if key.startswith(("iou", "pd"))}
        size = sum(p.numel() for p in run.network.parameters()) / 1e6
        if not lines:
            lines = [f"| variant | M parameters | {' | '.join(scores)} |", "| --- " * (2 + len(scores)) + "|"]
        lines.append(f"| {name} | {size:.3f} | {' | '.join(scores.values())} |")
        (options.out / "table.md").write_text("\n".join(lines) + "\n")
    print("\n".join(lines))


if __name__ == "__main__":
    with told_in_one_line("ablation"):
        main()
