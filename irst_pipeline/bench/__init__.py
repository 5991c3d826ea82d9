"""How fast the network, the engine and the whole pipeline are here, on simulated sequences with 20 targets."""

import importlib
import json
import os
import platform
import resource
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, suppress
from dataclasses import asdict, dataclass
from itertools import chain, cycle, islice
from pathlib import Path
from tempfile import TemporaryDirectory
from threading import Barrier, Event, get_native_id
from time import perf_counter, process_time
from typing import Any, TypeVar

import numpy as np
import torch
from torch import nn
from tqdm import tqdm

from irst_pipeline.bench.report import draw, table, trace
from irst_pipeline.bench.speed import (
    WARM_UP,
    PeerSpeed,
    SizeResult,
    Speed,
    pipeline_speed,
    speed_of,
    time_pipeline,
)
from irst_pipeline.config import RunSettings
from irst_pipeline.detection import detect
from irst_pipeline.disk import write_file, write_json
from irst_pipeline.engine import DeviceEngine, Engine, SharedEngine, find_device, load_model, open_engine
from irst_pipeline.errors import UsageError, reason_of
from irst_pipeline.folders import prepare_folder
from irst_pipeline.lsnet.normalise import normalise_image
from irst_pipeline.lsnet.weights import Weights
from irst_pipeline.run import Run, carry_out, run_header
from irst_pipeline.settings import validate
from irst_pipeline.simulation import SceneSettings, render
from irst_pipeline.simulation.scene import SIDE_MAX, SIDE_MIN, RandomSettings
from irst_pipeline.simulation.simulate import SHOWN_FILE, Video8
from irst_pipeline.sources import open_source
from irst_pipeline.statistics import RunStatistics
from irst_pipeline.types import Frame, Image, Span, Work
from irst_pipeline.worker import RunProcess

REPORT_FILE, PICTURE_FILE = "bench.json", "bench.png"
TARGETS = RandomSettings(count=20, snr=(10.0, 20.0))
SEED = 1
RECORDER = {"crf": "20", "preset": "medium"}
"""How the sequences are coded: H.264 as cameras and recorders deliver it, not lossless."""
START_SECONDS = 120.0  # in which all of several processes must have started
FRAMES_MIN = 20
PEER_TURNS = 5
HELD = 16  # frames held in memory for the engine, which takes them again and again

Item = TypeVar("Item")


def run_bench(
    *,
    model: str,
    device: str,
    compiled: bool,
    sizes: list[tuple[int, int]],
    sources: list[int],
    peers: list[str],
    frames: int,
    out: Path,
    overwrite: bool,
    profile: bool,
    stop: Event,
) -> None:
    """Measure at every (width, height), and at the first also with as many pipelines at once as each of `sources` says.

    `peers` are other networks to measure beside ours, each as `open_peer` takes it.
    Writes `bench.json`, `bench.png` and with `profile` a trace a size into `out`, after each size anew. Traces are of
    the pipeline, in the format that chrome://tracing and Perfetto open. Prints a table and what bounds the pipeline.
    Raises IrstError, one line, and KeyboardInterrupt once `stop` is set.
    """
    if frames < FRAMES_MIN:
        raise UsageError(f"--frames {frames}: expected at least {FRAMES_MIN}, for the first {WARM_UP} are not counted")
    if min(sources, default=1) < 1:
        raise UsageError(f"--sources {min(sources)}: expected at least 1")
    scenes = {size: _scene(*size, frames) for size in sizes}
    weights, threshold = load_model(model), RunSettings().detection.lowest
    others = {name: open_peer(name, find_device(device)) for name in peers}
    engine, latency_engine = (
        open_engine(weights.network, device, threshold, newest, compiled) for newest in (False, True)
    )
    bench = _Bench(weights, engine, latency_engine, others, stop)
    traces = [f"trace-{width}x{height}.json" for width, height in scenes] if profile else []
    earlier = [path.name for path in out.glob("trace-*x*.json")]  # perhaps of other sizes
    prepare_folder(out, [REPORT_FILE, PICTURE_FILE, *earlier], [], overwrite)
    what = {
        "model": weights.name,
        "weights_sha256": weights.sha256,
        "device": engine.device,
        "compiled": compiled,
        "machine": platform.platform(),
        "torch": torch.__version__,
        "frames": frames,
        "targets": TARGETS.count,
    }
    results: list[SizeResult] = []
    for scene in tqdm(scenes.values(), desc="sizes", leave=False, disable=None):
        # How the speed changes with the number of sources is measured at one size.
        result, work = bench.measure(scene, [] if results else sorted({*sources} - {1}))
        results.append(result)
        if profile:
            write_file(out / f"trace-{result.size}.json", json.dumps(trace(work, engine.slots)).encode())
        # After each size, so that what was measured is there however long the rest takes.
        write_json(out / REPORT_FILE, what | {"sizes": [asdict(r) for r in results]})
        write_file(out / PICTURE_FILE, draw(f"{weights.name} on {engine.device}", results))
    print(table(results))
    print(f"results  {out}: {' '.join([REPORT_FILE, PICTURE_FILE, *traces])}")


def _scene(width: int, height: int, frames: int) -> SceneSettings:
    if width % 2 or height % 2 or not SIDE_MIN <= min(width, height) <= max(width, height) <= SIDE_MAX:
        raise UsageError(f"--sizes {width}x{height}: expected even sides of {SIDE_MIN} to {SIDE_MAX} px")
    tree = {"width_px": width, "height_px": height, "frames": frames, "random": TARGETS}
    return validate(SceneSettings, tree, f"--frames {frames}")


def open_peer(name: str, device: torch.device) -> nn.Module:
    """The network that MODULE:CLASS makes without arguments, its weights as it starts, for frames (1, 1, H, W).

    Raises UsageError where there is none.
    """
    module, _, kind = name.partition(":")
    try:
        network = getattr(importlib.import_module(module), kind)()
    except (ImportError, AttributeError, TypeError, ValueError) as error:
        raise UsageError(f"--peer {name}: {error}; expected MODULE:CLASS, its folder in PYTHONPATH") from None
    if not isinstance(network, nn.Module) or not any(True for _ in network.parameters()):
        raise UsageError(f"--peer {name}: makes no network of PyTorch that has weights")
    return network.eval().to(device)


@dataclass(frozen=True)
class _Bench:
    """What is measured on each scene."""

    weights: Weights
    engine: DeviceEngine[Any]
    """For recordings."""
    latency_engine: DeviceEngine[Any]
    """For live sources."""
    peers: dict[str, nn.Module]
    stop: Event

    def measure(self, scene: SceneSettings, sources: list[int]) -> tuple[SizeResult, list[Work]]:
        """The speeds on a scene's sequence, and what the pipeline did of each frame."""
        with TemporaryDirectory() as name:
            folder = Path(name)
            with Video8(folder, scene, RECORDER) as video:
                for frame in _until_stopped(render(scene, SEED), self.stop):
                    video.write(frame)
            with closing(open_source(str(folder / SHOWN_FILE))) as source:
                some = list(islice(source, HELD))
            for engine in (self.engine, self.latency_engine):
                engine.prepare(some[0])
            image = some[0].image
            network = _time_network(self.latency_engine, image, scene.frames, self.stop)
            beside = {
                name: _time_peer(name, peer, self.latency_engine, image, self.stop) for name, peer in self.peers.items()
            }
            frames = list(islice(cycle(some), scene.frames))
            found = self.engine.run(_until_stopped(frames, self.stop))
            taken = [Span(span.start, perf_counter()) for _, _, span in found]
            live = _time_one_at_a_time(self.latency_engine, _until_stopped(frames, self.stop))
            cpu, networks = process_time(), _seconds_of_others()
            work = self.run_pipelines(folder, 1)
            # Those that were there before are the network's: all else of a pipeline starts and ends with it.
            of_networks = sum(
                seconds - networks.get(thread, seconds) for thread, seconds in _seconds_of_others().items()
            )
            pipeline = time_pipeline(work, process_time() - cpu - of_networks)
            together = {count: pipeline_speed(self.run_pipelines(folder, count)) for count in sources}
        height, width = image.shape
        memory = round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024, 1)
        return SizeResult(width, height, network, speed_of(taken), live, pipeline, together, beside, memory), work

    def run_pipelines(self, folder: Path, count: int) -> list[Work]:
        """Run `count` pipelines on a folder's video at once; what they did of each frame, in the order of its end."""
        video, settings = str(folder / SHOWN_FILE), RunSettings()

        def run(engine: Engine[Any], index: int) -> list[Work]:
            results = folder / f"{count}-{index}"
            results.mkdir()
            with closing(open_source(video)) as source:
                own = Run(source, results, run_header(video, source, self.weights, engine, settings))
                if count == 1:
                    work = [result.spans for result in carry_out(own, engine, self.stop, RunStatistics())]
                else:
                    work = list(RunProcess(own, realtime=False).results(engine, self.stop))
            _go_on(self.stop)
            return work

        if count == 1:
            return run(self.engine, 0)
        with closing(_AllAtOnce(self.engine, count)) as shared, ThreadPoolExecutor(count) as pool:
            work = pool.map(lambda index: run(shared, index), range(count))
            return sorted(chain.from_iterable(work), key=lambda spans: spans["write"].end)


def _time_network(engine: DeviceEngine[Any], image: Image, count: int, stop: Event) -> Speed:
    once, spans = engine.network_alone(image), []
    for _ in _until_stopped(range(WARM_UP), stop):
        once()
    for _ in _until_stopped(range(count), stop):
        start = perf_counter()
        once()
        spans.append(Span(start, perf_counter()))
    return speed_of(spans)


def _seconds_of_others() -> dict[int, float]:
    """Processor time so far of each thread but this one, by its number."""
    seconds = {}
    for thread in Path("/proc/self/task").iterdir():
        with suppress(OSError):  # it has just ended
            user, system = (thread / "stat").read_text().rpartition(")")[2].split()[11:13]
            seconds[int(thread.name)] = (int(user) + int(system)) / os.sysconf("SC_CLK_TCK")
    del seconds[get_native_id()]
    return seconds


def _time_peer(name: str, peer: nn.Module, engine: DeviceEngine[Any], image: Image, stop: Event) -> PeerSpeed:
    """Raises UsageError where the peer takes no such frames."""
    device = next(peer.parameters()).device
    frame, ours = normalise_image(image, device).frames, engine.network_alone(image)

    @torch.inference_mode()
    def theirs() -> None:
        try:
            peer(frame)
            if device.type == "cuda":
                torch.cuda.synchronize(device)
        except Exception as error:  # whatever a network of others raises
            shape, reason = tuple(frame.shape), reason_of(error).splitlines()[0]
            raise UsageError(f"--peer {name}: fails on a frame {shape} ({reason}); leave it out, or mend it") from error

    seconds: dict[Callable[[], None], list[float]] = {theirs: [], ours: []}
    for _ in _until_stopped(range(1 + PEER_TURNS), stop):
        for once, taken in seconds.items():
            start = perf_counter()
            once()
            taken.append(perf_counter() - start)
    # What is done once, in the first pass, is not counted.
    return PeerSpeed(*(round(1e3 * float(np.median(taken[1:])), 3) for taken in seconds.values()))


def _time_one_at_a_time(engine: Engine[Any], frames: Iterable[Frame]) -> Speed:
    settings, spans = RunSettings().detection, []
    for frame in frames:
        start = perf_counter()
        (found,) = engine.collect(engine.submit([frame.image]))
        detect(frame, found, settings)
        spans.append(Span(start, perf_counter()))
    return speed_of(spans)


class _AllAtOnce(SharedEngine):
    """Is ready for none of its runs before all have come to it: the start of their processes is not counted."""

    def __init__(self, engine: Engine[Any], runs: int) -> None:
        super().__init__(engine)
        self._ready = Barrier(runs, timeout=START_SECONDS)

    def warm_up(self, image: Image, count: int) -> None:
        super().warm_up(image, count)
        self._ready.wait()


def _go_on(stop: Event) -> None:
    if stop.is_set():
        raise KeyboardInterrupt


def _until_stopped(items: Iterable[Item], stop: Event) -> Iterator[Item]:
    for item in items:
        _go_on(stop)
        yield item
