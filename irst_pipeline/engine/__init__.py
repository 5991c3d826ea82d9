"""Running a network on frames. `load_model` and `open_engine` are the doors.

PyTorch and OpenVINO, which take seconds and memory, are imported behind them: not by a process that borrows an engine.
"""

from typing import TYPE_CHECKING, Any

from irst_pipeline.engine.base import DeviceEngine, Engine
from irst_pipeline.engine.shared import SharedEngine
from irst_pipeline.errors import UsageError
from irst_pipeline.memory import share_freed_memory

if TYPE_CHECKING:
    import torch

    from irst_pipeline.lsnet.model import LSNet
    from irst_pipeline.lsnet.weights import Weights

__all__ = ["DeviceEngine", "Engine", "SharedEngine", "find_device", "load_model", "open_engine"]


def load_model(name: str) -> "Weights":
    """A shipped network by its name, or any by its file; raises UsageError where there is none."""
    from irst_pipeline.lsnet.weights import load_weights

    return load_weights(name)


def find_device(name: str) -> "torch.device":
    """The device that `name` (auto, cpu, cuda or cuda:N) stands for; auto is CUDA where there is one.

    Raises UsageError for another name or a device that is not there.
    """
    import torch

    kind, _, number = name.partition(":")
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if name == "cpu":
        return torch.device("cpu")
    if kind != "cuda" or (number and not number.isdecimal()) or name.endswith(":"):
        raise UsageError(f"device {name}: expected auto, cpu, cuda or cuda:N")
    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if not count:
        raise UsageError(f"device {name}: PyTorch sees no CUDA device here; use --device cpu")
    if int(number or 0) >= count:
        raise UsageError(f"device {name}: there are {count} CUDA devices, numbered from 0")
    return torch.device(name)


def open_engine(
    network: "LSNet", device: str, threshold: float, newest: bool = False, compiled: bool = False
) -> DeviceEngine[Any]:
    """The engine for a device name as `find_device` takes it; it finds pixels of a probability above `threshold`.

    With `newest` it is set up for the shortest way of one frame, as a live source wants it; otherwise for the most
    frames a second. With `compiled` a CUDA device's network is compiled for the frames that the engine is prepared for:
    twice as fast, after a minute or two for each of their sizes. A CPU's always is, which takes a second. From then on
    the process keeps freed memory as `share_freed_memory` says.
    """
    share_freed_memory()
    found = find_device(device)
    if found.type == "cpu":
        from irst_pipeline.engine.cpu import CpuEngine

        return CpuEngine(network, threshold, newest)
    from irst_pipeline.engine.cuda import CudaEngine

    return CudaEngine(network, threshold, found, newest, compiled)
