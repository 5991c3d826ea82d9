"""Compare what can run a network on this CPU: OpenVINO, ONNX Runtime (pip install '.[onnx]') and PyTorch.

usage: benchmark_runtimes.py [--model lsnet-nano] [--sizes 320x256 ...] [--frames 60] [--compile]

With --compile, PyTorch's compiler too, which needs a C++ compiler and takes minutes.

All start from raw grey levels, and take turns, frame by frame, so that whatever else the machine does slows all alike.
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

from irst_pipeline.cli import size
from irst_pipeline.engine.cpu import core, to_openvino
from irst_pipeline.engine.network import TargetNet
from irst_pipeline.errors import told_in_one_line
from irst_pipeline.export import INPUT, export_onnx
from irst_pipeline.lsnet.normalise import normalise
from irst_pipeline.lsnet.weights import Weights, load_weights


def openvino_runner(network: TargetNet, frame: torch.Tensor, precision: str) -> Callable[[], object]:
    model = to_openvino(network, *frame.shape[2:])
    hints = {"PERFORMANCE_HINT": "LATENCY"} | ({"INFERENCE_PRECISION_HINT": precision} if precision else {})
    request = core().compile_model(model, "CPU", hints).create_infer_request()
    return lambda: request.infer({0: normalise(frame).frames.numpy()}, share_inputs=True)


def onnx_runner(weights: Weights, frame: torch.Tensor) -> Callable[[], object]:
    import onnxruntime

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "network.onnx"
        export_onnx(weights, path, frame.shape[3], frame.shape[2])
        session = onnxruntime.InferenceSession(path.read_bytes())
    return lambda: session.run(None, {INPUT: frame.numpy()})


def benchmark(weights: Weights, width: int, height: int, frames: int, compiled: bool) -> None:
    """Print the median time a frame of every runtime, and what that is a pixel."""
    network, frame = TargetNet(weights.network).eval(), 100 + 10 * torch.randn(1, 1, height, width)

    def torch_runner(function: Callable[[torch.Tensor], object]) -> Callable[[], object]:
        def once() -> object:
            with torch.inference_mode():
                return function(normalise(frame).frames)

        return once

    runners = {
        "OpenVINO, its own choice": openvino_runner(network, frame, ""),
        "OpenVINO, float32": openvino_runner(network, frame, "f32"),
        "ONNX Runtime, float32": onnx_runner(weights, frame),
        "PyTorch eager, float32": torch_runner(network),
    }
    if compiled:
        runners["PyTorch compiled, float32"] = torch_runner(torch.compile(network))
    for run in runners.values():  # what is done once is not counted
        run()
    times: dict[str, list[float]] = {name: [] for name in runners}
    for _ in range(frames):
        for name, run in runners.items():
            begun = perf_counter()
            run()
            times[name].append(perf_counter() - begun)
    medians = {name: float(np.median(found)) for name, found in times.items()}
    print(f"{weights.name}, {width}x{height}, {os.cpu_count()} cores")
    for name, seconds in medians.items():
        ratio = seconds / min(medians.values())
        print(
            f"{name:26} {1e3 * seconds:8.1f} ms {1e9 * seconds / (width * height):7.1f} ns a pixel   ratio {ratio:5.2f}"
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="lsnet-nano")
    parser.add_argument("--sizes", type=size, nargs="+", default=[(320, 256)], help="WIDTHxHEIGHT")
    parser.add_argument("--frames", type=int, default=60)
    parser.add_argument("--compile", action="store_true")
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    for width, height in options.sizes:
        benchmark(load_weights(options.model), width, height, options.frames, options.compile)


if __name__ == "__main__":
    with told_in_one_line("benchmark_runtimes"):
        main()
