"""Kill a run at random moments, resume it each time, and compare what it wrote with a run that was left alone.

usage: soak_kill.py [--kills 20] [--frames 1000] [--seed 0] [--set KEY=VALUE ...] [--out runs/soak-kill]

The run is the command in a process of its own, on a simulated recording whose camera pans and shakes, with a
camera model and a pointing. It is killed by SIGKILL, at moments spread at random over its log. The verdict, and the
exit status: whether the logs are the same byte for byte but for the moment of the start, whether the counters in
run.json are the same, and whether the parts of the video show every frame but a quarter second's for each kill.
"""

import argparse
import json
import multiprocessing
import random
import sys
import time
from collections.abc import Iterator
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import av

from irst_pipeline import cli
from irst_pipeline.disk import all_parts
from irst_pipeline.errors import told_in_one_line
from irst_pipeline.settings import validate
from irst_pipeline.simulation import SceneSettings, simulate

COUNTERS = ("frames_read", "frames_failed", "frames_dropped", "tracks_confirmed", "outcome")
SERVER = multiprocessing.get_context("forkserver")
LOGS = ("tracks.jsonl", "tracks.csv", "mot.txt", "detections.csv")
FRAME_RATE = 30.0
VIDEO_SECONDS = 0.25
SCENE = {
    "frame_rate_hz": FRAME_RATE,
    "width_px": 160,
    "height_px": 128,
    "view_levels": (7200, 7450),
    "terrain": {"height_px": 40, "relief_px": 4, "trees_px": 12, "texture": 8},
    "camera": {"pan_px_s": (5, -1), "jitter_px": 0.7, "roll_deg_s": 0.1},
    "random": {"count": 6, "snr": (8, 15)},
}


def start(recording: Path, out: Path, changes: list[str], *more: str) -> BaseProcess:
    """The command in a process of its own, forked from one that has PyTorch imported already."""
    settings = [word for change in changes for word in ("--set", change)]
    camera = ["--camera", str(recording.parent / "camera.yaml"), "--pointing", str(recording.parent / "pointing.csv")]
    arguments = ["run", str(recording), "--out", str(out), "--device", "cpu", *camera, *settings, *more]
    process = SERVER.Process(target=run, args=(arguments,))
    process.start()
    return process


def run(arguments: list[str]) -> None:
    sys.exit(cli.main(arguments))


def ended(process: BaseProcess) -> int:
    """Its exit status, once it has one."""
    process.join()
    return process.exitcode or 0


def make_recording(folder: Path, frames: int) -> Path:
    simulate(validate(SceneSettings, SCENE | {"frames": frames}, "the scene"), folder, seed=1)
    width, height = SCENE["width_px"], SCENE["height_px"]
    (folder / "camera.yaml").write_text(f"width_px: {width}\nheight_px: {height}\nhorizontal_fov_deg: 8\n")
    (folder / "pointing.csv").write_text(f"frame,azimuth_deg,elevation_deg\n0,10,4\n{frames},40,5\n")
    return folder / "sequence16.mkv"


def logged(log: Path) -> int:
    """Bytes in all parts of a log."""
    return sum(part.stat().st_size for part in all_parts(log) if part.exists())


def read_logs(out: Path) -> Iterator[tuple[str, list[bytes]]]:
    """Lines of all parts of all logs, headers without what says when the run began."""
    for name in LOGS:
        for part in all_parts(out / name):
            lines = part.read_bytes().splitlines(keepends=True)
            if name == "tracks.jsonl":
                lines[0] = json.dumps(json.loads(lines[0]) | {"started": None}).encode()
            yield part.name, lines


def shown(video: Path) -> int:
    """Frames in all parts of a video, but for one that a kill cut off, for which it may end a write at any page."""
    count = 0
    for part in all_parts(video):
        with av.open(str(part)) as container:
            count += sum(len(packet.decode()) for packet in container.demux(video=0) if not packet.is_corrupt)
    return count


def soak(kills: int, frames: int, seed: int, changes: list[str], out: Path) -> bool:
    """Whether nothing differs; prints what was found."""
    out.mkdir(parents=True)
    recording = make_recording(out / "recording", frames)
    whole, killed = out / "whole", out / "killed"
    if ended(start(recording, whole, changes)):
        return False
    size = logged(whole / "tracks.jsonl")
    rng = random.Random(seed)
    done = 0
    for moment in sorted(rng.uniform(0, 0.98 * size) for _ in range(kills)):
        process = start(recording, killed, changes, "--resume")
        while process.is_alive() and logged(killed / "tracks.jsonl") < moment:
            time.sleep(0.01)
        time.sleep(rng.uniform(0, 0.3))
        process.kill()
        done += ended(process) < 0
    if ended(start(recording, killed, changes, "--resume")):
        return False
    reports: list[dict[str, Any]] = [json.loads((folder / "run.json").read_text()) for folder in (whole, killed)]
    found = {
        "logs": list(read_logs(whole)) == list(read_logs(killed)),
        "counters": len({tuple(report[name] for name in COUNTERS) for report in reports}) == 1,
        "video": shown(killed / "annotated.mp4") >= frames - done * VIDEO_SECONDS * FRAME_RATE,
        "checkpoint": not (killed / "checkpoint.safetensors").exists(),
    }
    print(f"{frames} frames, killed {done} times, resumed {reports[1]['resumed']} times after a frame was written")
    for name, good in found.items():
        print(f"{name:12}{'as of a run that was left alone' if good else 'DIFFERENT'}")
    return all(found.values())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--frames", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="as of irst run")
    parser.add_argument("--out", type=Path, default=Path("runs/soak-kill"))
    options = parser.parse_args()
    SERVER.set_forkserver_preload(["irst_pipeline.run"])
    sys.exit(0 if soak(options.kills, options.frames, options.seed, options.set, options.out) else 1)


if __name__ == "__main__":
    with told_in_one_line("soak_kill"):
        main()
