"""Targets near the noise, for the tracker to be told of: the shipped network sees more than a matched filter does."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter, maximum_filter

from irst_pipeline.engine.exact import predict
from irst_pipeline.lsnet.weights import load_weights
from irst_pipeline.settings import validate
from irst_pipeline.simulation import SceneSettings, render
from irst_pipeline.simulation.simulate import TrueFrame
from irst_pipeline.types import Image
from tools.benchmark_scenes import SCENES

Response = NDArray[np.float32]
EVERY = 30  # frames, in which a target flies on by some px
CORE, REACH = 1, 5  # px round a target: where it is looked for, and where a peak is none of clutter


@pytest.fixture(scope="module")
def frames() -> list[TrueFrame]:
    scene = validate(SceneSettings, SCENES["weak"], "weak")
    return [frame for seed in (11, 12) for frame in render(scene, seed) if frame.index % EVERY == 0]


def matched_filter(image: Image) -> Response:
    """The response of the best linear filter for a point in white noise, over its spread near by."""
    level = image.astype(np.float32)
    matched = gaussian_filter(level - gaussian_filter(level, 3), 0.9)
    return np.asarray(matched / np.sqrt(gaussian_filter(matched**2, 12)), np.float32)


def around(plane: Response, x: float, y: float, reach: int) -> Response:
    """A view of what lies within so many px."""
    row, column = round(y), round(x)
    return plane[max(0, row - reach) : row + reach + 1, max(0, column - reach) : column + reach + 1]


def seen(respond: Callable[[Image], Response], frames: list[TrueFrame]) -> float:
    """Share of the targets in the picture that stand out of all but one peak of clutter a frame."""
    targets, clutter = [], []
    for frame in frames:
        response = respond(frame.image).copy()
        height, width = response.shape
        inside = [t for t in frame.targets if t.visible and -0.5 < t.x < width - 0.5 and -0.5 < t.y < height - 0.5]
        targets += [around(response, t.x, t.y, CORE).max() for t in inside]
        for t in inside:
            around(response, t.x, t.y, REACH)[:] = -np.inf
        clutter.append(response[(response == maximum_filter(response, 5)) & np.isfinite(response)])
    return float(np.mean(np.array(targets) > np.sort(np.concatenate(clutter))[-len(frames)]))


def test_the_shipped_network_sees_dim_targets_that_a_matched_filter_does_not(frames: list[TrueFrame]) -> None:
    network = load_weights("lsnet-nano").network
    found = seen(lambda image: predict(network, image, torch.device("cpu")).probability, frames)
    assert found > 1.25 * seen(matched_filter, frames)
