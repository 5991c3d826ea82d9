"""The network on a CPU, through OpenVINO.

Measured on two cores of an AMD EPYC 9004, lsnet-nano on 320x256, in turns, ms a frame: OpenVINO 18.5 in the bfloat16
that it chooses by itself where the processor has it and 30.8 in float32; ONNX Runtime 46.3; PyTorch compiled 47.1 and
eager 123.0 (`tools/benchmark_runtimes.py --compile`). In 8-bit integers (NNCF, mixed preset, 60 frames to calibrate) it
took 5 to 25 % less than in bfloat16, but the IoU on held-out frames fell from 73.8 to 69.3 %: it is not used.
"""

import sys
import warnings
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cache
from hashlib import sha256
from threading import Lock

import numpy as np
import torch

from irst_pipeline.engine.base import DeviceEngine, above_threshold
from irst_pipeline.engine.network import TargetNet
from irst_pipeline.lsnet.model import LSNet
from irst_pipeline.lsnet.normalise import normalise_image
from irst_pipeline.memory import told_out_of_memory
from irst_pipeline.stage import TURN
from irst_pipeline.types import Image, TargetPixels

# OpenVINO reports every import and conversion to its makers, unless their package for it cannot be imported.
sys.modules["openvino_telemetry"] = None  # type: ignore[assignment]

import openvino  # noqa: E402
from openvino.frontend import FrontEndManager  # noqa: E402
from openvino.frontend.pytorch.ts_decoder import TorchScriptPythonDecoder  # noqa: E402

KEPT_MIN, KEPT_MAX = 4, 16  # sizes of frames that are kept ready: for one run, and for all that share the engine
_CONVERTING = Lock()  # PyTorch records one graph at a time
_CONVERTED: dict[tuple[bytes, tuple[int, ...]], openvino.Model] = {}
"""By weights and frame size; none is recorded twice in a process, for of each PyTorch keeps 10 MB for good."""


@dataclass(frozen=True)
class Compiled:
    """The network for frames of one size."""

    shape: tuple[int, ...]
    model: openvino.CompiledModel
    free: list[openvino.InferRequest] = field(default_factory=list)
    """Requests that are in no ticket; whoever finds none makes one."""

    def request(self) -> openvino.InferRequest:
        return self.free.pop() if self.free else self.model.create_infer_request()


@dataclass(frozen=True)
class Ticket:
    """A frame in flight."""

    request: openvino.InferRequest
    compiled: Compiled
    scale: float
    """Grey levels per unit of T."""


class CpuEngine(DeviceEngine[Ticket]):
    """All cores on one frame where the newest counts; otherwise several frames at a time, each on cores of its own,
    which takes less for each, for cores need not wait for one another.
    """

    def __init__(self, network: LSNet, threshold: float, newest: bool) -> None:
        self._threshold = threshold
        self.slots = 1  # until OpenVINO has said how many pay
        self._hint = "LATENCY" if newest else "THROUGHPUT"
        self._network, self._weights = TargetNet(network).eval(), fingerprint(network)
        self.device = f"cpu, OpenVINO on {core().get_property('CPU', 'FULL_DEVICE_NAME')}"
        self._kept: OrderedDict[tuple[int, ...], Compiled] = OrderedDict()
        self._sizes_kept, self._lock = KEPT_MIN, Lock()

    def build(self, image: Image) -> None:
        self._compiled(image)

    def warm_up(self, image: Image, count: int) -> None:
        self._sizes_kept = min(max(KEPT_MIN, count + 1), KEPT_MAX)  # there may be one more to come
        self._compiled(image)

    def submit(self, images: Sequence[Image]) -> Ticket:
        (image,) = images  # several at a time took as long as one after the other
        compiled = self._compiled(image)
        with TURN, told_out_of_memory(self.device, image.shape):
            request, frames = compiled.request(), normalise_image(image)
            request.start_async({0: frames.frames.numpy()}, share_inputs=True)
        return Ticket(request, compiled, frames.scale.item())

    def collect(self, ticket: Ticket) -> list[TargetPixels]:
        with told_out_of_memory(self.device, ticket.compiled.shape):
            ticket.request.wait()
            probability, target = (ticket.request.get_output_tensor(i).data[0, 0] for i in (0, 1))
            found = above_threshold(probability, target, self._threshold)
        ticket.compiled.free.append(ticket.request)
        return [found._replace(intensity=found.intensity * np.float32(ticket.scale))]

    def device_seconds(self, ticket: Ticket) -> float:
        return ticket.request.latency / 1e3

    def network_alone(self, image: Image) -> Callable[[], None]:
        frames, request = normalise_image(image).frames.numpy(), self._compiled(image).request()

        def once() -> None:
            request.infer({0: frames}, share_inputs=True)

        return once

    def _compiled(self, image: Image) -> Compiled:
        """The network for frames like this one, which takes a second for the first; those of other sizes go on."""
        with self._lock:
            if found := self._kept.get(image.shape):
                self._kept.move_to_end(image.shape)
                return found
        with _CONVERTING:
            if found := self._kept.get(image.shape):
                return found
            with told_out_of_memory(self.device, image.shape):
                key = self._weights, image.shape
                if key not in _CONVERTED:
                    _CONVERTED[key] = to_openvino(self._network, *image.shape)
                model = core().compile_model(_CONVERTED[key], "CPU", {"PERFORMANCE_HINT": self._hint})
                made = Compiled(image.shape, model)
            if self._hint == "THROUGHPUT":
                # One more waits behind those that run: no core is to wait for Python to bring the next frame.
                self.slots = 1 + int(made.model.get_property("OPTIMAL_NUMBER_OF_INFER_REQUESTS"))
            with self._lock:
                self._kept[image.shape] = made
                while len(self._kept) > self._sizes_kept:
                    self._kept.popitem(last=False)
        return made


@cache
def core() -> openvino.Core:
    """The one that all engines share and that stays: each sets up a stack for signals for the thread that makes it, and
    where several are freed out of order, the thread is left with one that is no longer there."""
    return openvino.Core()


def has_bfloat16() -> bool:
    """Whether this processor multiplies in bfloat16; where it does not, PyTorch is many times slower in it."""
    return "BF16" in core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")


def fingerprint(network: LSNet) -> bytes:
    """The same for two networks of one config and the same weights."""
    digest = sha256(repr(network.config).encode())
    for name, tensor in network.state_dict().items():
        digest.update(name.encode() + tensor.cpu().numpy().tobytes())
    return digest.digest()


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
