"""The files and the table of an evaluation of detections."""

import math
from collections.abc import Mapping
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from irst_pipeline.disk import write_file, write_json, write_table
from irst_pipeline.evaluation.detection import DetectionScores, DetectorCounts, FrameCounts
from irst_pipeline.pictures import as_written, png

SUMMARY_FILE, IMAGES_FILE, CURVE_FILE, PICTURE_FILE = "summary.json", "images.csv", "curve.csv", "curve.png"
DETECTION_FILES = (SUMMARY_FILE, IMAGES_FILE, CURVE_FILE, PICTURE_FILE)
FA_LEAST = 1e-7  # where the picture's logarithmic axis begins; a curve that reaches none ends there


def write_detection_report(folder: Path, what: dict[str, Any], detectors: Mapping[str, DetectorCounts]) -> None:
    """Write all of `DETECTION_FILES` into an existing folder; `what` says in the summary what was evaluated.

    Shares are 0..1 in all files. Raises IrstError, one line, when a file cannot be written.
    """
    summary = {
        **what,
        "detectors": [
            {"name": name, "threshold": counts.threshold, **record(asdict(counts.scores()))}
            for name, counts in detectors.items()
        ],
    }
    write_json(folder / SUMMARY_FILE, summary)
    counted = [field.name for field in fields(FrameCounts)]
    images = (
        [detector, image, frame.iou, *(getattr(frame, name) for name in counted)]
        for detector, counts in detectors.items()
        for image, frame in counts.by_image.items()
    )
    write_table(folder / IMAGES_FILE, ["detector", "image", "iou", *counted], images)
    names = [field.name for field in fields(DetectionScores)]
    points = (
        [detector, f"{threshold:.6g}", *record(asdict(scores)).values()]
        for detector, counts in detectors.items()
        for threshold, scores in counts.curve().items()
    )
    write_table(folder / CURVE_FILE, ["detector", "threshold", *names], points)
    write_file(folder / PICTURE_FILE, draw_curves(f"{what['dataset']} {what['split']}", detectors))


def detection_table(detectors: Mapping[str, DetectorCounts]) -> str:
    """The scores in the units the field prints: %, and 1e-6 for the false-alarm rate."""
    lines = [f"{'':16}{'IoU %':>8}{'nIoU %':>8}{'F1 %':>8}{'Pd %':>8}{'Fa 1e-6':>10}"]
    for name, counts in detectors.items():
        s = counts.scores()
        shares = "".join(f"{'-' if math.isnan(v) else f'{100 * v:.2f}':>8}" for v in (s.iou, s.niou, s.f1, s.pd))
        lines.append(f"{name:16}{shares}{1e6 * s.fa:10.2f}")
    return "\n".join(lines)


def draw_curves(title: str, detectors: Mapping[str, DetectorCounts]) -> bytes:
    """A PNG of Pd over Fa by threshold, a line and the operating point for each detector."""
    figure = Figure(figsize=(8, 5.5), layout="constrained")
    axes = figure.add_subplot(
        xscale="log",
        xlabel="Fa: false pixels of all pixels",
        ylabel="Pd: % of all targets",
        title=as_written(title),
    )
    for name, counts in detectors.items():
        points = [(max(s.fa, FA_LEAST), 100 * s.pd) for s in counts.curve().values()]
        (line,) = axes.plot(*zip(*points, strict=True), label=as_written(name))
        at = counts.scores()
        axes.plot(max(at.fa, FA_LEAST), 100 * at.pd, "o", color=line.get_color())
    axes.set_xlim(FA_LEAST, 0.1)
    axes.set_ylim(0, 102)
    axes.grid(alpha=0.3)
    axes.legend(loc="lower right", title="point: as scored")
    return png(figure)


def record(scores: Mapping[str, float]) -> dict[str, float | None]:
    """Scores by name; JSON knows no NaN: what could not be measured is null."""
    return {name: None if math.isnan(value) else value for name, value in scores.items()}
