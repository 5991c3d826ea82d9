"""The benchmark of trackers."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

EASY = ("velocity_sd_px=0.2", "noise_px=0.5", "false_alarms=0", "detection_probability=1", "frames=40")
Benchmark = Callable[..., tuple[dict[str, Any], list[str]]]


@pytest.fixture
def benchmark(tmp_path: Path, start_tool: Callable[..., int], capsys: pytest.CaptureFixture[str]) -> Benchmark:
    """What the results say of our own tracker, and the lines of the table."""
    pytest.importorskip("trackeval")

    def results(*options: str) -> tuple[dict[str, Any], list[str]]:
        scene = [word for setting in EASY for word in ("--set", setting)]
        assert start_tool("benchmark_trackers", "--targets", 5, "--runs", 2, "--out", tmp_path, *scene, *options) == 0
        found = json.loads((tmp_path / "results.json").read_text())["results"]
        return next(one for one in found if one["tracker"] == "irst_pipeline"), capsys.readouterr().out.splitlines()

    return results


def test_what_is_easy_is_tracked(benchmark: Benchmark) -> None:
    own, table = benchmark()
    assert len(own["runs"]) == 2
    for run in own["runs"]:
        assert run["HOTA"] > 0.95  # some tracks are confirmed late
        assert run["MOTA"] > 0.95
        assert run["GOSPA px"] < 5
        assert run["false a frame"] == 0
    assert len(own["milliseconds"]) == 2 * 30
    assert min(own["milliseconds"]) > 0
    assert any(line.startswith("| 5 | irst_pipeline | 2 |") for line in table)


def test_clutter_is_not_counted_as_tracks(benchmark: Benchmark) -> None:
    own, _ = benchmark("--set", "false_alarms=20")
    for run in own["runs"]:
        assert run["HOTA"] > 0.9
        assert run["false a frame"] < 0.1


def test_the_tracker_knows_how_sure_it_is(benchmark: Benchmark) -> None:
    own, _ = benchmark("--targets", "40", "--set", "false_alarms=20", "--set", "noise_px=3")
    for name in ("NEES", "NIS"):
        assert np.mean([run[name] for run in own["runs"]]) == pytest.approx(2, abs=0.25)


def test_a_spent_budget_breaks_a_tracker_off(benchmark: Benchmark) -> None:
    own, table = benchmark("--budget", "0.001")
    assert own["runs"] == []
    assert any(line.startswith("| 5 | irst_pipeline | 0 |") and line.endswith("| - |") for line in table)
