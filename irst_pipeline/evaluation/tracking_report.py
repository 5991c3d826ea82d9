"""An evaluation of tracks, its files and its table."""

import logging
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from irst_pipeline.disk import write_file, write_json
from irst_pipeline.evaluation.detection_report import record
from irst_pipeline.evaluation.logs import find_log, find_truth, read_sequence
from irst_pipeline.evaluation.tracking import (
    CUTOFF,
    RADIUS,
    Evaluation,
    Paths,
    TrackedSequence,
    TrackingScores,
    evaluate,
    rows_by_object,
)
from irst_pipeline.folders import prepare_folder
from irst_pipeline.pictures import png
from irst_pipeline.types import Floats

logger = logging.getLogger("irst")

SCORES_FILE, PICTURE_FILE = "tracking.json", "tracking.png"
TRACKING_FILES = (SCORES_FILE, PICTURE_FILE)
OFF_PX = 0.3  # along both axes: ways to count pixels differ by half a pixel and more
OFF_SPREADS = 2  # the RMSE about their mean
OFF_LEAST = 30  # positions; fewer may lie off together by chance


def evaluate_tracking(truth: Path, results: Path, frame_rate: float | None, out: Path | None, overwrite: bool) -> None:
    """Score the tracks of a run, or of another tracker, against the true paths of its targets.

    `truth`, `results` and `frame_rate` are what `find_truth`, `find_log` and `read_sequence` take. The results go to
    `out`, by default runs/evaluate-TRUTH-RESULTS, and as a table to stdout. Raises IrstError, a line for the user.
    """
    truth, log = find_truth(truth), find_log(results)
    names = [path.resolve().parent.name for path in (truth, log)]
    out = out or Path("runs") / f"evaluate-{'-'.join(names)}"
    sequence = read_sequence(truth, log, frame_rate)
    evaluation = evaluate(sequence)
    prepare_folder(out, TRACKING_FILES, [truth, log], overwrite)
    write_tracking_report(out, {"truth": str(truth), "tracks_log": str(log)}, sequence, evaluation)
    _tell_of_bias(truth, evaluation)
    print(f"{log} against {truth}")
    print(tracking_table(evaluation.scores))
    print(f"results  {out}: {' '.join(TRACKING_FILES)}")


def _tell_of_bias(truth: Path, evaluation: Evaluation) -> None:
    """Where tracks lie off their targets by more than their errors spread, it may be the truth that does."""
    s = evaluation.scores
    x, y = s.position_bias_x_px, s.position_bias_y_px
    square = x**2 + y**2
    apart = square > OFF_SPREADS**2 * (s.position_rmse_px**2 - square)
    if apart and min(abs(x), abs(y)) > OFF_PX and len(evaluation.matches.truth) >= OFF_LEAST:
        logger.warning(
            "%s: tracks lie %+.2f, %+.2f px (x, y) off its targets on average; boxes in MOTChallenge form may count "
            "pixels from 1, or from a pixel's corner and not its centre (if the truth's do, add this to left and top)",
            *(truth, x, y),
        )


def write_tracking_report(
    folder: Path, what: dict[str, Any], sequence: TrackedSequence, evaluation: Evaluation
) -> None:
    """Write `TRACKING_FILES` into an existing folder; `what` says in the JSON what was evaluated.

    Raises IrstError, one line, when a file cannot be written.
    """
    settings = {"frame_rate": sequence.frame_rate, "radius_px": RADIUS, "cutoff_px": CUTOFF}
    write_json(folder / SCORES_FILE, what | settings | record(asdict(evaluation.scores)))
    write_file(folder / PICTURE_FILE, draw(sequence, evaluation))


def tracking_table(scores: TrackingScores) -> str:
    """A line for each figure or group of figures, with its unit."""
    s = scores
    lines = {
        "frames, targets, tracks": f"{s.frames}, {s.targets}, {s.tracks}",
        "HOTA (DetA, AssA) %": _known("{:.2f} ({:.2f}, {:.2f})", 100 * s.hota, 100 * s.deta, 100 * s.assa),
        "MOTA %": _known("{:.2f}", 100 * s.mota),
        "IDF1 %": _known("{:.2f}", 100 * s.idf1),
        "id switches, fragmentations": f"{s.id_switches}, {s.fragmentations}",
        "GOSPA px": f"{s.gospa_px:.3f} (localisation {s.gospa_localisation_px:.3f}, "
        f"missed {s.gospa_missed_px:.3f}, false {s.gospa_false_px:.3f})",
        "OSPA(2) px": f"{s.ospa2_px:.3f}",
        "false tracks": f"{s.false_tracks}; {s.false_tracks_per_hour:.1f} an hour",
        "targets never covered": f"{s.targets_missed}",
        "initiation delay s": _known("{:.3f}", s.initiation_delay_s),
        "position RMSE px": _known("{:.3f}", s.position_rmse_px),
        "position bias x, y px": _known("{:+.3f}, {:+.3f}", s.position_bias_x_px, s.position_bias_y_px),
        "velocity RMSE px/s": _known("{:.3f}", s.velocity_rmse_px_s),
        "NEES (2 is right)": _known(
            "{:.3f} (95 % bounds {:.3f} to {:.3f}); {:.1f} % of errors in their 95 % ellipse",
            *(s.nees, s.nees_low, s.nees_high, 100 * s.nees_inside),
        ),
        "NIS (2 is right)": _known(
            "{:.3f} (95 % bounds {:.3f} to {:.3f}); {:.1f} % of innovations in theirs",
            *(s.nis, s.nis_low, s.nis_high, 100 * s.nis_inside),
        ),
    }
    return "\n".join(f"{name:30}{value}" for name, value in lines.items())


def _known(words: str, *values: float) -> str:
    """The values in words; of those that could not be measured, which belong together, one word."""
    return "unknown" if np.isnan(values).any() else words.format(*values)


def draw(sequence: TrackedSequence, evaluation: Evaluation) -> bytes:
    """A PNG of x, y, errors and GOSPA over time: targets wide and grey, each track in a colour of its own."""
    truth, tracks, matches = sequence.truth, sequence.tracks, evaluation.matches
    figure = Figure(figsize=(11, 11), layout="constrained")
    axes: list[Axes] = list(figure.subplots(4, 1, sharex=True))
    for axis, name in enumerate("xy"):
        _draw_paths(axes[axis], sequence, truth, truth.position[:, axis], linewidth=5, color="0.8")
        _draw_paths(axes[axis], sequence, tracks, tracks.position[:, axis], linewidth=1.2)
        axes[axis].set_ylabel(f"{name}, px")
    axes[0].set_title("wide and grey: targets; coloured: tracks")
    axes[1].invert_yaxis()  # down, as in the picture
    error = np.full(len(tracks.id), np.nan)
    error[matches.tracks] = np.linalg.norm(tracks.position[matches.tracks] - truth.position[matches.truth], axis=1)
    _draw_paths(axes[2], sequence, tracks, error, linewidth=1.2)
    axes[2].set(ylabel="error on a target, px", ylim=(0, None))
    axes[3].plot(np.arange(sequence.frames) / sequence.frame_rate, evaluation.gospa, color="black")
    axes[3].set(xlabel="s", ylabel="GOSPA of the frame, px", ylim=(0, None))
    for each in axes:
        each.grid(alpha=0.3)
    return png(figure)


def _draw_paths(axes: Axes, sequence: TrackedSequence, paths: Paths, value: Floats, **style: Any) -> None:
    """A line an object of `value` (n,) over time, broken where there is none."""
    for rows in rows_by_object(paths.frame, paths.id):
        frame = paths.frame[rows]
        breaks = 1 + np.flatnonzero(np.diff(frame) > 1)
        time = np.insert(frame / sequence.frame_rate, breaks, np.nan)
        axes.plot(time, np.insert(value[rows], breaks, np.nan), **style)
