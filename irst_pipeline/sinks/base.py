"""What every sink is, what it may know at the start, and how logs write numbers."""

import json
import math
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from irst_pipeline.config import RotateSettings, RunSettings
from irst_pipeline.sources import redact
from irst_pipeline.state import State
from irst_pipeline.types import Bearings, Frame, Tracks, TrackStatus

T_contra = TypeVar("T_contra", contravariant=True)
REPORT_FILE = "run.json"
"""What a run says of itself, beside its sinks' files."""

BEARINGS = (
    "azimuth_deg",
    "elevation_deg",
    "azimuth_rate_deg_s",
    "elevation_rate_deg_s",
    "azimuth_sd_deg",
    "elevation_sd_deg",
)
"""Columns that logs have with a camera model only."""


@dataclass(frozen=True)
class RunHeader:
    """What is known of a run before its first frame."""

    source: str
    """Name of the source, as in Frame.source."""
    uri: str
    """What the source was opened with, passwords and all; logs get its `record`, which has none."""
    model: str
    weights_sha256: str
    device: str
    settings: RunSettings
    started: str
    """ISO 8601, UTC."""
    frame_rate: float
    """frames/s, nominal; the times of the frames are their own."""
    live: bool = False
    """Whether what cannot be stored is lost for ever, so that the run has to go on."""
    camera: dict[str, Any] | None = None
    """The camera's model and the file of its pointing, of JSON's types; None where tracks have no bearings."""

    def record(self) -> dict[str, Any]:
        """What ran, as logs hold it."""
        return {
            "source": self.source,
            "uri": redact(self.uri),
            "model": self.model,
            "weights_sha256": self.weights_sha256,
            "device": self.device,
            "config": self.settings.model_dump(mode="json"),
            "started": self.started,
            "frame_rate": self.frame_rate,
            **({"camera": self.camera} if self.camera else {}),
        }


class Sink(Protocol[T_contra]):
    """Where something of a run goes, frame by frame in their order: its results, or its frames as they were read."""

    missed: int
    """Frames so far that could not be stored, while the run had to go on."""

    def write(self, item: T_contra, /) -> None:
        """Take what is of a frame; raises IrstError, one line, when it cannot be stored and the run is not to go on."""

    def state(self) -> State:
        """Where it is after the last frame; another one begun with it goes on from there in the same files."""

    def close(self) -> None:
        """Complete what was written; quiet after a failed `write`, and when called again."""


def read_report(folder: Path) -> dict[str, Any]:
    """What the `run.json` in a folder says; nothing where there is none."""
    try:
        report = json.loads((folder / REPORT_FILE).read_text())
    except (OSError, ValueError, RecursionError):  # the last of one that is damaged
        return {}
    return report if isinstance(report, dict) else {}


def is_full(rotate: RotateSettings, size: int, seconds: float) -> bool:
    """Whether a part of so many bytes, which covers so much time, is to be set aside."""
    return 0 < 1e6 * rotate.megabytes <= size or 0 < 3600 * rotate.hours <= seconds


def decimals(values: NDArray[np.float64], digits: int) -> list[Any]:
    """`values` (any shape) as nested lists of floats rounded to so many decimals; None where not finite."""
    return _nested(np.round(values, digits) + 0.0)  # + 0.0 makes -0.0 plain


def significant(values: NDArray[np.float64], digits: int) -> list[Any]:
    """`values` (any shape) as nested lists of floats rounded to so many digits; None where not finite."""
    rounded = [float(f"{value:.{digits}g}") for value in values.ravel().tolist()]
    return _nested(np.reshape(rounded, values.shape))


def utc_text(frame: Frame) -> str | None:
    """When it came, in ISO 8601; None where that is not known."""
    return None if frame.utc is None else datetime.fromtimestamp(frame.utc, UTC).isoformat(timespec="milliseconds")


def track_columns(tracks: Tracks, bearings: Bearings | None) -> dict[str, list[Any]]:
    """What logs say of the tracks of a frame, a row each, by its name in `tracks.jsonl`; None where not finite."""
    columns: dict[str, list[Any]] = {
        "id": tracks.id.tolist(),
        "status": [TrackStatus(status).name.lower() for status in tracks.status.tolist()],
        "x": decimals(tracks.x, 3),
        "y": decimals(tracks.y, 3),
        "vx": decimals(tracks.vx, 3),
        "vy": decimals(tracks.vy, 3),
        "cov": significant(tracks.covariance, 4),
        "box": decimals(tracks.box, 3),
        "score": decimals(tracks.score, 4),
        "snr": decimals(tracks.snr, 2),
        "age": tracks.age.tolist(),
        "hits": tracks.hits.tolist(),
        "nis": decimals(tracks.nis, 3),
    }
    return columns | dict(zip(BEARINGS, _bearing_columns(bearings), strict=True)) if bearings else columns


def _bearing_columns(bearings: Bearings) -> list[list[Any]]:
    """The columns BEARINGS of logs; None where not known."""
    places = (np.round(bearings.azimuth, 6) % 360, bearings.elevation)  # 359.9999999 is 0, not 360
    rates, spreads = (bearings.azimuth_rate, bearings.elevation_rate), (bearings.azimuth_sd, bearings.elevation_sd)
    return [
        *(decimals(values, 6) for values in places),
        *(decimals(values, 5) for values in rates),
        *(significant(values, 4) for values in spreads),
    ]


def _nested(values: NDArray[np.float64]) -> list[Any]:
    lists: list[Any] = values.tolist()
    return lists if np.isfinite(values).all() else _without_nan(lists)


def _without_nan(value: Any) -> Any:
    if isinstance(value, list):
        return [_without_nan(item) for item in value]
    return value if math.isfinite(value) else None
