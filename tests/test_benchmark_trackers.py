"""The benchmark of trackers."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

TOOL = Path(__file__).parents[1] / "tools" / "benchmark_trackers.py"
EASY = ("velocity_sd_px=0.2", "noise_px=0.5", "false_alarms=0", "detection_probability=1", "frames=40")


def benchmark(out: Path, *options: str) -> tuple[dict[str, Any], list[str]]:
    """What the results say of our own tracker, and the lines of the table."""
    pytest.importorskip("trackeval")
    scene = [word for setting in EASY for word in ("--set", setting)]
    command = [sys.executable, str(TOOL), "--targets", "5", "--runs", "2", "--out", str(out), *scene, *options]
    table = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    results = json.loads((out / "results.json").read_text())["results"]
    return next(found for found in results if found["tracker"] == "irst_pipeline"), table.splitlines()


def test_what_is_easy_is_tracked(tmp_path: Path) -> None:
    own, table = benchmark(tmp_path)
    assert len(own["runs"]) == 2
    for run in own["runs"]:
        assert run["HOTA"] > 0.95  # some tracks are confirmed late
        assert run["MOTA"] > 0.95
        assert run["GOSPA"] < 5
        assert run["false tracks"] == 0
    assert len(own["milliseconds"]) == 2 * 30
    assert min(own["milliseconds"]) > 0
    assert any(line.startswith("| 5 | irst_pipeline | 2 |") for line in table)


def test_clutter_is_not_counted_as_tracks(tmp_path: Path) -> None:
    own, _ = benchmark(tmp_path, "--set", "false_alarms=20")
    for run in own["runs"]:
        assert run["HOTA"] > 0.9
        assert run["false tracks"] < 0.1


def test_a_spent_budget_breaks_a_tracker_off(tmp_path: Path) -> None:
    own, table = benchmark(tmp_path, "--budget", "0.001")
    assert own["runs"] == []
    assert any(line.startswith("| 5 | irst_pipeline | 0 |") and line.endswith("| - |") for line in table)
