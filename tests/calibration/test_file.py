"""A calibration's file comes back as it was, and a spoilt one is one clear line."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save

from irst_pipeline.calibration.file import FORMAT, read_calibration, to_bytes
from irst_pipeline.calibration.maps import Calibration
from irst_pipeline.errors import UsageError

SHAPE = (12, 16)
NOTE = {"format": FORMAT, "depth": "uint16"}


def example() -> Calibration:
    rng = np.random.default_rng(0)
    gain, offset = rng.normal(1, 0.01, SHAPE).astype(np.float32), rng.normal(0, 5, SHAPE).astype(np.float32)
    return Calibration(gain, offset, (rng.random(SHAPE) < 0.05).astype(np.uint8), "uint16")


def maps(**changes: Any) -> dict[str, Any]:
    known = example()
    return {"gain": known.gain, "offset": known.offset, "bad": known.bad} | changes


def test_it_comes_back_as_it_was(tmp_path: Path) -> None:
    (tmp_path / "c.safetensors").write_bytes(to_bytes(example(), {"method": "two-point"}))
    found = read_calibration(tmp_path / "c.safetensors")
    for name in ("gain", "offset", "bad"):
        np.testing.assert_array_equal(getattr(found, name), getattr(example(), name))
    assert (found.depth, found.frames) == ("uint16", "16x12 uint16")


def test_the_same_calibration_is_the_same_file() -> None:
    note = {"method": "two-point", "from": "cold.mkv", "frames": "64"}
    assert len({to_bytes(example(), note) for _ in range(8)}) == 1


def claim(shape: list[int], kind: str = "F32", size: int = 64) -> bytes:
    """A file whose header claims maps of a shape, before `size` bytes."""
    tensor = {"dtype": kind, "shape": shape, "data_offsets": [0, size]}
    header = json.dumps({"__metadata__": NOTE, "gain": tensor, "offset": tensor, "bad": tensor}).encode()
    return len(header).to_bytes(8, "little") + header + bytes(size)


def spoilt(name: str, value: float) -> dict[str, Any]:
    changed = maps()
    changed[name] = changed[name].copy()
    changed[name][3, 4] = value
    return changed


BAD: dict[str, tuple[bytes, str]] = {
    "empty": (b"", "not a calibration"),
    "text": (b"gain: 1\n" * 100, "not a safetensors file"),
    "cut short": (save(maps(), NOTE)[:-10], "not a calibration"),
    "gigabytes claimed": (claim([100_000, 100_000]), "not a calibration"),
    "no pixels": (claim([0, 5], size=0), "expected .H, W. of 1 to 8192"),
    "no metadata": (save(maps()), "lacks format irst.calibration/1"),
    "another format": (save(maps(), {"format": "irst.lsnet/1"}), "lacks format"),
    "another depth": (save(maps(), NOTE | {"depth": "uint32"}), "depth: expected uint8 or uint16, found 'uint32'"),
    "a map missing": (save({"gain": example().gain, "bad": example().bad}, NOTE), "no map `offset`"),
    "one dimension": (save(maps(gain=np.ones(5, np.float32)), NOTE), "gain: expected .H, W."),
    "two sizes": (save(maps(offset=np.zeros((12, 15), np.float32)), NOTE), r"offset: expected F32 \[12, 16\]"),
    "another type": (save(maps(gain=np.ones(SHAPE)), NOTE), "gain: expected F32 .* found F64"),
    "too wide": (save(maps(gain=np.ones((1, 9000), np.float32)), NOTE), "1 to 8192 px a side"),
    "a gain of zero": (save(spoilt("gain", 0), NOTE), "gain: expected numbers above 0"),
    "no number": (save(spoilt("gain", np.nan), NOTE), "gain: expected numbers above 0"),
    "infinity": (save(spoilt("offset", np.inf), NOTE), "offset: expected numbers within"),
    "unknown defect": (save(spoilt("bad", 9), NOTE), "bad: expected 0 to 4, found 9"),
    "nothing good": (save(maps(bad=np.ones(SHAPE, np.uint8)), NOTE), "192 of 192 pixels, which are more than half"),
}


@pytest.mark.parametrize("case", BAD)
def test_a_bad_file_is_told_in_one_line(case: str, tmp_path: Path) -> None:
    data, expected = BAD[case]
    path = tmp_path / "c.safetensors"
    path.write_bytes(data)
    with pytest.raises(UsageError, match=f"^{path}: .*{expected}.*irst calibrate") as caught:
        read_calibration(path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["nothing.safetensors", "."])
def test_what_is_no_file_is_told(name: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no such calibration; `irst calibrate` makes one"):
        read_calibration(tmp_path / name)
