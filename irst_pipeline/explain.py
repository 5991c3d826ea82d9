"""How the network takes one frame apart: background, target, noise and what none of them accounts for, by stage."""

from contextlib import closing
from dataclasses import dataclass, fields
from io import BytesIO
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from tqdm import tqdm

from irst_pipeline.disk import write_file, write_json
from irst_pipeline.engine import load_model
from irst_pipeline.engine.base import check_size
from irst_pipeline.folders import prepare_folder
from irst_pipeline.lsnet.model import LSNet
from irst_pipeline.lsnet.normalise import normalise_image, target_units
from irst_pipeline.lsnet.weights import Weights
from irst_pipeline.memory import told_out_of_memory
from irst_pipeline.pictures import as_written, grown, png, show_map
from irst_pipeline.sources import open_source, redact
from irst_pipeline.sources.images import files_of
from irst_pipeline.types import Floats, Frame, Image, Map

FIGURE_FILE, ARRAYS_FILE, NUMBERS_FILE = "explain.png", "stages.npz", "stages.json"
PANEL_PX = 330  # about the width of a map in the figure
QUANTISATION = 12**-0.5  # standard deviation of rounding to whole grey levels


@dataclass(frozen=True)
class StageView:
    """The variables after one stage, each (H, W) float32 in grey levels, and what they look like in numbers."""

    background: Map
    target: Map
    noise: Map
    residual: Map
    """D - B - T - N."""
    singular_values: Floats
    """(min(H, W),) of B less its mean, largest first, grey levels."""

    @property
    def effective_rank(self) -> float:
        return effective_rank(self.singular_values)

    @property
    def sparsity(self) -> float:
        return sparsity(self.target)

    @property
    def residual_rms(self) -> float:
        """Grey levels."""
        return float(np.sqrt(np.mean(np.square(self.residual, dtype=np.float64))))


def singular_values(image: Map | Image) -> Floats:
    """Of an image (H, W) less its mean: a camera's offset would else be the first and greatest of them."""
    levels = torch.from_numpy(image.astype(np.float64))
    return torch.linalg.svdvals(levels - levels.mean()).numpy()


def effective_rank(values: Floats) -> float:
    """Exponential of the entropy of singular values, taken as shares of their sum: 1 for a rank of one, n for n equal
    values, and 0 if all are zero (Roy and Vetterli, "The effective rank", EUSIPCO 2007)."""
    shares = values[values > 0] / max(values.sum(), np.finfo(float).tiny)
    return float(np.exp(-(shares * np.log(shares)).sum())) if len(shares) else 0.0


def sparsity(target: Map) -> float:
    """Hoyer's measure, (sqrt(n) - |T|_1 / |T|_2) / (sqrt(n) - 1): 1 for one pixel alone or none, about 0.2 for normal
    noise, 0 for a flat map (Hoyer, "Non-negative matrix factorization with sparseness constraints", JMLR 2004)."""
    values = np.abs(target, dtype=np.float64)
    length, root = np.linalg.norm(values), np.sqrt(values.size)
    return float((root - values.sum() / length) / (root - 1)) if length else 1.0


def noise_level(image: Image) -> float:
    """Standard deviation of the noise in an image (H, W), grey levels; texture counts as noise in part.

    From second differences along both axes, which a plane does not have (Immerkaer, "Fast noise variance estimation",
    CVIU 1996), and at least what rounding to whole grey levels makes.
    """
    mask = np.outer([1, -2, 1], [1, -2, 1]).astype(np.float64)
    differences = cv2.filter2D(image.astype(np.float64), -1, mask)[1:-1, 1:-1]
    return max(float(np.sqrt(np.pi / 2) * np.abs(differences).mean() / 6), QUANTISATION)


def unfold_image(network: LSNet, image: Image) -> list[StageView]:
    """Every stage of a network in eval mode on the CPU, on an image (H, W)."""
    frames, centre, scale = normalise_image(image)
    views = []
    with tqdm(total=network.config.stages, unit="stage", leave=False, disable=None) as progress:
        with torch.inference_mode():
            stages = network.unfold(frames, network.config.stages)
        for parts in stages:
            target = target_units(parts.background, parts.target)
            levels = (parts.background * scale + centre, target * scale, parts.noise * scale)
            b, t, n = (part[0, 0].numpy() for part in levels)
            views.append(StageView(b, t, n, image.astype(np.float32) - b - t - n, singular_values(b)))
            progress.update()
    return views


def explain_image(uri: str, model: str, out: Path, overwrite: bool) -> None:
    """Write a figure, the arrays and the numbers of every stage for the first frame of a source into a folder.

    Raises IrstError, a line for the user, for a source, a model or a folder that cannot be used.
    """
    weights = load_model(model)
    with closing(open_source(uri)) as source:
        frame = next(iter(source))
    check_size(frame)
    prepare_folder(out, (FIGURE_FILE, ARRAYS_FILE, NUMBERS_FILE), files_of(uri), overwrite)
    with told_out_of_memory(redact(uri), frame.image.shape):
        _write(frame, weights, redact(uri), out)


def _write(frame: Frame, weights: Weights, uri: str, out: Path) -> None:
    image, views = frame.image, unfold_image(weights.network, frame.image)
    numbers = {
        "source": uri,
        "frame": frame.index,
        "model": weights.name,
        "weights_sha256": weights.sha256,
        "noise_level": noise_level(image),
        "effective_rank": effective_rank(singular_values(image)),
        "stages": [
            {
                "stage": stage,
                "effective_rank": view.effective_rank,
                "sparsity": view.sparsity,
                "residual_rms": view.residual_rms,
            }
            for stage, view in enumerate(views, start=1)
        ],
    }
    arrays = BytesIO()
    names = [field.name for field in fields(StageView)]
    stages: dict[str, Any] = {name: np.stack([getattr(view, name) for view in views]) for name in names}
    np.savez_compressed(arrays, image=image, **stages)
    figure = draw(image, views, f"{frame.source}, frame {frame.index}, {weights.name}")
    write_json(out / NUMBERS_FILE, numbers)
    write_file(out / ARRAYS_FILE, arrays.getvalue())
    write_file(out / FIGURE_FILE, figure)


def draw(image: Image, views: list[StageView], title: str) -> bytes:
    """A PNG: a row of maps for each stage; below them the frame, and rank, sparsity and residual by stage.

    Points of T and of the residual are drawn larger than they are, the more the larger the image, to be seen at all.
    """
    height, width = image.shape
    reach = round(width / PANEL_PX)
    rows = len(views) + 1
    figure = Figure(figsize=(16, 1 + rows * min(8.0, max(2.2, 3.4 * height / width))), layout="constrained")
    figure.suptitle(as_written(title))
    axes = figure.subplots(rows, 4, squeeze=False)
    low, high = np.percentile(image, (0.1, 99.9))
    # The last stage is the result; the first, which starts from nothing, would leave the others no colour.
    target_reach = float(np.abs(views[-1].target).max())
    rest_reach = float(np.percentile(np.abs([views[-1].noise, views[-1].residual]), 99.9))
    for stage, (view, row) in enumerate(zip(views, axes, strict=False), start=1):
        show_map(row[0], view.background, f"background B, stage {stage}", low, high, "gray")
        show_map(row[1], grown(view.target, reach), f"target T, stage {stage}", -target_reach, target_reach, "RdBu_r")
        show_map(row[2], view.noise, f"noise N, stage {stage}", -rest_reach, rest_reach, "RdBu_r")
        residual = grown(view.residual, reach)
        show_map(row[3], residual, f"residual D - B - T - N, stage {stage}", -rest_reach, rest_reach, "RdBu_r")
    frame, spectrum, rank, rest = axes[-1]
    own_values = singular_values(image)
    show_map(frame, image, "frame D", low, high, "gray")
    _draw_spectra(spectrum, own_values, views)
    stages = range(1, len(views) + 1)
    rank.plot(stages, [view.effective_rank for view in views], "o-")
    rank.axhline(effective_rank(own_values), color="gray", linestyle="--", label="the frame's own")
    rank.set(title="effective rank of B", xlabel="stage", xticks=stages, ylim=(0, None))
    rank.legend()
    rest.plot(stages, [view.sparsity for view in views], "o-", color="C0")
    rest.set(title="sparsity of T (Hoyer) and residual", xlabel="stage", xticks=stages, ylim=(0, 1))
    rest.set_ylabel("sparsity", color="C0")
    ratio = rest.twinx()
    noise = noise_level(image)
    ratio.plot(stages, [view.residual_rms / noise for view in views], "s--", color="C1")
    ratio.set_ylabel("RMS of the residual / noise level", color="C1")
    ratio.set_ylim(bottom=0)
    return png(figure)


def _draw_spectra(axes: Axes, own: Floats, views: list[StageView]) -> None:
    axes.semilogy(own, color="gray", linestyle="--", label="frame D")
    for stage, view in enumerate(views, start=1):
        axes.semilogy(view.singular_values, label=f"B, stage {stage}")
    greatest = max(float(view.singular_values.max()) for view in views)
    axes.set(title="singular values, grey levels", xlabel="index")
    if greatest > 0:
        axes.set_ylim(bottom=1e-5 * greatest)
    axes.legend()
