"""How many frames a second came out, and what took how long, from what was worked on when."""

import math
from dataclasses import asdict, dataclass
from itertools import chain

import numpy as np

from irst_pipeline.types import Span, Work

WARM_UP = 5  # frames that are not counted
THREADS = {"read": ("read",), "network": ("network",), "track": ("detect", "stabilise", "track"), "write": ("write",)}
"""The threads of the pipeline and the stages that each works on."""


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
    """Processor time a frame of all threads but those in which a processor runs the network."""


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


def time_pipeline(work: list[Work], cpu_seconds: float) -> PipelineSpeed:
    """The speed of one pipeline that took `cpu_seconds` beside its network."""
    counted = work[WARM_UP:]
    stages = {stage: sum(spans[stage].seconds for spans in counted) for stage in chain(*THREADS.values())}
    busy = {thread: sum(stages[stage] for stage in worked) for thread, worked in THREADS.items()}
    busy["network"] = _covered(network_spans(counted))
    slowest = max(busy, key=lambda thread: busy[thread])
    first, last = THREADS[slowest][0], THREADS[slowest][-1]
    return PipelineSpeed(
        **asdict(pipeline_speed(work)),
        thread_ms=_a_frame(busy, len(counted)),
        stage_ms=_a_frame(stages, len(counted)),
        bound_by=slowest,
        overlap_efficiency=round(busy[slowest] / (counted[-1][last].end - counted[0][first].start), 3),
        cpu_ms_beside_network=round(1e3 * cpu_seconds / len(work), 3),
    )


def network_spans(work: list[Work]) -> list[Span]:
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


def pipeline_speed(work: list[Work]) -> Speed:
    return speed_of([Span(spans["read"].start, spans["write"].end) for spans in work])


def speed_of(spans: list[Span]) -> Speed:
    """Rate and latency of frames, from when each went in to when it came out; the first frames only fill the stages."""
    spans = spans[WARM_UP:]
    latency = np.percentile([1e3 * span.seconds for span in spans], (50, 95, 99))
    rate = (len(spans) - 1) / (spans[-1].end - spans[0].end)
    return Speed(round(rate, 2), {f"p{p}": round(float(v), 3) for p, v in zip((50, 95, 99), latency, strict=True)})
