"""Compare what can run a network on this CPU: OpenVINO, ONNX Runtime (pip install onnx onnxruntime), eager PyTorch.

usage: benchmark_runtimes.py [--model lsnet-nano] [--size 320x256] [--frames 60]

The runtimes take turns, frame by frame, so that whatever else the machine does slows all alike.
"""

import argparse
import os
import tempfile
import warnings
from collections.abc import Callable
from pathlib import Path
from time import perf_counter

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import numpy as np
import torch

from irst_pipeline.engine.base import TargetNet
from irst_pipeline.engine.cpu import to_openvino
from irst_pipeline.lsnet.weights import load_weights


def openvino_runner(network: TargetNet, frame: torch.Tensor, precision: str) -> Callable[[], object]:
    model = to_openvino(network, *frame.shape[2:])
    hints = {"PERFORMANCE_HINT": "LATENCY"} | ({"INFERENCE_PRECISION_HINT": precision} if precision else {})
    import openvino  # after the engine, which keeps it from reporting its use

    request = openvino.Core().compile_model(model, "CPU", hints).create_infer_request()
    return lambda: request.infer({0: frame.numpy()}, share_inputs=True)


def onnx_runner(network: TargetNet, frame: torch.Tensor) -> Callable[[], object]:
    import onnxruntime

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "network.onnx"
        torch.onnx.export(network, (frame,), str(path), dynamo=False, opset_version=17)
        session = onnxruntime.InferenceSession(path.read_bytes())
    name = session.get_inputs()[0].name
    return lambda: session.run(None, {name: frame.numpy()})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="lsnet-nano")
    parser.add_argument("--size", default="320x256", help="WIDTHxHEIGHT")
    parser.add_argument("--frames", type=int, default=60)
    options = parser.parse_args()
    width, height = (int(side) for side in options.size.split("x"))
    warnings.simplefilter("ignore")
    network, frame = TargetNet(load_weights(options.model).network).eval(), torch.randn(1, 1, height, width)

    def eager() -> object:
        with torch.inference_mode():
            return network(frame)

    runners = {
        "OpenVINO, its own choice": openvino_runner(network, frame, ""),
        "OpenVINO, float32": openvino_runner(network, frame, "f32"),
        "ONNX Runtime, float32": onnx_runner(network, frame),
        "PyTorch eager, float32": eager,
    }
    times: dict[str, list[float]] = {name: [] for name in runners}
    for _ in range(options.frames):
        for name, run in runners.items():
            begun = perf_counter()
            run()
            times[name].append(1e3 * (perf_counter() - begun))
    best = min(np.median(t) for t in times.values())
    print(f"{options.model}, {options.size}, {os.cpu_count()} cores, ms a frame")
    for name, found in times.items():
        print(f"{name:26} median {np.median(found):7.1f}   ratio {np.median(found) / best:5.2f}")


if __name__ == "__main__":
    main()
