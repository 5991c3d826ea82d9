"""Small scenes for the tests of the simulator."""

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from irst_pipeline.settings import validate
from irst_pipeline.simulation import SceneSettings, TrueFrame, render
from irst_pipeline.types import Floats
from tests.running import read_csv

CLEAR = {"sky": {"level": 7300, "glow": 0}, "clouds": {"coverage": 0}}


def scene(**settings: Any) -> SceneSettings:
    """A small one; clear sky unless told otherwise."""
    tree = {"width_px": 64, "height_px": 48, "frames": 12, "frame_rate_hz": 25, **CLEAR, **settings}
    return validate(SceneSettings, tree, "scene")


def target(**settings: Any) -> dict[str, Any]:
    return {"x_px": 20.0, "y_px": 20.0, "vx_px_s": 0.0, "vy_px_s": 0.0, "snr": 10.0, **settings}


def frames_of(seed: int = 1, **settings: Any) -> list[TrueFrame]:
    """All frames of such a scene."""
    return list(render(scene(**settings), seed))


def images(frames: list[TrueFrame]) -> NDArray[np.float64]:
    return np.stack([frame.image for frame in frames]).astype(float)


def centroid(frame: TrueFrame) -> tuple[float, float]:
    """x and y, px, of what a frame shows of its first target before a clear sky."""
    left, top = round(frame.targets[0].x) - 5, round(frame.targets[0].y) - 5
    spot = frame.image[top : top + 11, left : left + 11] - 7300.0
    y, x = np.indices(spot.shape)
    return left + float((spot * x).sum() / spot.sum()), top + float((spot * y).sum() / spot.sum())


def path_of(frames: list[TrueFrame], number: int = 0) -> Floats:
    """(frames, 4) x, y, vx, vy of the truth of one target."""
    states = [frame.targets[number] for frame in frames]
    return np.array([(state.x, state.y, state.vx, state.vy) for state in states])


def rows(path: Path) -> list[dict[str, float]]:
    return [{key: float(value) for key, value in row.items()} for row in read_csv(path)]
