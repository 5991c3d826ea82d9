"""What was measured, as a trace, a table and a picture."""

from typing import Any

from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator

from irst_pipeline.bench.speed import THREADS, SizeResult, Speed, network_spans
from irst_pipeline.pictures import as_written, png
from irst_pipeline.types import Work


def trace(work: list[Work], slots: int) -> dict[str, Any]:
    """What was done when, in the Trace Event Format, times in us from the first frame on.

    A row a thread, but one for each of the `slots` batches of frames that the network works on at a time.
    """
    origin = work[0]["read"].start
    thread_of = {stage: thread for thread, worked in THREADS.items() for stage in worked}
    rows: dict[str, int] = {}
    events = []
    batches = {id(span): number for number, span in enumerate(network_spans(work))}
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
