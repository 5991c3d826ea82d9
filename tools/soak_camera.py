"""Watch a camera that hangs up again and again, for very many frames: memory, threads and handles must not grow.

usage: python -m tools.soak_camera [--frames 180000] [--rate 100] [--each 1000] [--size 64x48] [--out DIR]
                                   [--set rotate.hours=1]

A camera of its own process sends a simulated scene in NUT over TCP, as many frames a second as said: 180,000 frames
are two hours of 25 a second. After `--each` frames it closes the connection and waits to be called again. What is held
is looked at a hundred times on the way; the exit status is 1 if it grew, if something was left behind, or if not every
frame read was processed or dropped. Linux only.
"""

import argparse
import sys
from collections.abc import Sequence
from contextlib import closing, suppress
from itertools import cycle, islice
from multiprocessing.queues import SimpleQueue
from pathlib import Path
from socket import IPPROTO_TCP, TCP_NODELAY, create_server
from threading import Event

import av
from tqdm import tqdm

from irst_pipeline.cli import size
from irst_pipeline.config import RunSettings
from irst_pipeline.engine import load_model, open_engine
from irst_pipeline.errors import told_in_one_line
from irst_pipeline.run import Run, carry_out, run_header
from irst_pipeline.settings import read_settings
from irst_pipeline.simulation import render
from irst_pipeline.sources import open_source
from irst_pipeline.statistics import RunStatistics
from irst_pipeline.types import Image
from tools.soak import Watch, meanwhile, small_scene
from tools.streaming import on_time, transmit


def send(images: Sequence[Image], rate: int, each: int, ports: "SimpleQueue[int]") -> None:
    """Be the camera; says its port."""
    coming = cycle(images)
    with create_server(("127.0.0.1", 0)) as server:
        ports.put(server.getsockname()[1])
        while True:
            connection, _ = server.accept()
            connection.setsockopt(IPPROTO_TCP, TCP_NODELAY, 1)  # else small frames would wait for one another
            with suppress(OSError, av.FFmpegError), connection, connection.makefile("wb", buffering=0) as out:
                transmit(out, on_time(islice(coming, each), rate), rate=rate)


def soak(width: int, height: int, count: int, rate: int, each: int, out: Path, settings: RunSettings) -> bool:
    """Whether nothing grew and all frames are accounted for; prints what was held."""
    scene = small_scene(width, height)
    images = [frame.image for frame in render(scene, 1)]
    weights = load_model(settings.model)
    engine = open_engine(weights.network, settings.device, settings.detection.lowest, newest=True)
    tqdm.monitor_interval = 0  # no thread of its own
    out.mkdir(parents=True)
    statistics, stop = RunStatistics(), Event()
    with meanwhile(send, images, rate, each) as ports:
        uri, watch = f"tcp://127.0.0.1:{ports.get()}", Watch(count)
        with closing(open_source(uri, stop=stop)) as source:
            run = Run(source, out, run_header(uri, source, weights, engine, settings))
            results = carry_out(run, engine, stop, statistics)
            for result in tqdm(results, total=count, unit_scale=True):
                done = result.frame.index + 1
                watch.look(done)
                if done >= count:
                    stop.set()
        report = statistics.report(source)
        sound = watch.given_back(report["frames_read"])
    read, processed, dropped = (report[f"frames_{what}"] for what in ("read", "processed", "dropped"))
    print(f"{read} read = {processed} processed + {dropped} dropped, {source.reconnects} reconnects")
    return sound and read == processed + dropped and source.reconnects >= count // each - 1


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--frames", type=int, default=180_000)
    parser.add_argument("--rate", type=int, default=100, help="frames/s (default: %(default)s)")
    parser.add_argument("--each", type=int, default=1000, help="frames to a connection (default: %(default)s)")
    parser.add_argument("--size", type=size, default=(64, 48), help="WIDTHxHEIGHT")
    parser.add_argument("--out", type=Path, default=Path("runs/soak-camera"))
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE")
    options = parser.parse_args()
    width, height = options.size
    settings = read_settings(RunSettings, None, options.set)
    sys.exit(0 if soak(width, height, options.frames, options.rate, options.each, options.out, settings) else 1)


if __name__ == "__main__":
    with told_in_one_line("soak_camera"):
        main()
