"""Measure the whole pipeline on simulated scenes whose truth is known: weak targets, crossings, a shaking camera.

usage: benchmark_scenes.py [--runs 4] [--out runs/scenes] [--set tracker.association=joint]

- weak: targets of SNR 4 before broken cloud; how long until they are covered, and false tracks an hour.
- crossings: five pairs a sequence whose paths cross at half time; of how many both targets keep their track.
- shaking: the same flights before a camera at rest and one that jitters by 10 px a frame; coverage of both.

Every sequence is simulated, run as `irst run` does it, and scored as `irst evaluate tracking` does.
"""

import argparse
import sys
from pathlib import Path
from threading import Event
from typing import Any

import numpy as np

from irst_pipeline.config import RunSettings
from irst_pipeline.errors import IrstError
from irst_pipeline.evaluation.logs import find_log, find_truth, read_sequence
from irst_pipeline.evaluation.tracking import Evaluation, TrackedSequence, evaluate
from irst_pipeline.run import run_recordings
from irst_pipeline.settings import read_settings, validate
from irst_pipeline.simulation import SceneSettings, simulate

PAIRS = 5
CLOUDY: dict[str, Any] = {
    "sky": {"level": 7300, "glow": 10, "glow_height_px": 60},
    "view_levels": [7280, 7400],
    "clouds": {"coverage": 0.5, "contrast": 40, "exponent": 2.1, "drift_px_s": [6, 1]},
    "sensor": {"psf_sigma_px": 0.8, "read_noise": 2.0},
}
STILL = CLOUDY | {
    "frames": 150,
    "terrain": {"height_px": 40},
    "random": {"count": 6, "snr": [10, 15], "speed_px_s": [10, 30]},
}
SCENES: dict[str, dict[str, Any]] = {
    "weak": CLOUDY | {"frames": 300, "random": {"count": 6, "snr": [4, 4], "speed_px_s": [10, 30]}},
    "crossings": CLOUDY | {"frames": 150, "random": {"crossings": PAIRS, "snr": [10, 15], "speed_px_s": [20, 60]}},
    "still": STILL,
    "shaking": STILL | {"camera": {"jitter_px": 10}},
}


def measure(runs: int, out: Path, settings: RunSettings) -> dict[str, list[tuple[TrackedSequence, Evaluation]]]:
    """The sequences of every kind of scene, run and scored."""
    folders: dict[str, list[Path]] = {}
    for name, tree in SCENES.items():
        scene = validate(SceneSettings, tree, name)
        folders[name] = [out / "scenes" / f"{name}-{seed}" for seed in range(runs)]
        for seed, folder in enumerate(folders[name]):
            simulate(scene, folder, seed)
    found: dict[str, list[tuple[TrackedSequence, Evaluation]]] = {}
    for name, scenes in folders.items():
        found[name] = []
        for scene_folder in scenes:
            results = out / "results" / scene_folder.name
            run_recordings([str(scene_folder / "sequence8.mp4")], settings, results, False, False, Event())
            sequence = read_sequence(find_truth(scene_folder), find_log(results))
            found[name].append((sequence, evaluate(sequence)))
    return found


def coverage(found: list[tuple[TrackedSequence, Evaluation]]) -> float:
    """Share of the targets' frames in which a track covers them."""
    covered = sum(len(evaluation.pairs.truth) for _, evaluation in found)
    return covered / sum(len(sequence.truth.id) for sequence, _ in found)


def kept(sequence: TrackedSequence, evaluation: Evaluation) -> int:
    """Pairs of crossing targets, numbered in turn, of which both are covered by one track before and after."""
    truth, tracks = sequence.truth, sequence.tracks
    target, track = truth.id[evaluation.pairs.truth], tracks.id[evaluation.pairs.tracks]
    frame = truth.frame[evaluation.pairs.truth]
    middle = sequence.frames / 2

    def mostly(rows: Any) -> int:
        return int(np.bincount(track[rows]).argmax()) if rows.any() else -1

    same = []
    for each in range(1, 2 * PAIRS + 1):
        before, after = (mostly((target == each) & half) for half in (frame < middle, frame > middle))
        same.append(before == after != -1)
    return sum(a and b for a, b in zip(same[::2], same[1::2], strict=True))


def report(found: dict[str, list[tuple[TrackedSequence, Evaluation]]]) -> str:
    lines = []
    for name, results in found.items():
        scores = [evaluation.scores for _, evaluation in results]
        hours = sum(sequence.frames / sequence.frame_rate for sequence, _ in results) / 3600
        delays = [s.initiation_delay_s for s in scores if np.isfinite(s.initiation_delay_s)]
        lines.append(
            f"{name:10} coverage {100 * coverage(results):5.1f} %   false tracks {sum(s.false_tracks for s in scores)}"
            f" in {60 * hours:.1f} min   never covered {sum(s.targets_missed for s in scores)} of"
            f" {sum(s.targets for s in scores)}   delay {np.median(delays) if delays else np.nan:.2f} s"
            f"   HOTA {100 * np.mean([s.hota for s in scores]):.1f}   id switches {sum(s.id_switches for s in scores)}"
        )
    crossed = found["crossings"]
    lines.append(f"of {PAIRS * len(crossed)} crossings both keep their track in {sum(kept(*each) for each in crossed)}")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=4)
    parser.add_argument("--out", type=Path, default=Path("runs/scenes"))
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE")
    options = parser.parse_args()
    settings = read_settings(RunSettings, None, ["sinks=[tracks_jsonl]", *options.set])
    print(report(measure(options.runs, options.out, settings)))


if __name__ == "__main__":
    try:
        main()
    except IrstError as error:
        sys.exit(f"benchmark_scenes: error: {error}")
