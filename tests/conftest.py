"""What all tests share."""

import os
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


@pytest.fixture
def real_data() -> Path:
    """Root of the real recordings; for tests marked `real`."""
    return Path(os.environ["IRST_DATA"])
