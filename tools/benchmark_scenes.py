"""Measure the whole pipeline on simulated scenes whose truth is known: weak targets, crossings, a shaking camera.

usage: benchmark_scenes.py [--runs 4] [--only weak ...] [--out runs/scenes] [--overwrite]
                           [--set tracker.association=joint]

- empty: a minute of broken cloud without a target; false tracks.
- weak: targets of SNR 4 before broken cloud; how long until they are covered, and false tracks an hour.
- crossings: five pairs a sequence whose paths cross at half time; of how many both targets keep their track.
- shaking: the same flights before a camera at rest and one that jitters by 10 px a frame; coverage of both.

Every sequence is simulated, run as `irst run` does it, and scored as `irst evaluate tracking` does.
"""

import argparse
import json
from collections.abc import Iterator
from pathlib import Path
from threading import Event
from typing import Any

import numpy as np

from irst_pipeline.config import RunSettings
from irst_pipeline.errors import told_in_one_line
from irst_pipeline.evaluation.logs import find_log, find_truth, read_sequence
from irst_pipeline.evaluation.tracking import Evaluation, TrackedSequence, evaluate
from irst_pipeline.runs import run_recordings
from irst_pipeline.settings import read_settings, validate
from irst_pipeline.simulation import SceneSettings, simulate
from irst_pipeline.simulation.simulate import SHOWN_FILE

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
    "empty": CLOUDY | {"frames": 1800},
    "weak": CLOUDY | {"frames": 300, "random": {"count": 6, "snr": [4, 4], "speed_px_s": [10, 30]}},
    "crossings": CLOUDY | {"frames": 150, "random": {"crossings": PAIRS, "snr": [10, 15], "speed_px_s": [20, 60]}},
    "still": STILL,
    "shaking": STILL | {"camera": {"jitter_px": 10}},
}


def results_of(name: str, runs: int, out: Path, overwrite: bool, settings: RunSettings) -> Iterator[tuple[Path, Path]]:
    """Folders of the sequences of one kind of scene, and of what a run made of each."""
    scene = validate(SceneSettings, SCENES[name], name)
    for seed in range(runs):
        folder, results = (out / part / f"{name}-{seed}" for part in ("scenes", "results"))
        simulate(scene, folder, seed, overwrite)
        run_recordings([str(folder / SHOWN_FILE)], settings, results, overwrite, False, Event())
        yield folder, results


def confirmed(results: Path) -> int:
    """Tracks that a run confirmed."""
    return int(json.loads((results / "run.json").read_text())["tracks_confirmed"])


def scored(folder: Path, results: Path) -> tuple[TrackedSequence, Evaluation]:
    sequence = read_sequence(find_truth(folder), find_log(results))
    return sequence, evaluate(sequence)


def coverage(found: list[tuple[TrackedSequence, Evaluation]]) -> float:
    """Share of the targets' frames in which a track covers them."""
    covered = sum(len(evaluation.matches.truth) for _, evaluation in found)
    return covered / sum(len(sequence.truth.id) for sequence, _ in found)


def kept(sequence: TrackedSequence, evaluation: Evaluation) -> int:
    """Pairs of crossing targets, numbered in turn, of which both are covered by one track before and after."""
    truth, tracks = sequence.truth, sequence.tracks
    target, track = truth.id[evaluation.matches.truth], tracks.id[evaluation.matches.tracks]
    frame = truth.frame[evaluation.matches.truth]
    middle = sequence.frames / 2

    def mostly(rows: Any) -> int:
        return int(np.bincount(track[rows]).argmax()) if rows.any() else -1

    same = []
    for each in range(1, 2 * PAIRS + 1):
        before, after = (mostly((target == each) & half) for half in (frame < middle, frame > middle))
        same.append(before == after != -1)
    return sum(a and b for a, b in zip(same[::2], same[1::2], strict=True))


def report(name: str, found: list[tuple[TrackedSequence, Evaluation]]) -> str:
    scores = [evaluation.scores for _, evaluation in found]
    minutes = sum(sequence.frames / sequence.frame_rate for sequence, _ in found) / 60
    delays = [s.initiation_delay_s for s in scores if np.isfinite(s.initiation_delay_s)]
    line = (
        f"{name:10} coverage {100 * coverage(found):5.1f} %   false tracks {sum(s.false_tracks for s in scores)}"
        f" in {minutes:.1f} min   never covered {sum(s.targets_missed for s in scores)} of"
        f" {sum(s.targets for s in scores)}   delay {np.median(delays) if delays else np.nan:.2f} s"
        f"   HOTA {100 * np.mean([s.hota for s in scores]):.1f}   id switches {sum(s.id_switches for s in scores)}"
        f"   NEES {np.mean([s.nees for s in scores]):.2f}   NIS {np.mean([s.nis for s in scores]):.2f}"
    )
    if name != "crossings":
        return line
    both = sum(kept(*each) for each in found)
    return f"{line}\nof {PAIRS * len(found)} crossings both keep their track in {both}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=4)
    parser.add_argument("--only", nargs="+", choices=[*SCENES], default=[*SCENES], metavar="KIND")
    parser.add_argument("--out", type=Path, default=Path("runs/scenes"))
    parser.add_argument("--overwrite", action="store_true")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE")
    options = parser.parse_args()
    settings = read_settings(RunSettings, None, ["sinks=[tracks_jsonl]", *options.set])
    lines = []
    for name in options.only:
        made = results_of(name, options.runs, options.out, options.overwrite, settings)
        if name == "empty":
            false = [confirmed(results) for _, results in made]
            minutes = len(false) * SCENES[name]["frames"] / SceneSettings().frame_rate_hz / 60
            lines.append(f"{name:10} false tracks {sum(false)} in {minutes:.1f} min")
        else:
            lines.append(report(name, [scored(*folders) for folders in made]))
    print("\n".join(lines))


if __name__ == "__main__":
    with told_in_one_line("benchmark_scenes"):
        main()
