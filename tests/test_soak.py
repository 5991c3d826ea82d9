"""A short soak: whatever a run holds, it gives back."""

import os
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.running import ROOT

pytestmark = pytest.mark.alone

SYSTEM_PYTHON = "/usr/bin/python3"
Soaks = dict[str, Future["subprocess.CompletedProcess[str]"]]


def test_a_camera_too_fast_for_the_network_is_late_by_no_more_than_it_must_and_every_frame_is_counted() -> None:
    command = [sys.executable, "-m", "tools.soak_live", "--seconds", "20"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_a_point_keeps_its_id_while_its_camera_is_killed_and_frozen_and_another_one_loses_packets(
    tmp_path: Path,
) -> None:
    probe = [SYSTEM_PYTHON, "tools/live_cameras.py", "check"]
    if not Path(SYSTEM_PYTHON).exists() or subprocess.run(probe, cwd=ROOT, check=False).returncode:
        pytest.skip(f"NOT TESTED: RTSP; {SYSTEM_PYTHON} needs python3-gi, GStreamer's RTSP server and its x264enc")
    outages = ["--outages", "kill:3", "freeze:5", "--apart", "2", "--again", "8"]
    command = [sys.executable, "-m", "tools.soak_outages", *outages, "--out", str(tmp_path)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=240, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "kill for 3 s: noticed after" in done.stdout


@pytest.fixture(scope="module")
def soaks(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Soaks]:
    """Those in which time does not matter, two at a time, the longest first."""
    out = tmp_path_factory.mktemp("soaks")
    environment = {**os.environ}  # pytest changes its own with every test, amid which no process may be started
    commands = {
        "run": ["tools.soak", "--frames", "3000", "--out", str(out / "run")],
        "camera": ["tools.soak_camera", "--frames", "3000", "--each", "600", "--out", str(out / "camera")],
        "nearest": ["tools.soak_tracker", "--frames", "1500", "--association", "nearest"],
        "joint": ["tools.soak_tracker", "--frames", "1500", "--association", "joint"],
    }

    def soak(name: str) -> "subprocess.CompletedProcess[str]":
        command = [sys.executable, "-m", *commands[name]]
        return subprocess.run(
            command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=240, check=False
        )

    with ThreadPoolExecutor(2) as pool:
        yield {name: pool.submit(soak, name) for name in commands}


def test_a_run_leaves_no_thread_and_no_file_open_and_holds_no_more_at_its_end(soaks: Soaks) -> None:
    done = soaks["run"].result()
    assert done.returncode == 0, done.stdout
    assert "left behind: 0 threads, 0 file handles" in done.stdout


def test_a_camera_that_hangs_up_again_and_again_leaves_nothing_behind(soaks: Soaks) -> None:
    done = soaks["camera"].result()
    assert done.returncode == 0, done.stdout + done.stderr
    assert "left behind: 0 threads, 0 file handles" in done.stdout


@pytest.mark.parametrize("association", ["nearest", "joint"])
def test_a_tracker_stays_sound_whatever_the_clock_and_the_camera_do(association: str, soaks: Soaks) -> None:
    done = soaks[association].result()
    assert done.returncode == 0, done.stdout + done.stderr
    assert "memory grew by" in done.stdout
