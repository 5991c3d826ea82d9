"""Compare multi-target trackers on the same simulated points: quality, and processor time a frame on one thread.

usage: benchmark_trackers.py [--targets 10 100 1000] [--runs 20] [--budget 120] [--out DIR] [--set frames=50 ...]

The tracker of this project, Stone Soup and Norfair, where they are installed. All are told the noise, how targets move
and, if they ask, the rates of detections and false alarms. They take turns, scene by scene. Each has a budget of
processor seconds for a number of targets: when it is spent, the scene under way is broken off, its scores do not count,
and no other is begun.

Needs TrackEval (pip install --no-deps trackeval==1.3.0). The table goes to OUT/table.md, everything measured to
OUT/results.json.
"""

import argparse
import json
import logging
import os
import signal
import sys
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime, timedelta
from importlib.util import find_spec
from pathlib import Path
from types import FrameType
from typing import Any, NamedTuple, Self

os.environ.update(OMP_NUM_THREADS="1", OPENBLAS_NUM_THREADS="1", MKL_NUM_THREADS="1")  # read when numpy is imported

import numpy as np
from tqdm import tqdm

from irst_pipeline.config import TrackerSettings
from irst_pipeline.errors import IrstError, UsageError, told_in_one_line
from irst_pipeline.evaluation.tracking import TrackedSequence, TrackPaths, evaluate
from irst_pipeline.settings import read_settings
from irst_pipeline.simulation.points import FALSE_SCORE, TARGET_SCORE, PointFrame, PointSettings, point_frames
from irst_pipeline.tracking.tracker import Tracker
from irst_pipeline.types import Detections, Floats, Frame, Image, Integers

WARM_UP = 10  # frames at the start of a run that count neither for times nor for scores
VELOCITY_WALK = 0.1  # px a frame that a filter lets velocity gain in a frame; the targets' own is constant
LEAST_SCORE = 0.01  # none is called weak: an image's dim blobs are not simulated
PATIENCE = 5  # frames that a confirmed track lives without a detection
CONFIRM_HITS = 3  # of the peers; ours weighs evidence
SCORES = ("HOTA", "MOTA", "IDF1", "GOSPA px", "false a frame", "NEES", "NIS")


class Reported(NamedTuple):
    """The confirmed tracks after one frame; n rows."""

    id: Integers
    """(n,)"""
    position: Floats
    """(n, 2) px"""
    covariance: Floats
    """(n, 3) px^2: xx, xy, yy of the position; NaN where it is not known."""
    nis: Floats
    """(n,) normalised innovation squared of the track's detection; NaN where there is none."""

    @classmethod
    def of_positions(cls, id_: Integers, position: Floats) -> Self:
        """Of which nothing else is known."""
        unknown = np.full((len(id_), 3), np.nan)
        return cls(id_, position, unknown, unknown[:, 0])


def scores(truth: Sequence[PointFrame], reported: Sequence[Reported]) -> dict[str, float]:
    """How well a run was tracked: HOTA, MOTA and IDF1 in 0 to 1, mean GOSPA in px, false tracks a frame, NEES and NIS.

    NEES is of the position. What a tracker does not tell is left out.
    """
    tracks, targets = _paths(reported), _paths([Reported.of_positions(t.id, t.position) for t in truth])
    found = evaluate(TrackedSequence(targets, tracks, len(truth), 1 / (truth[1].time - truth[0].time)))
    s, unpaired = found.scores, len(tracks.id) - len(found.matches.tracks)
    values = s.hota, s.mota, s.idf1, s.gospa_px, unpaired / len(truth), s.nees, s.nis
    return {name: value for name, value in zip(SCORES, values, strict=True) if not np.isnan(value)}


def _paths(reported: Sequence[Reported]) -> TrackPaths:
    """The paths of what is reported in each frame."""
    frame = np.repeat(np.arange(len(reported)), [len(one.id) for one in reported])
    ids, places, covariances, nis = (np.concatenate(column) for column in zip(*reported, strict=True))
    return TrackPaths(frame, ids, places, np.full_like(places, np.nan), covariances, nis)


Step = Callable[[Frame, Detections], Reported]


def velocity_walk(scene: PointSettings) -> float:
    """px/s that a velocity gains in a second; over f frames it gains VELOCITY_WALK * sqrt(f) px a frame."""
    return VELOCITY_WALK * scene.frame_rate_hz**1.5


def speed_sd(scene: PointSettings) -> float:
    """px/s"""
    return scene.velocity_sd_px * scene.frame_rate_hz


def own(scene: PointSettings) -> Step:
    tracker = Tracker(
        TrackerSettings(
            # Straight flight and the bounce at the picture's edge, which ours alone tells apart.
            velocity_walk=1.0,
            cruise_seconds=60.0,
            manoeuvre_walk=200.0,
            manoeuvre_seconds=1.0,
            speed_sd=speed_sd(scene),
            detection_probability=min(scene.detection_probability, 0.999),
            false_alarms=max(scene.false_alarms, 1),
            false_tracks_per_hour=1.0,
            clutter_seconds=0,  # it is new in every frame
            target_score=TARGET_SCORE,
            clutter_score=FALSE_SCORE,
            start_score=LEAST_SCORE,
            coast_seconds=PATIENCE / scene.frame_rate_hz,
        ),
        weak_below=LEAST_SCORE,
    )

    def step(frame: Frame, detections: Detections) -> Reported:
        tracks, _ = tracker.step(frame, detections)
        sure = tracks.confirmed
        return Reported(tracks.id[sure], tracks.position[sure], tracks.covariance[sure], tracks.nis[sure])

    return step


def norfair(scene: PointSettings) -> Step:
    """Its filter counts time in frames. It has no gate but a fixed radius: 4 standard deviations of the noise."""
    from norfair.filter import OptimizedKalmanFilterFactory
    from norfair.tracker import Detection, Tracker

    noise = scene.noise_px**2
    filters = OptimizedKalmanFilterFactory(noise, VELOCITY_WALK**2, noise, 0, scene.velocity_sd_px**2)
    tracker = Tracker("euclidean", 4 * scene.noise_px, PATIENCE + 1, CONFIRM_HITS, filter_factory=filters)

    def step(_: Frame, detections: Detections) -> Reported:
        found = tracker.update([Detection(point[None]) for point in detections.position])
        return Reported.of_positions(
            np.array([track.id for track in found], np.int64),
            np.array([track.estimate[0] for track in found]).reshape(-1, 2),
        )

    return step


def stone_soup(scene: PointSettings, probabilistic: bool) -> Step:
    """Global nearest neighbour with 2-D assignment and a k-d tree; JPDA, if `probabilistic`, for confirmed tracks."""
    from stonesoup.dataassociator.probability import JPDA
    from stonesoup.dataassociator.tree import DetectionKDTreeGNN2D
    from stonesoup.deleter.time import UpdateTimeStepsDeleter
    from stonesoup.hypothesiser.distance import DistanceHypothesiser
    from stonesoup.hypothesiser.probability import PDAHypothesiser
    from stonesoup.initiator.simple import MultiMeasurementInitiator
    from stonesoup.measures import Mahalanobis
    from stonesoup.models.measurement.linear import LinearGaussian
    from stonesoup.models.transition.linear import CombinedLinearGaussianTransitionModel, ConstantVelocity
    from stonesoup.predictor.kalman import KalmanPredictor
    from stonesoup.tracker.simple import MultiTargetMixtureTracker, MultiTargetTracker
    from stonesoup.types.detection import Detection
    from stonesoup.types.state import GaussianState
    from stonesoup.updater.kalman import KalmanUpdater

    model = LinearGaussian(4, (0, 2), scene.noise_px**2 * np.eye(2))
    motion = CombinedLinearGaussianTransitionModel([ConstantVelocity(velocity_walk(scene) ** 2)] * 2)
    predictor, updater = KalmanPredictor(motion), KalmanUpdater(model)
    distance = DistanceHypothesiser(predictor, updater, Mahalanobis(), missed_distance=3)
    nearest = DetectionKDTreeGNN2D(distance, predictor, updater, max_distance=5 * scene.noise_px)
    prior = GaussianState([[0], [0], [0], [0]], speed_sd(scene) ** 2 * np.diag([0, 1, 0, 1]))
    tentative = UpdateTimeStepsDeleter(2)
    initiator = MultiMeasurementInitiator(prior, tentative, nearest, updater, model, min_points=CONFIRM_HITS)
    waiting: list[tuple[datetime, set[Any]]] = []

    class Feed:
        def __iter__(self) -> Iterator[tuple[datetime, set[Any]]]:
            while True:
                yield waiting.pop()

    kind, associator = MultiTargetTracker, nearest
    if probabilistic:  # a likelihood ratio, which needs some clutter
        density = max(scene.false_alarms, 1) / (scene.width_px * scene.height_px)
        rates = {"prob_detect": scene.detection_probability, "prob_gate": 0.99}
        kind, associator = MultiTargetMixtureTracker, JPDA(PDAHypothesiser(predictor, updater, density, **rates))
    tracker = iter(kind(initiator, UpdateTimeStepsDeleter(PATIENCE), Feed(), associator, updater))
    numbers: dict[str, int] = {}

    def step(frame: Frame, detections: Detections) -> Reported:
        now = datetime(2000, 1, 1) + timedelta(seconds=frame.time)
        seen = [Detection(point[:, None], timestamp=now, measurement_model=model) for point in detections.position]
        waiting.append((now, set(seen)))
        _, found = next(tracker)
        return Reported.of_positions(
            np.array([numbers.setdefault(track.id, len(numbers)) for track in found], np.int64),
            np.array([track.state_vector[[0, 2], 0] for track in found], float).reshape(-1, 2),
        )

    return step


class Contender(NamedTuple):
    make: Callable[[PointSettings], Step]
    package: str
    """What must be importable."""
    install: str = ""


STONE_SOUP = ("stonesoup", "pip install stonesoup")
CONTENDERS = {
    "irst_pipeline": Contender(own, "irst_pipeline"),
    "Norfair": Contender(norfair, "norfair", "pip install norfair"),
    "Stone Soup GNN, k-d tree": Contender(lambda scene: stone_soup(scene, False), *STONE_SOUP),
    "Stone Soup JPDA": Contender(lambda scene: stone_soup(scene, True), *STONE_SOUP),
}


class Result:
    """What one tracker did with one number of targets."""

    def __init__(self, budget: float) -> None:
        self.left = budget
        self.milliseconds: list[float] = []
        """Processor time of each frame after the warm-up, of broken-off runs too."""
        self.runs: list[dict[str, float]] = []
        """Scores of each whole run."""

    def run(self, step: Step, frames: Sequence[PointFrame], image: Image) -> None:
        # The thread's clock, not the process's: that one goes by the tick, 4 ms, while a timer runs on it.
        reported = []
        begun = time.thread_time()
        try:
            with cpu_limit(self.left):
                for frame in frames:
                    before = time.thread_time()
                    reported.append(step(Frame(image, frame.index, frame.time, "points"), frame.detections))
                    if frame.index >= WARM_UP:
                        self.milliseconds.append(1e3 * (time.thread_time() - before))
            self.left -= time.thread_time() - begun
        except TimeoutError:
            self.left = 0
        # On a busy machine the timer, which goes by the tick, may be late by all of a short run.
        if self.left > 0:
            self.runs.append(scores(frames[WARM_UP:], reported[WARM_UP:]))

    def row(self) -> list[str]:
        """Cells of the table."""
        times = ["-"] * 2
        if self.milliseconds:
            times = [f"{value:.2f}" for value in np.percentile(self.milliseconds, [50, 95])]
        told = ([run[name] for run in self.runs if name in run] for name in SCORES)
        quality = [f"{np.mean(values):.3f}" if values else "-" for values in told]
        return [str(len(self.runs)), *times, *quality]


@contextmanager
def cpu_limit(seconds: float) -> Iterator[None]:
    """Raises TimeoutError in what goes on for longer, by this process's own time; one step of JPDA can take hours."""

    def stop(_signal: int, _frame: FrameType | None) -> None:
        raise TimeoutError

    previous = signal.signal(signal.SIGPROF, stop)
    signal.setitimer(signal.ITIMER_PROF, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.signal(signal.SIGPROF, previous)


def benchmark(scene: PointSettings, contenders: dict[str, Contender], runs: int, budget: float) -> dict[str, Result]:
    image = np.zeros((scene.height_px, scene.width_px), np.uint8)
    results = {name: Result(budget) for name in contenders}
    for seed in tqdm(range(runs), desc=f"{scene.targets} targets", unit="scene", disable=None):
        frames = list(point_frames(scene, seed))
        for name, result in results.items():
            if result.left > 0:
                result.run(contenders[name].make(scene), frames, image)
    return results


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--targets", type=int, nargs="+", default=[10, 100, 1000])
    parser.add_argument("--runs", type=int, default=20)
    parser.add_argument("--budget", type=float, default=120.0)
    parser.add_argument("--out", type=Path, default=Path("runs/trackers"))
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="of the scene")
    options = parser.parse_args()
    scenes = [read_settings(PointSettings, None, [*options.set, f"targets={count}"]) for count in options.targets]
    if scenes[0].frames <= WARM_UP:
        raise UsageError(f"--set frames={scenes[0].frames}: expected more than the {WARM_UP} of the warm-up")
    if find_spec("trackeval") is None:
        raise IrstError("TrackEval is not installed: pip install --no-deps trackeval==1.3.0")
    options.out.mkdir(parents=True, exist_ok=True)
    logging.disable(logging.WARNING)
    warnings.simplefilter("ignore")
    contenders = {name: contender for name, contender in CONTENDERS.items() if find_spec(contender.package)}
    for name, contender in CONTENDERS.items():
        if name not in contenders:
            print(f"{name} is left out, it is not installed: {contender.install}", file=sys.stderr)

    columns = ["targets", "tracker", "runs", "ms a frame", "95 %", *SCORES]
    lines = [f"| {' | '.join(columns)} |", "| --- " * len(columns) + "|"]
    records = []
    for scene in scenes:
        for name, result in benchmark(scene, contenders, options.runs, options.budget).items():
            lines.append(f"| {' | '.join([str(scene.targets), name, *result.row()])} |")
            measured = {"milliseconds": result.milliseconds, "runs": result.runs}
            records.append({"tracker": name, "targets": scene.targets, **measured})
        (options.out / "table.md").write_text("\n".join(lines) + "\n")
        tree = {"scene": scene.model_dump(exclude={"targets"}), "budget": options.budget, "results": records}
        (options.out / "results.json").write_text(json.dumps(tree, indent=1))
    print("\n".join(lines))


if __name__ == "__main__":
    with told_in_one_line("benchmark_trackers"):
        main()
