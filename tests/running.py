"""Runs of `irst`, what they are given and what they leave, for tests."""

import csv
import json
import os
import resource
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np

from irst_pipeline.state import State
from irst_pipeline.types import FrameResult

ROOT = Path(__file__).parents[1]
CLOUDS, HORIZON = ROOT / "videos/clouds/sequence16.mkv", ROOT / "videos/horizon/sequence8.mp4"


class StubSink:
    """A sink without files; what it does with a result, a subclass says."""

    missed = 0

    def write(self, result: FrameResult) -> None:
        raise NotImplementedError

    def state(self) -> State:
        return {}

    def close(self) -> None: ...


def program_of_readme(number: int) -> str:
    """One of its programs in Python, from 1."""
    return (ROOT / "README.md").read_text().split("```python\n")[number].partition("```")[0]


def start(*arguments: object) -> subprocess.Popen[str]:
    """The command in a process of its own."""
    command = [sys.executable, "-m", "irst_pipeline.cli", *map(str, arguments)]
    return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


SHORT_OF_MEMORY = """
import resource, sys
import irst_pipeline.explain, irst_pipeline.export, irst_pipeline.predict
from irst_pipeline.cli import main

pages = int(open("/proc/self/statm").read().split()[0])
limit = pages * resource.getpagesize() + 1_500_000_000
resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
sys.exit(main(sys.argv[1:]))
"""


def short_of_memory(*arguments: object) -> subprocess.CompletedProcess[str]:
    """The command in a process that may take 1.5 GB more than it has when it begins."""
    command = [sys.executable, "-c", SHORT_OF_MEMORY, *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def opened_by(pid: int) -> set[Path]:
    """The files that a process has open now."""
    found = set()
    for handle in Path(f"/proc/{pid}/fd").iterdir():
        with suppress(FileNotFoundError):  # it may be closed while the others are asked
            found.add(handle.readlink())
    return found


def memory_peak() -> int:
    """kB that this process has held at most since `forget_memory_peak`."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def forget_memory_peak() -> None:
    """The peak begins anew at what is held now, so that an earlier one hides none."""
    Path("/proc/self/clear_refs").write_text("5")


def wait_until(true: Callable[[], bool], what: str = "it comes true", seconds: float = 60.0) -> None:
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline, what
        time.sleep(0.05)


def wait_for(path: Path, size: int) -> None:
    wait_until(lambda: path.exists() and path.stat().st_size > size, f"{path} grows")


def report(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((folder / "run.json").read_text())
    return found


def read_jsonl(path: Path) -> list[dict[str, Any]]:
    """Records of a log in JSON lines."""
    return [json.loads(line) for line in path.read_text().splitlines()]


def read_csv(path: Path) -> list[dict[str, str]]:
    """Rows of a table, by column."""
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def shown(video: Path) -> int:
    """How many frames a video shows, but for one that a kill cut off."""
    with av.open(str(video)) as container:
        return sum(len(packet.decode()) for packet in container.demux(video=0) if not packet.is_corrupt)


def write_video(path: Path, frames: int, size: tuple[int, int] = (64, 80), seed: int = 0) -> Path:
    rng = np.random.default_rng(seed)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=30, options={"g": "5"})
        stream.height, stream.width = size
        stream.pix_fmt = "yuv420p"
        for _ in range(frames):
            image = rng.integers(80, 120, size).astype(np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="gray")))
        container.mux(stream.encode(None))
    return path


def write_images(folder: Path, count: int, size: tuple[int, int] = (48, 64)) -> Path:
    """A recording of `count` images, one file under many names."""
    folder.mkdir()
    cv2.imwrite(str(folder / "0.png"), np.random.default_rng(0).integers(90, 110, size).astype(np.uint8))
    for i in range(1, count):
        os.link(folder / "0.png", folder / f"{i}.png")
    return folder
