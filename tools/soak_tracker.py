"""Run the tracker for very many frames and watch it: every covariance must stay sound, and memory must not grow.

usage: python -m tools.soak_tracker [--frames 1000000] [--association nearest]

Targets fly among clutter; now and then a frame comes twice, seconds or minutes are missing, the clock is set
back, the camera jumps, or a measurement makes no sense.
Prints what was held a hundred times on the way; the exit status is 1 if anything went wrong. Linux only.
"""

import argparse
import sys

import numpy as np
from tqdm import tqdm

from irst_pipeline.config import TrackerSettings
from irst_pipeline.simulation.points import PointSettings, point_frames
from irst_pipeline.tracking.tracker import Tracker
from irst_pipeline.types import STANDS_STILL, CameraMotion, Frame
from tools.soak import Watch

IMAGE = np.zeros((256, 320), np.uint8)
ODD_SHARE = 1e-3
"""Of the frames, for each of the odd things."""


def soak(count: int, settings: TrackerSettings) -> bool:
    """Whether all went well; prints what was held."""
    rng = np.random.default_rng(1)
    scene = PointSettings(width_px=320, height_px=256, frames=count, targets=4, noise_px=0.5, false_alarms=2)
    tracker, watch, time, confirmed, most = Tracker(settings), Watch(count), 0.0, 0, 0
    for frame in tqdm(point_frames(scene, 1), total=count):
        dt = 1 / scene.frame_rate_hz
        if rng.random() < ODD_SHARE:
            dt = float(rng.choice([0.0, -1.0, 5.0, 300.0]))
        time += dt
        motion = STANDS_STILL
        if rng.random() < ODD_SHARE:
            matrix = np.eye(3)
            matrix[:2, 2] = rng.normal(0, 30, 2)
            motion = CameraMotion(matrix, known=True)
        if rng.random() < ODD_SHARE:
            frame.detections.x[0] = np.nan
        tracks, events = tracker.step(Frame(IMAGE, frame.index, time, "soak"), frame.detections, motion)
        confirmed += sum(event.kind == "confirmed" for event in events)
        most = max(most, len(tracks))
        xx, xy, yy = tracks.covariance.T
        if not (np.isfinite(tracks.position).all() and ((xx > 0) & (xx * yy > xy**2)).all()):
            print(f"frame {frame.index}: a track without a sound place or covariance")
            return False
        watch.look(frame.index + 1)
    print(f"{confirmed} tracks confirmed, at most {most} at once")
    return watch.flat()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--frames", type=int, default=1_000_000)
    parser.add_argument("--association", default="nearest", choices=["nearest", "joint"])
    options = parser.parse_args()
    settings = TrackerSettings(association=options.association, turn_rate=30.0)
    sys.exit(0 if soak(options.frames, settings) else 1)


if __name__ == "__main__":
    main()
