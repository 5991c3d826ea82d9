"""A picture of what a network in training says of frames that it does not learn from."""

import torch
from matplotlib.figure import Figure

from irst_pipeline.datasets import MASKED, Sample
from irst_pipeline.lsnet.model import LSNet
from irst_pipeline.lsnet.normalise import normalise_image
from irst_pipeline.pictures import as_written, png

COLUMNS = ("frame", "background", "target", "probability", "mask")
LEVELS = (-4.0, 8.0)  # of the normalised frame that are drawn black and white


def draw_preview(network: LSNet, samples: list[Sample], device: torch.device) -> bytes:
    """A PNG with a row for each sample; `network` is on `device`, in eval mode."""
    figure = Figure(figsize=(2.2 * len(COLUMNS), 2.1 * len(samples)), layout="constrained")
    grid = figure.subplots(len(samples), len(COLUMNS), squeeze=False)
    for axes, sample in zip(grid, samples, strict=True):
        frames = normalise_image(sample.image, device).frames
        with torch.inference_mode():
            parts = network(frames)
        images = [p[0, 0].cpu().numpy() for p in (frames, parts.background, parts.target, parts.logits.sigmoid())]
        spans = (LEVELS, LEVELS, LEVELS, (0.0, 1.0), (0.0, 1.0))
        for axis, image, (low, high) in zip(axes, [*images, sample.mask == MASKED], spans, strict=True):
            axis.imshow(image, cmap="gray", vmin=low, vmax=high)
            axis.set_axis_off()
        axes[0].set_title(as_written(sample.name), fontsize=7)
    for axis, name in zip(grid[0][1:], COLUMNS[1:], strict=True):
        axis.set_title(name, fontsize=8)
    return png(figure)
