"""What all tests share."""

import logging
import os
import runpy
import subprocess
import sys
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path

import av.logging
import cv2
import numpy as np
import pytest

# As the command does, before PyTorch is imported: threads that spin while they wait make everything slower. So do more
# threads than cores, here and in the processes that tests start: each of pytest's workers has its share of the cores.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
os.environ.setdefault(
    "OMP_NUM_THREADS", str(max(1, (os.cpu_count() or 1) // int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))))
)

import torch

TOOLS = Path(__file__).parents[1] / "tools"


@pytest.fixture(autouse=True)
def _quiet() -> Iterator[None]:
    """A live stream has FFmpeg log for the whole process, and a command this project; pytest records what no handler of
    ours passes on."""
    yield
    av.logging.set_level(None)
    logging.getLogger("irst").setLevel(logging.NOTSET)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Tests that need a GPU or the real recordings skip where there are none, and say so."""
    no_gpu = pytest.mark.skip(reason="no CUDA device")
    no_data = pytest.mark.skip(reason="IRST_DATA does not name the folder of real recordings")
    for item in items:
        if item.get_closest_marker("gpu") and not torch.cuda.is_available():
            item.add_marker(no_gpu)
        if item.get_closest_marker("real") and not Path(os.environ.get("IRST_DATA", "/nowhere")).is_dir():
            item.add_marker(no_data)


@pytest.fixture(scope="session")
def real_data() -> Path:
    """Root of the real recordings; for tests marked `real`."""
    return Path(os.environ["IRST_DATA"])


@pytest.fixture
def start_tool(monkeypatch: pytest.MonkeyPatch) -> Callable[..., int]:
    """Carries out a script of tools/ as its own process would, in this one, and returns its exit code."""

    def start(name: str, *arguments: object) -> int:
        monkeypatch.setattr(sys, "argv", [name, *map(str, arguments)])
        with warnings.catch_warnings():
            try:
                runpy.run_path(str(TOOLS / f"{name}.py"), run_name="__main__")
            except SystemExit as ended:
                return ended.code if isinstance(ended.code, int) else 1
            finally:
                logging.disable(logging.NOTSET)
        return 0

    return start


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 400 kB."""
    disk = tmp_path / "disk"
    disk.mkdir()
    try:
        command = ["mount", "-t", "tmpfs", "-o", "size=400k", "tmpfs", str(disk)]
        mounted = subprocess.run(command, capture_output=True, text=True, check=False)
        why = mounted.stderr.strip()
    except FileNotFoundError as error:
        why = str(error)
    if not os.path.ismount(disk):
        pytest.skip(f"NOT TESTED: a disk that fills up; mounting a small one needs root ({why})")
    yield disk
    subprocess.run(["umount", str(disk)], check=True)


@pytest.fixture
def field_set(tmp_path: Path) -> Path:
    """A set in the field's layout: a, b and c of three sizes, each a bright point on a slope with its mask.

    a and b are the split `train`, c is `test`.
    """
    root = tmp_path / "SET"
    for kind in ("images", "masks", "img_idx"):
        (root / kind).mkdir(parents=True)
    for index, name in enumerate("abc"):
        rows, columns = np.mgrid[0 : 48 + 8 * index, 0:64]
        blob = np.exp(-((rows - 20) ** 2 + (columns - 30) ** 2) / (2 * 1.5**2))
        noise = np.random.default_rng(index).normal(0, 2, blob.shape)
        cv2.imwrite(str(root / "images" / f"{name}.png"), np.rint(60 + columns + 100 * blob + noise).astype(np.uint8))
        cv2.imwrite(str(root / "masks" / f"{name}.png"), np.where(blob >= 0.5, 255, 0).astype(np.uint8))
    (root / "img_idx" / "train_SET.txt").write_text("a\nb\n")
    (root / "img_idx" / "test_SET.txt").write_text("c\n")
    return root
