"""The data sets of a training run, and batches of random crops drawn from them."""

import os
import signal
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from irst_pipeline.datasets import (
    Sample,
    held_out,
    read_backgrounds,
    read_boxed_videos,
    read_masked_images,
    read_simulated,
)
from irst_pipeline.errors import UsageError
from irst_pipeline.signals import STOPS
from irst_pipeline.training.augment import Shape, cut_outs, overlaid, patched, random_crop
from irst_pipeline.training.settings import SourceSettings, TrainSettings
from irst_pipeline.types import MIN_SIZE

PATCHED_SHARE = 0.5  # of the crops of exact masks, how many show a piece of another one of the batch
OVERLAID_SHARE = 0.3  # of all crops, how many have another one of the batch shining through
BATCHES_AHEAD = 4


@dataclass(frozen=True)
class DataSet:
    settings: SourceSettings
    training: list[Sample]
    holdout: list[Sample]
    shapes: list[Shape]
    """The targets of the training samples, where their masks are exact."""


class Batch(NamedTuple):
    """Float32 (B, 1, S, S) each: normalised frames, masks in 0..1, weights 0 where a pixel is not to be judged."""

    frames: Tensor
    mask: Tensor
    weight: Tensor


def read_sources(settings: TrainSettings, root: Path) -> list[DataSet]:
    """The data sets of a run; `root` is the folder that the recorded ones lie in."""
    return [_read_source(source, settings, root) for source in settings.sources]


def _read_source(source: SourceSettings, settings: TrainSettings, root: Path) -> DataSet:
    simulated = source.layout == "simulated"
    folder = Path(source.folder) if simulated else root / source.folder
    if not folder.is_dir():
        mend = "run where it is" if simulated else "give the data root with --data"
        raise UsageError(f"{folder}: no such folder; {mend}, or name another `folder` in the config")
    if source.layout == "masked_images":
        samples = read_masked_images(folder, source.split)
    elif source.layout == "boxed_videos":
        samples = read_boxed_videos(folder, settings.video_every)
    elif source.layout == "backgrounds":
        samples = read_backgrounds(folder)
    else:
        samples = read_simulated(folder, settings.scene_seeds)
    small = next((s for s in samples if min(s.image.shape) < MIN_SIZE), None)
    if small:
        raise UsageError(f"{folder}: {small.name} has less than {MIN_SIZE}x{MIN_SIZE} px; take it out of the data set")
    kept = [s for s in samples if not held_out(s.name)]
    if not kept:
        why = f"all {len(samples)} frames are held out; add more" if samples else "no frames; is it of another layout?"
        raise UsageError(f"{folder}: nothing to train on in the layout {source.layout}: {why}")
    shapes = [shape for s in kept for shape in cut_outs(s)] if source.layout == "masked_images" else []
    return DataSet(source, kept, [s for s in samples if held_out(s.name)], shapes)


def draw_batch(sources: list[DataSet], settings: TrainSettings, step: int) -> Batch:
    """The crops of one step; a function of the seed and the step alone."""
    rng = np.random.default_rng([settings.seed, step])
    shares = np.array([s.settings.weight for s in sources])
    count, side = settings.crops(step)
    settles = settings.settled(step)
    picked = [sources[i] for i in rng.choice(len(sources), count, p=shares / shares.sum())]
    crops = []
    for source in picked:
        sample = source.training[rng.integers(len(source.training))]
        settled = settles and source.settings.exact
        implant = bool(rng.random() < source.settings.implant)
        crops.append(random_crop(sample, side, implant, source.shapes, settled, rng))
    for i, crop in enumerate(tuple(crops)):
        # Not in recordings with boxes: their targets are large, and the edge of a patch looks too much like one.
        if picked[i].settings.exact and picked[i - 1].settings.exact and rng.random() < PATCHED_SHARE:
            crops[i] = patched(crop, crops[i - 1], rng)
    for i, crop in enumerate(tuple(crops)):
        if len(crops) > 1 and rng.random() < OVERLAID_SHARE:
            crops[i] = overlaid(crop, crops[i - 1], rng)
    return Batch(*(torch.from_numpy(np.stack(planes))[:, None] for planes in zip(*crops, strict=True)))


class Steps(Dataset[Batch]):
    """The batch of each step."""

    def __init__(self, sources: list[DataSet], settings: TrainSettings) -> None:
        self._sources, self._settings = sources, settings

    def __getitem__(self, step: int) -> Batch:
        return draw_batch(self._sources, self._settings, step)


def draw_ahead(
    pool: ThreadPoolExecutor, sources: list[DataSet], settings: TrainSettings, first: int, device: torch.device
) -> Iterable[Batch]:
    """The batches from step `first` on, drawn while those before them are worked on.

    For a GPU by processes, for threads share one interpreter and could not keep up; on a CPU by the threads of `pool`.
    """
    steps = range(first, settings.steps)
    if device.type == "cuda" and steps:
        return DataLoader(
            Steps(sources, settings),
            batch_size=None,
            sampler=steps,
            num_workers=min(len(steps), len(os.sched_getaffinity(0))),
            worker_init_fn=_draw_alone,
            multiprocessing_context="fork",  # the frames are there already, and not once more in each
            pin_memory=True,
        )
    return _drawn_by_threads(pool, sources, settings, steps)


def _drawn_by_threads(
    pool: ThreadPoolExecutor, sources: list[DataSet], settings: TrainSettings, steps: range
) -> Iterator[Batch]:
    waiting: deque[Future[Batch]] = deque()
    for step in steps:
        waiting.append(pool.submit(draw_batch, sources, settings, step))
        if len(waiting) > BATCHES_AHEAD:
            yield waiting.popleft().result()
    for batch in waiting:
        yield batch.result()


def _draw_alone(_: int) -> None:
    cv2.setNumThreads(0)
    # A signal to the whole group is the training process's to answer: it still waits for batches that are under way.
    for number in STOPS:
        signal.signal(number, signal.SIG_IGN)
