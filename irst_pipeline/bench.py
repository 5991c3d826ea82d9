"""How fast the network, the engine and the whole pipeline are here, on simulated sequences with 20 targets."""

import importlib
import json
import math
import platform
import resource
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import asdict, dataclass
from itertools import chain, cycle, islice
from pathlib import Path
from tempfile import TemporaryDirectory
from threading import Barrier, Event
from time import perf_counter, process_time
from typing import Any, TypeVar

import numpy as np
import torch
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator
from torch import nn
from tqdm import tqdm

from irst_pipeline.config import RunSettings
from irst_pipeline.detection import detect
from irst_pipeline.disk import prepare_folder, write_file, write_json
from irst_pipeline.engine import DeviceEngine, Engine, SharedEngine, find_device, load_model, open_engine
from irst_pipeline.errors import UsageError
from irst_pipeline.lsnet.normalise import normalise_image
from irst_pipeline.lsnet.weights import Weights
from irst_pipeline.pictures import as_written, png
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
WARM_UP = 5  # frames that are not counted
START_SECONDS = 120.0  # in which all of several processes must have started
FRAMES_MIN = 20
PEER_TURNS = 5
HELD = 16  # frames held in memory for the engine, which takes them again and again
THREADS = {"read": ("read",), "network": ("network",), "track": ("detect", "stabilise", "track"), "write": ("write",)}
"""The threads of the pipeline and the stages that each works on."""

Item = TypeVar("Item")


@dataclass(frozen=True)
class Speed:
    """How many frames a second came out, and how long one took."""

    frames_per_second: float
    latency_ms: dict[str, float]
    """p50, p95, p99."""


@dataclass(frozen=True)
class PipelineSpeed(Speed):
    """Of the pipeline; latency is from before a frame is read until all files hold its result."""

    thread_ms: dict[str, float]
    """Mean time that each thread worked for a frame; the network works while it has any frame."""
    stage_ms: dict[str, float]
    """Mean time that each stage worked on a frame; of the network from its upload to its result."""
    bound_by: str
    """The slowest of the threads."""
    overlap_efficiency: float
    """Frames a second that the slowest thread passed on over what it could alone: the share of the time that it worked.
    1 if it never waited for another."""
    cpu_ms_beside_network: float
    """Processor time a frame, less that of the network alone."""


@dataclass(frozen=True)
class PeerSpeed:
    """Median time of one pass of another network and of ours, which took turns on the same frame."""

    peer_ms: float
    network_ms: float


@dataclass(frozen=True)
class SizeResult:
    """The speeds at one frame size."""

    width: int
    height: int
    network: Speed
    """On a frame that is normalised and on the device, one at a time."""
    engine: Speed
    """From a frame in memory to the pixels found in it, with as many in flight as recordings have."""
    live: Speed
    """From a frame in memory to its detections, one at a time, as those of a live source are searched."""
    pipeline: PipelineSpeed
    """From a video file to logs and annotated video."""
    sources: dict[int, Speed]
    """By the number of pipelines that run at once through one engine: the speed of all together."""
    peers: dict[str, PeerSpeed]
    memory_peak_mb: float
    """The process's highest resident memory so far."""

    @property
    def size(self) -> str:
        return f"{self.width}x{self.height}"


def run_bench(
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
    prepare_folder(out, [REPORT_FILE, PICTURE_FILE, *traces], [], overwrite)
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
            network, _ = _time_network(self.latency_engine, image, scene.frames, self.stop)
            _, network_cpu = _time_network(self.engine, image, scene.frames, self.stop)
            beside = {
                name: _time_peer(peer, self.latency_engine, image, self.stop) for name, peer in self.peers.items()
            }
            frames = list(islice(cycle(some), scene.frames))
            found = self.engine.run(_until_stopped(frames, self.stop))
            taken = [Span(span.start, perf_counter()) for _, _, span in found]
            live = _time_one_at_a_time(self.latency_engine, _until_stopped(frames, self.stop))
            cpu = process_time()
            work = self.run_pipelines(folder, 1)
            pipeline = time_pipeline(work, process_time() - cpu - len(work) * network_cpu)
            together = {count: _pipeline_speed(self.run_pipelines(folder, count)) for count in sources}
        height, width = image.shape
        memory = round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024, 1)
        return SizeResult(width, height, network, _speed(taken), live, pipeline, together, beside, memory), work

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


def _time_network(engine: DeviceEngine[Any], image: Image, count: int, stop: Event) -> tuple[Speed, float]:
    """The network's speed, and its processor time a pass in s."""
    once = engine.network_alone(image)
    for _ in _until_stopped(range(WARM_UP), stop):
        once()
    cpu, spans = process_time(), []
    for _ in _until_stopped(range(count), stop):
        start = perf_counter()
        once()
        spans.append(Span(start, perf_counter()))
    return _speed(spans), (process_time() - cpu) / count


def _time_peer(peer: nn.Module, engine: DeviceEngine[Any], image: Image, stop: Event) -> PeerSpeed:
    device = next(peer.parameters()).device
    frame, ours = normalise_image(image, device).frames, engine.network_alone(image)

    @torch.inference_mode()
    def theirs() -> None:
        peer(frame)
        if device.type == "cuda":
            torch.cuda.synchronize(device)

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
    return _speed(spans)


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


def time_pipeline(work: list[Work], cpu_seconds: float) -> PipelineSpeed:
    """The speed of one pipeline that took `cpu_seconds` beside its network."""
    counted = work[WARM_UP:]
    stages = {stage: sum(spans[stage].seconds for spans in counted) for stage in chain(*THREADS.values())}
    busy = {thread: sum(stages[stage] for stage in worked) for thread, worked in THREADS.items()}
    busy["network"] = _covered(_distinct(counted))
    slowest = max(busy, key=lambda thread: busy[thread])
    first, last = THREADS[slowest][0], THREADS[slowest][-1]
    return PipelineSpeed(
        **asdict(_pipeline_speed(work)),
        thread_ms=_a_frame(busy, len(counted)),
        stage_ms=_a_frame(stages, len(counted)),
        bound_by=slowest,
        overlap_efficiency=round(busy[slowest] / (counted[-1][last].end - counted[0][first].start), 3),
        cpu_ms_beside_network=round(1e3 * cpu_seconds / len(work), 3),
    )


def _distinct(work: list[Work]) -> list[Span]:
    """When the network worked on each batch of frames."""
    return list({id(spans["network"]): spans["network"] for spans in work}.values())


def _covered(spans: list[Span]) -> float:
    """Seconds in which at least one of the spans was under way."""
    covered, until = 0.0, -math.inf
    for span in sorted(spans, key=lambda span: span.start):
        covered += max(0.0, span.end - max(span.start, until))
        until = max(until, span.end)
    return covered


def _a_frame(seconds: dict[str, float], frames: int) -> dict[str, float]:
    return {name: round(1e3 * total / frames, 3) for name, total in seconds.items()}


def _pipeline_speed(work: list[Work]) -> Speed:
    return _speed([Span(spans["read"].start, spans["write"].end) for spans in work])


def _speed(spans: list[Span]) -> Speed:
    """Rate and latency of frames, from when each went in to when it came out; the first frames only fill the stages."""
    spans = spans[WARM_UP:]
    latency = np.percentile([1e3 * span.seconds for span in spans], (50, 95, 99))
    rate = (len(spans) - 1) / (spans[-1].end - spans[0].end)
    return Speed(round(rate, 2), {f"p{p}": round(float(v), 3) for p, v in zip((50, 95, 99), latency, strict=True)})


def trace(work: list[Work], slots: int) -> dict[str, Any]:
    """What was done when, in the Trace Event Format, times in us from the first frame on.

    A row a thread, but one for each of the `slots` batches of frames that the network works on at a time.
    """
    origin = work[0]["read"].start
    thread_of = {stage: thread for thread, worked in THREADS.items() for stage in worked}
    rows: dict[str, int] = {}
    events = []
    batches = {id(span): number for number, span in enumerate(_distinct(work))}
    for index, spans in enumerate(work):
        for stage, span in spans.items():
            name = thread_of[stage]
            if stage == "network":
                if (batch := batches.pop(id(span), None)) is None:
                    continue  # it went with one that is shown
                name = f"network {batch % slots + 1}"
            row = rows.setdefault(name, len(rows))
            at = {"ts": 1e6 * (span.start - origin), "dur": 1e6 * span.seconds, "pid": 0, "tid": row}
            events.append({"name": stage, "ph": "X", **at, "args": {"frame": index}})
    names = [
        {"name": "thread_name", "ph": "M", "pid": 0, "tid": row, "args": {"name": name}} for name, row in rows.items()
    ]
    return {"traceEvents": names + events, "displayTimeUnit": "ms"}


def table(results: list[SizeResult]) -> str:
    """Frames a second and latencies in ms, a line a size and a verdict each."""
    columns = f"{'frames/s':>10}{'p50 ms':>8}{'p99 ms':>8}"
    lines = [
        f"{'':12}{'network':^26}{'engine':^26}{'live':^26}{'pipeline':^26}",
        f"{'size':12}{4 * columns}{'overlap':>9}{'other CPU ms':>14}{'peak MB':>9}",
    ]
    for r in results:
        speeds = "".join(
            f"{s.frames_per_second:10.1f}{s.latency_ms['p50']:8.1f}{s.latency_ms['p99']:8.1f}"
            for s in (r.network, r.engine, r.live, r.pipeline)
        )
        p = r.pipeline
        rest = f"{p.overlap_efficiency:9.2f}{p.cpu_ms_beside_network:14.1f}{r.memory_peak_mb:9.0f}"
        lines.append(f"{r.size:12}{speeds}{rest}")
    for r in results:
        p = r.pipeline
        stages = ", ".join(f"{thread} {ms:.1f} ms" for thread, ms in p.thread_ms.items())
        lines.append(f"{r.size} is bound by {p.bound_by}: of each frame {stages}")
        for count, speed in r.sources.items():
            lines.append(f"{count} sources of {r.size}: {speed.frames_per_second:.1f} frames/s in all")
        for name, beside in r.peers.items():
            times = f"{beside.peer_ms:.1f} ms a frame of {r.size}, ours {beside.network_ms:.1f} ms"
            ratio = beside.peer_ms / beside.network_ms
            lines.append(f"{name}: {times} in turns: ours is {ratio:.1f} times as fast")
    return "\n".join(lines)


def draw(title: str, results: list[SizeResult]) -> bytes:
    """A PNG of frames a second over pixels, and over the number of sources."""
    figure = Figure(figsize=(12, 5), layout="constrained")
    figure.suptitle(as_written(title))
    sizes, sources = figure.subplots(1, 2)
    ordered = sorted(results, key=lambda r: r.width * r.height)
    for name in ("network", "engine", "live", "pipeline"):
        rates = [getattr(r, name).frames_per_second for r in ordered]
        sizes.loglog([r.width * r.height for r in ordered], rates, "o-", label=name)
    sizes.set_xticks([r.width * r.height for r in ordered], [r.size for r in ordered], rotation=30)
    sizes.set(xlabel="px a frame", ylabel="frames/s")
    for r in results:
        if r.sources:
            speeds: dict[int, Speed] = {1: r.pipeline, **r.sources}
            rates = [speed.frames_per_second for speed in speeds.values()]
            sources.plot(list(speeds), rates, "o-", label=r.size, clip_on=False)
            sources.set_xticks(list(speeds))
    sources.set(xlabel="sources at once", ylabel="frames/s of all pipelines together", ylim=(0, None))
    sizes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    sizes.yaxis.set_major_formatter("{x:g}")
    sizes.minorticks_off()
    for axes in (sizes, sources):
        axes.grid(alpha=0.3)
        if axes.has_data():
            axes.legend()
    return png(figure)
