"""The network on a CPU, through OpenVINO.

Measured on two cores of an AMD EPYC 9004, lsnet-nano on 320x256, in turns, ms a frame: OpenVINO 18.5 in the bfloat16
that it chooses by itself where the processor has it and 30.8 in float32; ONNX Runtime 46.3; PyTorch compiled 47.1 and
eager 123.0 (`tools/benchmark_runtimes.py --compile`). In 8-bit integers (NNCF, mixed preset, 60 frames to calibrate) it
took 5 to 25 % less than in bfloat16, but the IoU on held-out frames fell from 73.8 to 69.3 %: it is not used.
"""

import sys
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache, lru_cache

import numpy as np
import torch

from irst_pipeline.engine.base import Engine, TargetNet, above_threshold
from irst_pipeline.lsnet.model import LSNet
from irst_pipeline.lsnet.normalise import Normalised, normalise
from irst_pipeline.types import Image, TargetPixels

# OpenVINO tells its makers of every import and conversion, unless this package of theirs cannot be imported.
sys.modules["openvino_telemetry"] = None  # type: ignore[assignment]

import openvino  # noqa: E402
from openvino.frontend import FrontEndManager  # noqa: E402
from openvino.frontend.pytorch.ts_decoder import TorchScriptPythonDecoder  # noqa: E402

SIZES_KEPT = 4


@dataclass(frozen=True)
class Ticket:
    """A frame in flight."""

    request: openvino.InferRequest
    free: list[openvino.InferRequest]
    """Where the request goes back to."""
    scale: float
    """Grey levels per unit of T."""


class CpuEngine(Engine[Ticket]):
    """All cores on one frame where the newest counts; otherwise several frames at a time, each on cores of its own,
    which takes less for each, for cores need not wait for one another.
    """

    def __init__(self, network: LSNet, threshold: float, newest: bool) -> None:
        self._threshold = threshold
        self.slots = 1  # until OpenVINO has said how many pay
        self._hint = "LATENCY" if newest else "THROUGHPUT"
        self._network = TargetNet(network).eval()
        self.device = f"cpu, OpenVINO on {core().get_property('CPU', 'FULL_DEVICE_NAME')}"
        self._compiled = lru_cache(SIZES_KEPT)(self._compile)

    def warm_up(self, image: Image, _count: int) -> None:
        self._compiled(*image.shape)

    def submit(self, images: Sequence[Image]) -> Ticket:
        (image,) = images  # several at a time took as long as one after the other
        compiled, free = self._compiled(*image.shape)
        request, frames = free.pop() if free else compiled.create_infer_request(), _normalised(image)
        request.start_async({0: frames.frames.numpy()}, share_inputs=True)
        return Ticket(request, free, frames.scale.item())

    def collect(self, ticket: Ticket) -> list[TargetPixels]:
        ticket.request.wait()
        probability, target = (ticket.request.get_output_tensor(i).data[0, 0] for i in (0, 1))
        found = above_threshold(probability, target, self._threshold)
        ticket.free.append(ticket.request)
        return [found._replace(intensity=found.intensity * np.float32(ticket.scale))]

    def network_alone(self, image: Image) -> Callable[[], None]:
        frames, request = _normalised(image).frames.numpy(), self._compiled(*image.shape)[0].create_infer_request()

        def once() -> None:
            request.infer({0: frames}, share_inputs=True)

        return once

    def _compile(self, height: int, width: int) -> tuple[openvino.CompiledModel, list[openvino.InferRequest]]:
        """The network for frames of one size, and its requests that are in no ticket; the caller makes more of them."""
        model = to_openvino(self._network, height, width)
        compiled = core().compile_model(model, "CPU", {"PERFORMANCE_HINT": self._hint})
        if self._hint == "THROUGHPUT":
            self.slots = int(compiled.get_property("OPTIMAL_NUMBER_OF_INFER_REQUESTS"))
        return compiled, []


@cache
def core() -> openvino.Core:
    """The one that all engines share and that stays: each puts a stack for signals on the thread that it is made in,
    and of several that go in another order than they came one that is gone is left there."""
    return openvino.Core()


def has_bfloat16() -> bool:
    """Whether this processor multiplies in bfloat16; where it does not, PyTorch is many times slower in it."""
    return "BF16" in core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")


def _normalised(image: Image) -> Normalised:
    return normalise(torch.from_numpy(np.ascontiguousarray(image))[None, None])


def to_openvino(network: TargetNet, height: int, width: int) -> openvino.Model:
    """The network for frames of one size; fixed sizes let OpenVINO plan its memory and layouts."""
    example = torch.zeros(1, 1, height, width)
    with torch.inference_mode(), warnings.catch_warnings():
        # PyTorch warns that a trace holds for one size alone, which is what is wanted, and that torch.export is to
        # replace it, whose graph OpenVINO runs at two thirds of the speed.
        warnings.simplefilter("ignore")
        traced = torch.jit.trace(network, example, check_trace=False)
    # What openvino.convert_model does, in a fifth of its time.
    frontend = FrontEndManager().load_by_framework("pytorch")
    decoder = TorchScriptPythonDecoder(traced, example_input=(example,))  # must outlive the conversion
    model = frontend.convert(frontend.load(decoder))
    model.reshape(list(example.shape))
    return model
