"""Watch a camera with a network that is too slow for it: latency must stay bounded, and every frame be accounted for.

usage: python -m tools.soak_live [--seconds 60] [--network-rate 8] [--size 128x128]

A camera pushes 25 frames/s over RTSP (HEVC), by a clock that the latency is measured against: from before a frame is
encoded until its tracks are on disk. Prints what became of the frames, and latencies in the first and the last third
of the time; the exit status is 1 if a frame was lost uncounted, if latency grew, or if it was above three frame periods
and the processing itself.
"""

import argparse
import json
import sys
from collections.abc import Iterator, Sequence
from contextlib import closing, suppress
from itertools import cycle
from multiprocessing.queues import SimpleQueue
from pathlib import Path
from tempfile import TemporaryDirectory
from threading import Event
from time import perf_counter, sleep
from typing import Any, NamedTuple

import av
import numpy as np

from irst_pipeline.cli import size
from irst_pipeline.config import RunSettings
from irst_pipeline.engine import load_model
from irst_pipeline.engine.cpu import CpuEngine, Ticket
from irst_pipeline.errors import told_in_one_line
from irst_pipeline.run import Run, carry_out, run_header
from irst_pipeline.simulation import render
from irst_pipeline.sources import open_source
from irst_pipeline.statistics import RunStatistics
from irst_pipeline.types import Image, TargetPixels
from tools.soak import meanwhile, small_scene
from tools.streaming import LOSSLESS, RATE, free_port, on_time, transmit

PERIODS_MAX = 3
HELD = 1 / RATE  # s; FFmpeg passes a frame of RTP on when the next one begins: before that, it has not arrived
DEPTH = 14  # bits of the simulated frames, of which the stream takes 12
UNDER_WAY = 3  # frames that may be on their way from the camera when it is stopped


class SlowEngine(CpuEngine):
    """Takes `seconds` for each frame at least."""

    seconds = 0.0

    def submit(self, images: Sequence[Image]) -> Ticket:
        self._due = perf_counter() + self.seconds
        return super().submit(images)

    def collect(self, ticket: Ticket) -> list[TargetPixels]:
        found = super().collect(ticket)
        sleep(max(0.0, self._due - perf_counter()))
        return found

    def device_seconds(self, ticket: Ticket) -> float:
        return max(self.seconds, super().device_seconds(ticket))


class Seen(NamedTuple):
    """A frame that was processed."""

    frame: int
    """Its index."""
    latency: float
    """s, from the camera to the tracks."""
    processing: float
    """s, in all stages together."""


def push(images: Sequence[Image], address: str, sent: "SimpleQueue[tuple[int, float]]") -> None:
    """Be the camera: push the images to the address, again and again; says when it does, by number."""

    def noted() -> Iterator[Image]:
        for number, image in enumerate(on_time(cycle(images))):
            sent.put((number, perf_counter()))
            yield image

    while True:
        with suppress(OSError, av.FFmpegError):  # nobody listens yet
            transmit(address, noted(), "rtsp", "libx265", "gray12le", LOSSLESS)
        sleep(0.1)


def watch(width: int, height: int, network_rate: float, seconds: float, folder: Path) -> bool:
    """Whether all was as it should; prints what was seen."""
    scene = small_scene(width, height)
    settings = RunSettings(sinks=("tracks_jsonl",))
    weights = load_model(settings.model)
    engine = SlowEngine(weights.network, settings.detection.lowest, newest=True)
    engine.seconds = 1 / network_rate
    stop, statistics, sent, seen, sent_by_then = Event(), RunStatistics(), dict[int, float](), list[Seen](), 0
    address = f"rtsp://127.0.0.1:{free_port()}/ir"
    images = [(frame.image >> (DEPTH - 12)).astype(np.uint16) for frame in render(scene, 1)]
    with (
        closing(open_source(uri := f"{address}?listen", stop=stop)) as source,
        meanwhile(push, images, address) as said,
    ):
        run = Run(source, folder, run_header(uri, source, weights, engine, settings))
        end = None
        for result in carry_out(run, engine, stop, statistics):
            while not said.empty():
                number, at = said.get()
                sent[number] = at
            spans = result.spans
            processing = sum(span.seconds for stage, span in spans.items() if stage != "read")
            written = spans["write"].end
            seen.append(Seen(result.frame.index, written - sent[result.frame.index], processing))
            end = written + seconds if end is None else end
            if written > end and not stop.is_set():
                stop.set()
                sent_by_then = len(sent)
    report = statistics.report(source)
    records = [json.loads(line) for line in (folder / "tracks.jsonl").read_text().splitlines()]
    dropped = [record for record in records if record["record"] == "dropped"]
    return accounted(report, sent_by_then, seen, dropped) and in_time(report, seen)


def accounted(report: dict[str, Any], sent: int, seen: list[Seen], dropped: list[dict[str, Any]]) -> bool:
    """Whether each frame that was sent was processed or said to be dropped; prints the counts."""
    read, processed, lost = (report[f"frames_{what}"] for what in ("read", "processed", "dropped"))
    causes = ", ".join(f"{cause} {count}" for cause, count in report["dropped"].items())
    print(f"{sent} frames sent, {read} read = {processed} processed + {lost} dropped ({causes})")
    known = [one.frame for one in seen]
    for record in dropped:
        known += range(record["first"], record["last"] + 1)
    logged = {cause: sum(r["count"] for r in dropped if r["cause"] == cause) for cause in report["dropped"]}
    complete = sorted(known) == list(range(read)) and logged == report["dropped"]
    return complete and read == processed + lost == processed + sum(logged.values()) and sent - read <= UNDER_WAY


def in_time(report: dict[str, Any], seen: list[Seen]) -> bool:
    """Whether latency was bounded, did not grow, and was reported as it was; prints it."""
    latency, processing = np.array([(one.latency, one.processing) for one in seen]).T
    third = len(seen) // 3
    for name, part in (("first third", latency[:third]), ("last third", latency[-third:]), ("all", latency)):
        p50, p95, most = 1e3 * np.percentile(part, (50, 95, 100))
        print(f"latency {name:12} p50 {p50:.0f} ms  p95 {p95:.0f} ms  max {most:.0f} ms")
    reported = report["latency_ms"]["glass_to_track"]["p50"]
    print(f"of which processing  p50 {1e3 * np.median(processing):.0f} ms")
    print(f"latency as reported  p50 {reported:.0f} ms")
    growth = np.median(latency[-third:]) - np.median(latency[:third])
    bounded = np.percentile(latency - processing, 95) < PERIODS_MAX / RATE
    told = abs(1e-3 * reported + HELD - np.median(latency)) < 1 / RATE
    return bool(bounded and growth < 1 / RATE and told)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--network-rate", type=float, default=8.0, help="frames/s (default: %(default)s)")
    parser.add_argument("--size", type=size, default=(128, 128), help="WIDTHxHEIGHT")
    options = parser.parse_args()
    width, height = options.size
    with TemporaryDirectory() as folder:
        well = watch(width, height, options.network_rate, options.seconds, Path(folder))
    sys.exit(0 if well else 1)


if __name__ == "__main__":
    with told_in_one_line("soak_live"):
        main()
