"""The network on a CPU, through OpenVINO.

Measured on two cores of an AMD EPYC 9005, lsnet-nano on 320x256, ms a frame: OpenVINO 7.2 in the bfloat16 that it
chooses by itself where the processor has it and 9.7 in float32; ONNX Runtime 15.8; PyTorch eager 47.2
(`tools/benchmark_runtimes.py`).
"""

import sys
import warnings
from functools import lru_cache

import numpy as np
import torch

from irst_pipeline.engine.base import Engine, Map, TargetNet
from irst_pipeline.lsnet.model import LSNet
from irst_pipeline.lsnet.normalise import normalise
from irst_pipeline.types import Image

# OpenVINO tells its makers of every import and conversion, unless this package of theirs cannot be imported.
sys.modules["openvino_telemetry"] = None  # type: ignore[assignment]

import openvino  # noqa: E402
from openvino.frontend import FrontEndManager  # noqa: E402
from openvino.frontend.pytorch.ts_decoder import TorchScriptPythonDecoder  # noqa: E402

SIZES_KEPT = 4


class CpuEngine(Engine[tuple[Map, Map]]):
    """One frame at a time on all cores: a second frame in flight would only share them."""

    slots = 1

    def __init__(self, network: LSNet) -> None:
        self._network = TargetNet(network).eval()
        self._core = openvino.Core()
        self.device = f"cpu, OpenVINO on {self._core.get_property('CPU', 'FULL_DEVICE_NAME')}"
        self._compiled = lru_cache(SIZES_KEPT)(self._compile)

    def warm_up(self, image: Image) -> None:
        self._compiled(*image.shape)

    def submit(self, image: Image) -> tuple[Map, Map]:
        normalised = normalise(torch.from_numpy(np.ascontiguousarray(image))[None, None])
        request = self._compiled(*image.shape)
        request.infer({0: normalised.frames.numpy()}, share_inputs=True)
        probability, target = (request.get_output_tensor(i).data[0, 0] for i in (0, 1))
        return probability.copy(), target * np.float32(normalised.scale.item())

    def collect(self, ticket: tuple[Map, Map]) -> tuple[Map, Map]:
        return ticket

    def _compile(self, height: int, width: int) -> openvino.InferRequest:
        model = to_openvino(self._network, height, width)
        return self._core.compile_model(model, "CPU", {"PERFORMANCE_HINT": "LATENCY"}).create_infer_request()


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
