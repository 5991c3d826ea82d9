"""Streams of results built by hand. Run as a script, it writes one without end: sink_streams.py FOLDER."""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from irst_pipeline.config import RunSettings
from irst_pipeline.sinks import RunHeader, open_recorders, open_sinks
from irst_pipeline.types import (
    STANDS_STILL,
    CameraMotion,
    Detections,
    Frame,
    FrameResult,
    Image,
    TrackEvent,
    Tracks,
    TrackStatus,
    View,
)

ALL = RunSettings().sinks
RATE = 30.0
T, C, P = TrackStatus.TENTATIVE, TrackStatus.CONFIRMED, TrackStatus.COASTING


def header(**changes: Any) -> RunHeader:
    values: dict[str, Any] = {
        "source": "clip",
        "uri": "/data/clip.mp4",
        "model": "lsnet-nano",
        "weights_sha256": "ab" * 32,
        "device": "cpu",
        "settings": RunSettings(**{name: changes.pop(name) for name in ("video", "rotate", "send") if name in changes}),
        "started": "2025-01-02T03:04:05Z",
        "frame_rate": RATE,
    }
    return RunHeader(**(values | changes))


def detections(x: Sequence[float] = (), y: Sequence[float] = (), snr: float = 7.5) -> Detections:
    n, column = len(x), np.ones(len(x))
    x_, y_ = np.array(x, float), np.array(y, float)
    return Detections(
        x=x_,
        y=y_,
        covariance=np.tile([0.2, 0.01, 0.3], (n, 1)),
        box=np.column_stack((x_ - 1, y_ - 1.5, 2 * column, 3 * column)),
        area=np.full(n, 5),
        score=0.9 * column,
        intensity=41.25 * column,
        snr=snr * column,
    )


def tracks(
    x: Sequence[float] = (),
    y: Sequence[float] = (),
    status: Sequence[TrackStatus] = (),
    velocity: tuple[float, float] = (12.0, -3.0),
    size: tuple[float, float] = (3.0, 2.0),
    first_id: int = 1,
) -> Tracks:
    """Ids count up from `first_id`; all confirmed without a `status`."""
    n, column = len(x), np.ones(len(x))
    x_, y_ = np.array(x, float), np.array(y, float)
    return Tracks(
        id=np.arange(first_id, first_id + n),
        status=np.array(status or [C] * n, np.int8),
        x=x_,
        y=y_,
        vx=velocity[0] * column,
        vy=velocity[1] * column,
        covariance=np.tile([0.123456789, -0.0123456789, 1234.56789], (n, 1)),
        box=np.column_stack((x_ - size[0] / 2, y_ - size[1] / 2, size[0] * column, size[1] * column)),
        score=0.95 * column,
        snr=8.25 * column,
        age=np.full(n, 9),
        detection=np.full(n, -1),
        hits=np.full(n, 7),
        nis=np.full(n, 1.5),
    )


def result(
    index: int,
    shown: Tracks | None = None,
    *,
    seen: Detections | None = None,
    events: tuple[TrackEvent, ...] = (),
    image: Image | None = None,
    time: float | None = None,
    motion: CameraMotion = STANDS_STILL,
    view: View | None = None,
    utc: float | None = None,
) -> FrameResult:
    frame = Frame(
        image=np.full((64, 80), 90, np.uint8) if image is None else image,
        index=index,
        time=index / RATE if time is None else time,
        source="clip",
        utc=utc,
    )
    shown, seen = tracks() if shown is None else shown, detections() if seen is None else seen
    none = shown.take(np.empty(0, np.int64))
    return FrameResult(frame, seen, 0, shown, none, events, motion, spans={}, view=view)


def ramp(low: int, high: int) -> NDArray[np.uint16]:
    """An image (60, 80) of even steps between two levels."""
    return np.linspace(low, high, 60 * 80).reshape(60, 80).astype(np.uint16)


def run_for_ever(folder: Path) -> None:
    sinks = open_sinks(ALL, folder, header()).values()
    (recorder,) = open_recorders(["recorded"], folder, header()).values()
    index = 0
    while True:
        x = index % 60 + 10.25
        item = result(index, tracks([x, 40], [20, 30], [C, P]), seen=detections([x], [20]))
        recorder.write(item.frame)
        for sink in sinks:
            sink.write(item)
        print(index, flush=True)
        index += 1


if __name__ == "__main__":
    run_for_ever(Path(sys.argv[1]))
