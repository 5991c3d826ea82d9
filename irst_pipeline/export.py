"""The network as one ONNX file that takes raw grey levels, so that no user has to normalise frames as training did.

A file holds for frames of one size: the length of the scanned lines, and whether they are cut into chunks, is part of
the recorded graph.
"""

import warnings
from collections.abc import Iterable
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from torch import Tensor, nn

from irst_pipeline.disk import write_file
from irst_pipeline.engine.network import TargetNet
from irst_pipeline.errors import UsageError
from irst_pipeline.folders import claim_file
from irst_pipeline.lsnet.model import LSNet
from irst_pipeline.lsnet.normalise import normalise
from irst_pipeline.lsnet.weights import Weights
from irst_pipeline.memory import told_out_of_memory
from irst_pipeline.sources.base import SIDE_MAX
from irst_pipeline.types import MIN_SIZE

OPSET = 17
INPUT, PROBABILITY, TARGET = "frame", "probability", "target"
DESCRIPTION = {
    INPUT: "float32 (1, 1, height, width): raw grey levels of any depth and offset, not normalised or scaled to 0..1",
    PROBABILITY: "float32 (1, 1, height, width): 0..1, that a pixel belongs to a target; detect at 0.5",
    TARGET: "float32 (1, 1, height, width): the sparse component T in grey levels",
}


class RawTargetNet(nn.Module):
    """The network between raw frames (B, 1, H, W) and probability and T in grey levels, both (B, 1, H, W)."""

    def __init__(self, network: LSNet) -> None:
        super().__init__()
        self.network = TargetNet(network)

    def forward(self, frames: Tensor) -> tuple[Tensor, Tensor]:
        normalised = normalise(frames)
        probability, target = self.network(normalised.frames)
        return probability, target * normalised.scale


def export_onnx(
    weights: Weights, path: Path, width: int, height: int, overwrite: bool = False, inputs: Iterable[Path] = ()
) -> None:
    """Write the network for frames of width x height px; `DESCRIPTION` and what it is are in the file's metadata.

    With `overwrite`, a file of that name is replaced once the new one is complete, if it is none of the `inputs`.
    Raises UsageError for a size the network does not take, else for a file that is there, or if the package onnx is
    missing, and IrstError for a size that the memory is too small for, or a file that cannot be written.
    """
    try:
        import onnx
    except ImportError:
        raise UsageError("export: the package onnx is missing; in the source folder pip install -e '.[onnx]'") from None
    if path.suffix.lower() != ".onnx":
        raise UsageError(f"--out {path}: ONNX Runtime and others go by the name's end; call it {path.name}.onnx")
    if min(width, height) < MIN_SIZE:
        raise UsageError(f"--size {width}x{height}: the network takes {MIN_SIZE}x{MIN_SIZE} px and more")
    if max(width, height) > SIDE_MAX:
        raise UsageError(f"--size {width}x{height}: at most {SIDE_MAX} px a side, as of a camera's frames")
    claim_file(path, inputs, overwrite)
    with told_out_of_memory("export", (height, width)), TemporaryDirectory() as folder, warnings.catch_warnings():
        # PyTorch warns that a trace holds for one size alone, which is said above, and that its other exporter is to
        # replace this one; that one asks for another package and gains nothing at a fixed size.
        warnings.simplefilter("ignore")
        exported = Path(folder) / path.name
        torch.onnx.export(
            RawTargetNet(weights.network).eval(),
            (torch.zeros(1, 1, height, width),),
            exported,
            dynamo=False,
            opset_version=OPSET,
            input_names=[INPUT],
            output_names=[PROBABILITY, TARGET],
        )
        model = onnx.load(exported)
    properties = {
        "model": weights.name,
        "weights_sha256": weights.sha256,
        "width": str(width),
        "height": str(height),
    }
    onnx.helper.set_model_props(model, properties | DESCRIPTION)
    for output in model.graph.output:  # the exporter has lost their sizes, by which others set memory aside
        for dimension, side in zip(output.type.tensor_type.shape.dim, (1, 1, height, width), strict=True):
            dimension.dim_value = side
    write_file(path, model.SerializeToString())
