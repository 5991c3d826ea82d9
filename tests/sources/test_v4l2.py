"""Cameras of Video4Linux: FFmpeg's driver on a device that a preloaded library plays."""

import os
import shutil
import signal
import stat
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from tests.running import ROOT, report
from tests.sources.cameras import HEIGHT, WIDTH, thermal

FRAMES, PULLED, TORN = 30, 12, 5
READ = """
import sys
import numpy as np
from itertools import islice
from irst_pipeline.config import LiveSettings
from irst_pipeline.sources import open_source
source = open_source(sys.argv[1], live=LiveSettings(open_seconds=2.0, read_seconds=0.5, retry_seconds=0.5))
frames = list(islice(source, int(sys.argv[3])))
source.close()
np.savez(
    sys.argv[2],
    images=[frame.image for frame in frames],
    indices=[frame.index for frame in frames],
    times=[frame.time for frame in frames],
    failed=source.frames_failed,
    reconnects=source.reconnects,
)
"""
Starts = Callable[..., "subprocess.Popen[str]"]


@pytest.fixture
def device(tmp_path: Path) -> Path:
    path = tmp_path / "video0"
    try:
        os.mknod(path, 0o600 | stat.S_IFCHR, os.makedev(81, 0))
    except PermissionError:
        pytest.skip("NOT TESTED: cameras of Video4Linux; a device needs root")
    return path


@pytest.fixture
def on_camera(device: Path, tmp_path: Path) -> Starts:
    """Starts Python with these arguments on a machine with the camera, which begins anew."""
    if shutil.which("cc") is None:
        pytest.skip("NOT TESTED: cameras of Video4Linux; there is no C compiler")
    library, frames = tmp_path / "camera.so", tmp_path / "frames"
    source = Path(__file__).with_name("v4l2_camera.c")
    subprocess.run(["cc", "-shared", "-fPIC", "-o", library, source, "-ldl"], check=True)
    frames.write_bytes(b"".join(thermal(number, bits=16).tobytes() for number in range(FRAMES)))
    camera = {
        "CAMERA_DEVICE": str(device),
        "CAMERA_FRAMES": str(frames),
        "CAMERA_SIZE": f"{WIDTH}x{HEIGHT}",
        "CAMERA_PULLED": str(PULLED),
        "CAMERA_TORN": str(TORN),
        "LD_PRELOAD": str(library),
    }

    def start(*arguments: object) -> "subprocess.Popen[str]":
        command = [sys.executable, *map(str, arguments)]
        return subprocess.Popen(command, cwd=ROOT, env=os.environ | camera, stderr=subprocess.PIPE, text=True)

    return start


def read(on_camera: Starts, uri: str, out: Path, count: int) -> tuple[dict[str, NDArray[Any]], str]:
    """What the source gave, and what it said."""
    process = on_camera("-c", READ, uri, out, count)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 0, said
    with np.load(out) as file:
        return dict(file), said


def test_16_bits_are_the_same_levels_and_a_pulled_cable_is_a_reconnect(
    device: Path, on_camera: Starts, tmp_path: Path
) -> None:
    uri = f"v4l2://{device}?format=gray16le&size={WIDTH}x{HEIGHT}&fps=50"
    got, said = read(on_camera, uri, tmp_path / "got.npz", FRAMES - 1)
    sent = [number for number in range(FRAMES) if number != TORN]
    assert got["images"].dtype == np.uint16
    np.testing.assert_array_equal(got["images"], [thermal(number, bits=16) for number in sent])
    np.testing.assert_array_equal(got["indices"], sent)
    np.testing.assert_allclose(got["times"][: PULLED - 1], 0.02 * np.array(sent[: PULLED - 1]), atol=2e-3)
    assert (np.diff(got["times"]) > 0).all()
    assert (int(got["failed"]), int(got["reconnects"])) == (1, (FRAMES - 1) // PULLED)
    assert f"video0: frame {TORN} is damaged" in said
    assert "no frames (No such device); connecting again until they come" in said


def test_a_run_on_a_camera_that_falls_silent_tries_again_until_it_is_stopped(
    device: Path, on_camera: Starts, tmp_path: Path
) -> None:
    run = (
        "-m",
        "irst_pipeline.cli",
        "run",
        f"v4l2://{device}",
        "--out",
        tmp_path / "out",
        "--device",
        "cpu",
        "--no-video",
    )
    process = on_camera(*run, "--set", "live.read_seconds=0.5")
    assert process.stderr is not None
    next(line for line in process.stderr if "video0: no frames (nothing came in time)" in line)
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=20)
    assert process.returncode == 0
    counted = report(tmp_path / "out")
    assert (counted["outcome"], counted["frames_read"], counted["frames_failed"]) == ("interrupted", FRAMES - 1, 1)


def test_a_camera_that_sends_another_format_than_is_asked_for_is_told(
    device: Path, on_camera: Starts, tmp_path: Path
) -> None:
    process = on_camera("-c", READ, f"v4l2://{device}?format=gray", tmp_path / "got.npz", 1)
    assert process.stderr is not None
    said = next(line for line in process.stderr if "no frames" in line)
    process.kill()
    process.communicate()
    assert "video0: no frames (it sends gray16le, not the gray that it is asked for)" in said
