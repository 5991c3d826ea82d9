"""Networks on disk: safetensors files that carry their own configuration."""

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path

from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from irst_pipeline.disk import with_sorted_header
from irst_pipeline.errors import UsageError
from irst_pipeline.lsnet.model import LSNet, LSNetConfig
from irst_pipeline.settings import validate

FORMAT = "irst.lsnet/1"
WEIGHTS_FILE = "weights.safetensors"
"""What a training calls its weights: the name of its folder is theirs."""
SHIPPED = Path(__file__).parent / "shipped"


@dataclass(frozen=True)
class Weights:
    """A trained network and what it is called in logs."""

    name: str
    sha256: str
    network: LSNet
    """In eval mode, on the CPU, float32."""


def packed_weights(network: LSNet, note: dict[str, str]) -> bytes:
    """A file that `load_weights` reads: weights with their configuration and a note of how they came to be."""
    metadata = {"format": FORMAT, "config": json.dumps(network.config.model_dump()), **note}
    return packed(network.state_dict(), metadata)


def packed(tensors: dict[str, Tensor], metadata: dict[str, str]) -> bytes:
    """A safetensors file."""
    return with_sorted_header(save({name: tensor.contiguous() for name, tensor in tensors.items()}, metadata))


def unpacked(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Tensors and metadata of a safetensors file; raises SafetensorError or OSError."""
    with safe_open(path, "pt") as file:
        return {name: file.get_tensor(name) for name in file.keys()}, file.metadata() or {}  # noqa: SIM118 (no dict)


def shipped_names() -> list[str]:
    """Networks that come with the package, in the order of the alphabet."""
    return sorted(path.stem for path in SHIPPED.glob("*.safetensors"))


def load_weights(name: str) -> Weights:
    """Load a shipped network by name, or any by the path of its .safetensors file.

    Raises UsageError for an unknown name, a missing or damaged file, or weights of another network.
    """
    path = Path(name) if name not in shipped_names() else SHIPPED / f"{name}.safetensors"
    if not path.is_file():
        raise UsageError(f"{name}: no such model; shipped: {', '.join(shipped_names())}, or give a .safetensors file")
    try:
        tensors, metadata = unpacked(path)
    except (SafetensorError, OSError) as error:
        raise UsageError(f"{path}: not a readable safetensors file ({error})") from None
    if metadata.get("format") != FORMAT:
        raise UsageError(f"{path}: not LSNet weights of this package (metadata lacks format {FORMAT})")
    if unsound := [key for key, tensor in tensors.items() if not tensor.isfinite().all()]:
        raise UsageError(f"{path}: NaN or infinite values in {unsound[0]}; take weights from before they came")
    try:
        network = LSNet(validate(LSNetConfig, json.loads(metadata["config"]), "config"))
        network.load_state_dict(tensors)
    except (UsageError, KeyError, ValueError, RuntimeError) as error:
        reason = " ".join(str(error).split())[:200]
        raise UsageError(f"{path}: its weights do not fit the network its own config names ({reason})") from None
    called = path.resolve().parent.name if path.name == WEIGHTS_FILE else path.stem
    return Weights(called, hashlib.sha256(path.read_bytes()).hexdigest(), network.eval())
