"""Run the pipeline for very many frames and watch what it holds: memory, threads and file handles must not grow.

usage: soak.py [--frames 100000] [--size 64x48] [--out runs/soak]

A simulated sequence comes again and again as one long recording, through every stage and into every kind of file. What
is held is looked at a hundred times on the way; the verdict, and the exit status, compare the end with the tenth part,
when all caches are full. Linux only.
"""

import argparse
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from itertools import cycle
from multiprocessing import get_context
from multiprocessing.queues import SimpleQueue
from pathlib import Path
from threading import Event, active_count
from typing import Any, NamedTuple

from tqdm import tqdm

from irst_pipeline.cli import size
from irst_pipeline.config import RunSettings
from irst_pipeline.engine import load_model, open_engine
from irst_pipeline.errors import told_in_one_line
from irst_pipeline.memory import resident_bytes
from irst_pipeline.run import Run, carry_out, run_header
from irst_pipeline.settings import validate
from irst_pipeline.simulation import SceneSettings, render
from irst_pipeline.sources.base import Recording
from irst_pipeline.statistics import RunStatistics
from irst_pipeline.types import Frame, Image

GROWTH_MAX = 1.02
SCENE_FRAMES = 300
LOOKS = 100


class Endless(Recording):
    """The same images again and again, as one recording of `count` frames."""

    def __init__(self, images: Sequence[Image], name: str, frame_rate: float, count: int) -> None:
        super().__init__(name, frame_rate, count)
        self._images, self._count = images, count

    def read(self) -> Iterator[Frame]:
        for index, image in zip(range(self._count), cycle(self._images), strict=False):
            yield Frame(image, index, index / self.frame_rate, self.name)

    def close(self) -> None: ...


class Held(NamedTuple):
    memory_mb: float
    threads: int
    handles: int


def held() -> Held:
    handles = sum(1 for _ in Path("/proc/self/fd").iterdir())
    return Held(resident_bytes() / 2**20, active_count(), handles)


class Watch:
    """What this process holds from now on, looked at a hundred times on the way to `count` frames."""

    def __init__(self, count: int) -> None:
        self._count, self._before, self._looks = count, held(), list[tuple[int, Held]]()

    def look(self, done: int) -> None:
        """Take a look if it is time for one; to be called after each frame, with how many there were."""
        if done * LOOKS // self._count > len(self._looks):
            self._looks.append((done, held()))

    def flat(self, *later: tuple[int, Held]) -> bool:
        """Whether memory did not grow over the looks; prints these, those `later`, and by how much."""
        looks = self._looks
        print(f"{'frames':>9}{'MB':>9}{'threads':>9}{'handles':>9}")
        tenth = max(1, len(looks) // 10)
        for done, now in (*looks[::tenth], looks[-1], *later):
            print(f"{done:9}{now.memory_mb:9.1f}{now.threads:9}{now.handles:9}")
        growth = looks[-1][1].memory_mb / looks[min(tenth, len(looks) - 1)][1].memory_mb
        print(f"memory grew by {100 * (growth - 1):.2f} % from the tenth part on")
        return growth <= GROWTH_MAX

    def given_back(self, done: int) -> bool:
        """Whether, at the end of a run of so many frames, memory did not grow and nothing was left behind."""
        after = held()
        level = self.flat((done, after))
        threads, handles = after.threads - self._before.threads, after.handles - self._before.handles
        print(f"left behind: {threads} threads, {handles} file handles")
        return level and threads <= 0 and handles <= 0


@contextmanager
def meanwhile(work: Callable[..., None], *given: object) -> Iterator["SimpleQueue[Any]"]:
    """What `work(*given, queue)` puts into its queue, in a process of its own that ends with this context."""
    context = get_context("spawn")
    said: SimpleQueue[Any] = context.SimpleQueue()
    process = context.Process(target=work, args=(*given, said), daemon=True)
    process.start()
    try:
        yield said
    finally:
        process.terminate()
        process.join()
        process.close()


def small_scene(width: int, height: int) -> SceneSettings:
    """A scene with three targets, of `SCENE_FRAMES` frames; raises UsageError for a size that is none."""
    random = {"count": 3, "snr": (8.0, 15.0)}
    tree = {"width_px": width, "height_px": height, "frames": SCENE_FRAMES, "random": random}
    return validate(SceneSettings, tree, "--size")


def soak(width: int, height: int, count: int, out: Path) -> bool:
    """Whether nothing grew; prints what was held."""
    scene = small_scene(width, height)
    images = [frame.image for frame in render(scene, 1)]
    settings = RunSettings()
    weights = load_model(settings.model)
    engine = open_engine(weights.network, settings.device, settings.detection.lowest)
    tqdm.monitor_interval = 0  # no thread of its own
    watch = Watch(count)
    out.mkdir(parents=True)
    endless = Endless(images, "soak", scene.frame_rate_hz, count)
    run = Run(endless, out, run_header("soak", endless, weights, engine, settings))
    statistics = RunStatistics()
    for done, _ in enumerate(tqdm(carry_out(run, engine, Event(), statistics), total=count), start=1):
        watch.look(done)
    counts = statistics.counts()
    print(f"{counts.tracks_confirmed} tracks confirmed")
    return watch.given_back(counts.frames_processed)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--frames", type=int, default=100_000)
    parser.add_argument("--size", type=size, default=(64, 48), help="WIDTHxHEIGHT")
    parser.add_argument("--out", type=Path, default=Path("runs/soak"))
    options = parser.parse_args()
    width, height = options.size
    sys.exit(0 if soak(width, height, options.frames, options.out) else 1)


if __name__ == "__main__":
    with told_in_one_line("soak"):
        main()
