"""`irst bench`: what it says of speed is what happened."""

import json
import signal
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from time import sleep

import numpy as np
import pytest
from torch import Tensor, nn

from irst_pipeline.bench.report import trace
from irst_pipeline.bench.speed import THREADS, WARM_UP, time_pipeline
from irst_pipeline.cli import main
from irst_pipeline.engine.cpu import CpuEngine, Ticket
from irst_pipeline.simulation.simulate import SHOWN_FILE
from irst_pipeline.types import Image, Span, TargetPixels
from tests.running import opened_by, start, wait_until

pytestmark = pytest.mark.alone


class Slow(nn.Conv2d):
    """A network that takes more than 50 ms a frame."""

    def __init__(self) -> None:
        super().__init__(1, 1, 3)

    def forward(self, frames: Tensor) -> Tensor:
        sleep(0.05)
        return super().forward(frames)


class Coloured(nn.Conv2d):
    """A network for pictures of three channels."""

    def __init__(self) -> None:
        super().__init__(3, 1, 3)


NETWORK_MS = 10


class LongEngine(CpuEngine):
    """A network that takes at least `NETWORK_MS` a frame, whatever the machine."""

    def collect(self, ticket: Ticket) -> list[TargetPixels]:
        sleep(NETWORK_MS / 1e3)
        return super().collect(ticket)

    def network_alone(self, image: Image) -> Callable[[], None]:
        once = super().network_alone(image)

        def late() -> None:
            sleep(NETWORK_MS / 1e3)
            once()

        return late


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("bench") / "out"
    out.mkdir()
    (out / "trace-32x32.json").write_text("of an earlier run")
    sizes = ["--sizes", "64x48", "128x96", "--sources", "1", "3", "--peer", "tests.test_bench:Slow"]
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr("irst_pipeline.engine.cpu.CpuEngine", LongEngine)
        assert main(["bench", *sizes, "--frames", "24", "--profile", "--overwrite", "--out", str(out)]) == 0
    return out


def test_figures_agree_with_one_another(folder: Path) -> None:
    report = json.loads((folder / "bench.json").read_text())
    assert report["model"] == "lsnet-nano"
    assert [(size["width"], size["height"]) for size in report["sizes"]] == [(64, 48), (128, 96)]
    for size in report["sizes"]:
        for part in ("network", "engine", "live", "pipeline"):
            latency = size[part]["latency_ms"]
            # Each holds the network.
            assert NETWORK_MS <= latency["p50"] <= latency["p95"] <= latency["p99"]
        # In the engine frames wait for one another, and in the pipeline for more than that.
        assert size["network"]["latency_ms"]["p50"] < size["engine"]["latency_ms"]["p50"]
        assert size["engine"]["latency_ms"]["p50"] < size["pipeline"]["latency_ms"]["p50"]
        pipeline = size["pipeline"]
        slowest = max(pipeline["thread_ms"], key=pipeline["thread_ms"].get)
        assert pipeline["bound_by"] == slowest
        for thread in set(THREADS) - {"network"}:
            stages = sum(pipeline["stage_ms"][stage] for stage in THREADS[thread])
            assert pipeline["thread_ms"][thread] == pytest.approx(stages, abs=0.01)
        # No thread can work for longer than it had.
        assert 0 < pipeline["overlap_efficiency"] <= 1
        assert pipeline["cpu_ms_beside_network"] > 0
        assert size["memory_peak_mb"] > 50
        peer = size["peers"]["tests.test_bench:Slow"]
        assert NETWORK_MS <= peer["network_ms"] < 50 < peer["peer_ms"]
    together = [size["sources"] for size in report["sizes"]]
    assert [list(counts) for counts in together] == [["3"], []]
    assert together[0]["3"]["frames_per_second"] > 0


def test_a_picture_is_drawn(folder: Path) -> None:
    assert (folder / "bench.png").read_bytes().startswith(b"\x89PNG")


def test_the_trace_holds_every_stage_of_every_frame_and_no_row_does_two_things_at_once(folder: Path) -> None:
    events = json.loads((folder / "trace-64x48.json").read_text())["traceEvents"]
    names = {event["tid"]: event["args"]["name"] for event in events if event["ph"] == "M"}
    assert {name.split()[0] for name in names.values()} == set(THREADS)
    work = [event for event in events if event["ph"] == "X"]
    assert {(e["name"], e["args"]["frame"]) for e in work} == {
        (s, f) for t in THREADS.values() for s in t for f in range(24)
    }
    for row, name in names.items():
        own = sorted((e for e in work if e["tid"] == row), key=lambda e: e["ts"])
        assert {e["name"] for e in own} == set(THREADS[name.split()[0]])
        assert all(a["ts"] + a["dur"] <= b["ts"] + 1 for a, b in pairwise(own))
    begun, ended = (
        np.array([e["ts"] + part * e["dur"] for e in work if e["name"] == stage])
        for stage, part in (("read", 0), ("write", 1))
    )
    pipeline = json.loads((folder / "bench.json").read_text())["sizes"][0]["pipeline"]
    assert pipeline["latency_ms"]["p50"] == pytest.approx(np.median((ended - begun)[WARM_UP:]) / 1e3, abs=2e-3)


def test_traces_of_an_earlier_run_are_overwritten_with_its_other_results(folder: Path) -> None:
    assert {path.name for path in folder.glob("trace-*")} == {"trace-64x48.json", "trace-128x96.json"}


def test_times_of_a_trace_begin_with_the_first_frame() -> None:
    frames = [{"read": Span(5.0, 5.5), "network": Span(5.5, 7.0)}, {"read": Span(5.5, 6.0), "network": Span(7.0, 8.0)}]
    work = [event for event in trace(frames, 1)["traceEvents"] if event["ph"] == "X"]
    assert [(e["name"], e["ts"], e["dur"], e["args"]["frame"]) for e in work] == [
        ("read", 0, 500_000, 0),
        ("network", 500_000, 1_500_000, 0),
        ("read", 500_000, 500_000, 1),
        ("network", 2_000_000, 1_000_000, 1),
    ]


def test_a_signal_ends_it_soon_whatever_is_being_timed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Here the network alone, which comes once the sequence is made, and would take half a minute."""
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    process = start("bench", "--sizes", "64x48", "--sources", "1", "--frames", "5000", "--out", tmp_path / "out")

    def made() -> bool:
        videos = {path.resolve() for path in tmp_path.glob(f"*/{SHOWN_FILE}")}
        return bool(videos - opened_by(process.pid))

    wait_until(made, "the sequence is made")
    process.send_signal(signal.SIGTERM)
    _, error = process.communicate(timeout=10)
    assert process.returncode == 130
    assert error.endswith("irst: interrupted\n")


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["--sizes", "64x48", "33x48"], "--sizes 33x48: expected even sides of 16 to 4096 px"),
        (["--sizes", "64x8"], "--sizes 64x8: expected even sides of 16 to 4096 px"),
        (["--frames", "3"], "--frames 3: expected at least 20"),
        (["--sources", "0"], "--sources 0: expected at least 1"),
        (["--model", "lsnet-mega"], "lsnet-mega: no such model"),
        (["--peer", "torch.nn:Nothing"], "--peer torch.nn:Nothing: module 'torch.nn' has no attribute 'Nothing'"),
        (["--peer", "torch.nn:Identity"], "--peer torch.nn:Identity: makes no network"),
        (["--peer", "models"], "--peer models: No module named 'models'; expected MODULE:CLASS"),
    ],
)
def test_bad_arguments_are_told_in_one_line(
    arguments: list[str], line: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    out.mkdir()
    (out / "bench.json").write_text("measured before")
    assert main(["bench", *arguments, "--overwrite", "--out", str(out)]) == 2
    error = capsys.readouterr().err
    assert error.startswith(f"irst: error: {line}")
    assert error.count("\n") == 1
    assert (out / "bench.json").read_text() == "measured before"


def test_a_peer_that_takes_no_infrared_frame_is_told_in_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    peer = "tests.test_bench:Coloured"
    arguments = ["--sizes", "64x48", "--frames", "20", "--sources", "1", "--peer", peer, "--out", str(tmp_path)]
    assert main(["bench", *arguments]) == 2
    last = capsys.readouterr().err.splitlines()[-1]
    assert last.startswith(f"irst: error: --peer {peer}: fails on a frame (1, 1, 48, 64) (Given groups=1, weight of")


def test_frames_that_went_together_are_one_work_of_the_network() -> None:
    """Batches of eight that take 32 ms, two of them under way at a time, beside writing that takes 1.5 ms a frame."""
    work = []
    for batch in range(40):
        network = Span(0.016 * batch, 0.016 * batch + 0.032)
        for frame in range(8):
            done = network.end + 0.0015 * frame
            others = {stage: Span(done, done) for stage in ("detect", "stabilise", "track")}
            work.append({"read": Span(network.start, network.start), "network": network, **others})
            work[-1]["write"] = Span(done, done + 0.0015)
    speed = time_pipeline(work, 1.0)
    assert speed.thread_ms["network"] == pytest.approx(32 / 2 / 8, rel=0.05)
    assert speed.thread_ms["write"] == pytest.approx(1.5)
    assert speed.bound_by == "network"
    assert speed.overlap_efficiency == pytest.approx(1, abs=0.05)
    events = [event for event in trace(work, 2)["traceEvents"] if event["name"] == "network"]
    assert len(events) == 40
    assert {e["tid"] for e in events[::2]} != {e["tid"] for e in events[1::2]}
