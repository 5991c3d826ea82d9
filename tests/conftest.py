"""What all tests share."""

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

# Two cores, often busy: more threads than cores make everything slower.
torch.set_num_threads(min(2, os.cpu_count() or 1))


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
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 200 kB."""
    disk = tmp_path / "disk"
    disk.mkdir()
    try:
        command = ["mount", "-t", "tmpfs", "-o", "size=200k", "tmpfs", str(disk)]
        mounted = subprocess.run(command, capture_output=True, text=True, check=False)
        why = mounted.stderr.strip()
    except FileNotFoundError as error:
        why = str(error)
    if not os.path.ismount(disk):
        pytest.skip(f"NOT TESTED: a disk that fills up; mounting a small one needs root ({why})")
    yield disk
    subprocess.run(["umount", str(disk)], check=True)
