"""The training loop: one joint run over all data sets that can be killed at any moment and resumed."""

import csv
import logging
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Event

import numpy as np
import torch
from tqdm import tqdm

from irst_pipeline.datasets import HELD_OUT_SHARE
from irst_pipeline.disk import write_table
from irst_pipeline.errors import IrstError, UsageError
from irst_pipeline.evaluation.detectors import score_network
from irst_pipeline.folders import held, make_folder
from irst_pipeline.lsnet.weights import WEIGHTS_FILE
from irst_pipeline.memory import lacks_memory
from irst_pipeline.training.batches import DataSet, draw_ahead, read_sources
from irst_pipeline.training.finish import bring_to_scale, shift_logits
from irst_pipeline.training.preview import draw_preview
from irst_pipeline.training.run import STATE_FILE, TrainingRun

log = logging.getLogger("irst")

CURVE_FILE, PREVIEW_FILE = "curve.csv", "preview.png"


class LearningCurve:
    """What is known of a run over its steps: a CSV of loss and of scores on the frames held out of each data set."""

    SCORES = ("iou", "pd", "fa")

    def __init__(self, run: TrainingRun, sources: list[DataSet]) -> None:
        self._run, self._path = run, run.folder / CURVE_FILE
        self._watched = [s for s in sources if s.holdout and s.settings.layout != "backgrounds"]
        names = [f"{score} {s.settings.folder}" for s in self._watched for score in self.SCORES]
        self._header = ["step", "seconds", "loss", *names]
        kept_before = run.step and self._path.exists()
        old = list(csv.reader(self._path.read_text("utf-8", "replace").splitlines())) if kept_before else []
        if old and old[0] != self._header:
            raise UsageError(f"{self._path}: is of other data sets ({', '.join(old[0])}); train into another folder")
        # What was scored after the checkpoint is scored again, and a row that was not written whole is of no use.
        rows = (row for row in old[1:] if len(row) == len(self._header) and row[0].isdecimal())
        self.rows = {int(row[0]): row for row in rows if int(row[0]) <= run.step}
        """By step."""
        write_table(self._path, self._header, self.rows.values())

    def add(self) -> None:
        """Score the running mean, write a row, and draw a held-out frame of each data set."""
        run = self._run
        scores = [score_network(run.mean, s.holdout, run.device) for s in self._watched]
        shares = [getattr(s, name) for s in scores for name in self.SCORES]
        values = run.seconds, np.mean(run.losses), *shares
        self.rows[run.step] = [str(run.step), *(f"{value:.6g}" for value in values)]
        write_table(self._path, self._header, self.rows.values())
        if self._watched:
            shown = [s.holdout[0] for s in self._watched]
            run.write({PREVIEW_FILE: draw_preview(run.mean, shown, run.device)})


def train(run: TrainingRun, data: Path, stop: Event) -> Path:
    """Train, or go on training, until the last step or until `stop` is set; returns the weights' path.

    The folder of the run then holds the checkpoint, the weights, the curve (step, seconds of all sittings, loss, and
    IoU, Pd and Fa on the held-out frames of each data set) and a picture of predictions on such frames.
    After the last step the logits are shifted to where the held-out frames of exact masks are outlined best.
    Raises UsageError for a folder that holds something else, or that another process trains in.
    """
    make_folder(run.folder)
    _refuse_used(run.folder)
    with held(run.folder):
        _train(run, data, stop)
    return run.folder / WEIGHTS_FILE


def _train(run: TrainingRun, data: Path, stop: Event) -> None:
    settings = run.settings
    going_on = run.restore()
    sources = read_sources(settings, data)
    if not going_on:
        # Before any weights: a folder with weights but no checkpoint is taken for somebody else's.
        run.write({STATE_FILE: run.state()})
    curve = LearningCurve(run, sources)
    masked = [s.holdout for s in sources if s.holdout and s.settings.layout == "masked_images"]
    if not masked:
        lacking = "no frame with a mask is held out, by which to score and calibrate the network"
        log.warning("%s: %s; add images with masks, of which about one in %d is", run.folder, lacking, HELD_OUT_SHARE)
    if run.complete:
        log.info("%s: complete already, at step %d", run.folder, run.step)
        if not (run.folder / WEIGHTS_FILE).exists():
            run.write(run.files())
        return
    try:
        _take_steps(run, sources, curve, stop)
    except (MemoryError, RuntimeError) as error:
        if not lacks_memory(error):
            raise
        count, side = settings.crops(run.step)
        what = f"with {count} crops of {side}x{side} px a step"
        raise IrstError(f"{run.folder}: out of memory {what}; set a smaller batch or crop") from None
    last = run.step >= settings.steps
    if last:
        bring_to_scale(run.mean)
        if masked:
            shift_logits(run.mean, masked, run.device)
    if last or run.step % settings.evaluate_every == 0:
        curve.add()
    run.write(run.files())


def _take_steps(run: TrainingRun, sources: list[DataSet], curve: LearningCurve, stop: Event) -> None:
    """Train until the last step or until `stop` is set."""
    settings, due, threads = run.settings, dict[str, bytes](), torch.get_num_threads()
    with (
        tqdm(total=settings.steps, initial=run.step, desc="training", unit="step", mininterval=5) as progress,
        ThreadPoolExecutor(threads, initializer=torch.set_num_threads, initargs=(1,)) as drawing,
        ThreadPoolExecutor(threads, initializer=torch.set_num_threads, initargs=(1,)) as shards,
    ):
        for batch in draw_ahead(drawing, sources, settings, run.step, run.device):
            if run.step in curve.rows:
                run.losses.clear()
            run.losses.append(run.train_step(batch, shards if run.device.type == "cpu" else None))
            run.write(due)  # only now: a step may ruin the weights, which shows in the next one
            due = {}
            progress.update()
            if run.step == settings.steps or stop.is_set():
                run.check(batch)
                break
            if run.step % settings.evaluate_every == 0:
                curve.add()
                progress.set_postfix(loss=f"{np.mean(run.losses):.3f}", refresh=False)
            if run.step % settings.checkpoint_every == 0:
                due = run.files()


def _refuse_used(folder: Path) -> None:
    # A kill during the first checkpoint leaves a hidden file.
    others = (path for path in folder.iterdir() if not path.name.startswith("."))
    if not (folder / STATE_FILE).exists() and any(others):
        raise UsageError(f"{folder}: holds files, but no {STATE_FILE} to go on from; train into another folder")
