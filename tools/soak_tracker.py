"""Run the tracker for very many frames and watch it: every covariance must stay sound, and memory must not grow.

usage: soak_tracker.py [--frames 1000000] [--association nearest]

Targets come and go among clutter; now and then a frame comes twice, seconds or minutes are missing, the clock is set
back, the camera jumps, or a measurement makes no sense.
Prints what was held a hundred times on the way; the exit status is 1 if anything went wrong. Linux only.
"""

import argparse
import resource
import sys
from pathlib import Path

import numpy as np
from tqdm import tqdm

from irst_pipeline.config import TrackerSettings
from irst_pipeline.tracking.tracker import Tracker
from irst_pipeline.types import STANDS_STILL, CameraMotion, Detections, Floats, Frame

GROWTH_MAX = 1.02
LOOKS = 100
RATE = 30.0
SIZE = np.array([320.0, 256.0])
IMAGE = np.zeros((256, 320), np.uint8)
NOISE_PX = 0.5
MISSED, CLUTTER = 0.1, 2.0  # share of frames; detections a frame
ODD_SHARE = 1e-3
"""Of the frames, for each of the odd things."""
PAGE_MB = resource.getpagesize() / 2**20


class Sky:
    """A few targets that bounce between the borders, each replaced by another now and then."""

    def __init__(self, rng: np.random.Generator) -> None:
        self._rng = rng
        self._place, self._velocity = rng.uniform(0, SIZE, (4, 2)), rng.normal(0, 20, (4, 2))

    def detections(self, dt: float) -> Detections:
        rng = self._rng
        self._place = self._place + dt * self._velocity
        self._velocity[(self._place < 0) | (self._place > SIZE)] *= -1
        self._place = self._place.clip(0, SIZE)
        reborn = rng.random(4) < 1e-3
        self._place[reborn] = rng.uniform(0, SIZE, (int(reborn.sum()), 2))
        seen = self._place[rng.random(4) > MISSED]
        places = np.concatenate([rng.normal(seen, NOISE_PX), rng.uniform(0, SIZE, (rng.poisson(CLUTTER), 2))])
        score = np.concatenate([np.full(len(seen), 0.99), rng.uniform(0.3, 1, len(places) - len(seen))])
        if rng.random() < ODD_SHARE and len(places):
            places[0] = np.nan
        return _detections(places, score)


def _detections(places: Floats, score: Floats) -> Detections:
    n = len(places)
    return Detections(
        x=places[:, 0],
        y=places[:, 1],
        covariance=np.tile([NOISE_PX**2, 0.0, NOISE_PX**2], (n, 1)),
        box=np.column_stack([places - 1.5, np.full((n, 2), 3.0)]),
        area=np.full(n, 5),
        score=score,
        intensity=np.full(n, 30.0),
        snr=np.full(n, 10.0),
    )


def soak(count: int, settings: TrackerSettings) -> bool:
    """Whether all went well; prints what was held."""
    rng = np.random.default_rng(1)
    tracker, sky, time, looks, confirmed, most = Tracker(settings), Sky(rng), 0.0, list[tuple[int, float]](), 0, 0
    for index in tqdm(range(count)):
        dt = 1 / RATE
        if rng.random() < ODD_SHARE:
            dt = float(rng.choice([0.0, -1.0, 5.0, 300.0]))
        time += dt
        motion = STANDS_STILL
        if rng.random() < ODD_SHARE:
            matrix = np.eye(3)
            matrix[:2, 2] = rng.normal(0, 30, 2)
            motion = CameraMotion(matrix, known=True)
        tracks, events = tracker.step(Frame(IMAGE, index, time, "soak"), sky.detections(max(dt, 0.0)), motion)
        confirmed += sum(event.kind == "confirmed" for event in events)
        most = max(most, len(tracks))
        xx, xy, yy = tracks.covariance.T
        if not (np.isfinite(tracks.position).all() and ((xx > 0) & (xx * yy > xy**2)).all()):
            print(f"frame {index}: a track without a sound place or covariance")
            return False
        if (index + 1) % (count // LOOKS) == 0:
            pages = int(Path("/proc/self/statm").read_text().split()[1])
            looks.append((index + 1, pages * PAGE_MB))
    print(f"{'frames':>9}{'MB':>9}")
    for done, memory in (*looks[:: len(looks) // 10], looks[-1]):
        print(f"{done:9}{memory:9.1f}")
    growth = looks[-1][1] / looks[len(looks) // 10][1]
    print(f"memory grew by {100 * (growth - 1):.2f} % from the tenth part on")
    print(f"{confirmed} tracks confirmed, at most {most} at once")
    return growth <= GROWTH_MAX


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--frames", type=int, default=1_000_000)
    parser.add_argument("--association", default="nearest", choices=["nearest", "joint"])
    options = parser.parse_args()
    settings = TrackerSettings(association=options.association, turn_rate=30.0)
    sys.exit(0 if soak(options.frames, settings) else 1)


if __name__ == "__main__":
    main()
