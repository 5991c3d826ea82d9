"""Calibrations on disk: safetensors files of three maps."""

from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from irst_pipeline.calibration.maps import DEPTHS, Calibration, Defect
from irst_pipeline.disk import with_sorted_header
from irst_pipeline.errors import UsageError
from irst_pipeline.sources.base import SIDE_MAX

FORMAT = "irst.calibration/1"
HEADER_MAX = 1 << 20  # bytes; ours take some 300
GAIN_MAX = 100.0
OFFSET_MAX = GAIN_MAX * 65535
_TYPES = {"gain": "F32", "offset": "F32", "bad": "U8"}


def to_bytes(calibration: Calibration, note: dict[str, str]) -> bytes:
    """The file of a calibration, with a note of how it came to be."""
    maps = {name: getattr(calibration, name) for name in _TYPES}
    return with_sorted_header(save(maps, {**note, "format": FORMAT, "depth": calibration.depth}))


def read_calibration(path: Path) -> Calibration:
    """A calibration from its file; nothing larger than what it may hold is read.

    Raises UsageError, one line, for a file that cannot be read, is none or says what cannot be.
    """
    if not path.is_file():
        raise UsageError(f"{path}: no such calibration; `irst calibrate` makes one")
    try:
        if path.stat().st_size > HEADER_MAX + 9 * SIDE_MAX**2:
            raise _wrong(path, f"too large a file for maps of {SIDE_MAX} px a side")
        with path.open("rb") as file:
            header_size = int.from_bytes(file.read(8), "little")
        if header_size > HEADER_MAX:
            raise _wrong(path, "not a safetensors file")
        with safe_open(path, "np") as opened:
            return _checked(path, opened)
    except (SafetensorError, OSError) as error:
        raise _wrong(path, " ".join(str(error).split())[:200]) from None


def _checked(path: Path, file: Any) -> Calibration:
    """The calibration in an open safetensors file; sizes and types are looked at before a map is read."""
    metadata = file.metadata() or {}
    if metadata.get("format") != FORMAT:
        raise _wrong(path, f"its metadata lacks format {FORMAT}")
    if (depth := metadata.get("depth")) not in DEPTHS:
        raise _wrong(path, f"depth: expected {' or '.join(DEPTHS)}, found {str(depth)[:20]!r}")
    if missing := _TYPES.keys() - set(file.keys()):
        raise _wrong(path, f"no map `{min(missing)}`")
    slices = {name: file.get_slice(name) for name in _TYPES}
    shape = slices["gain"].get_shape()
    if len(shape) != 2 or not all(1 <= side <= SIDE_MAX for side in shape):
        raise _wrong(path, f"gain: expected (H, W) of 1 to {SIDE_MAX} px a side, found {str(shape)[:80]}")
    for name, kind in _TYPES.items():
        found = slices[name].get_dtype(), slices[name].get_shape()
        if found != (kind, shape):
            raise _wrong(path, f"{name}: expected {kind} {shape}, found {found[0]} {str(found[1])[:80]}")
    gain, offset, bad = (file.get_tensor(name) for name in _TYPES)
    good = bad == 0
    if bad.max() > max(Defect):
        raise _wrong(path, f"bad: expected 0 to {max(Defect):d}, found {bad.max()}")
    if good.mean() < 0.5:
        raise _wrong(path, f"bad: {(~good).sum()} of {good.size} pixels, which are more than half of them")
    if not ((gain > 0) & (gain <= GAIN_MAX)).all():
        raise _wrong(path, f"gain: expected numbers above 0 and up to {GAIN_MAX:g} alone")
    if not (np.abs(offset) <= OFFSET_MAX).all():
        raise _wrong(path, f"offset: expected numbers within +-{OFFSET_MAX:g} alone")
    return Calibration(gain, offset, bad, depth)


def _wrong(path: Path, what: str) -> UsageError:
    return UsageError(f"{path}: not a calibration ({what}); make it again with `irst calibrate`")
