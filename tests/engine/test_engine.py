"""What every engine promises, the same tests for the CPU and for CUDA."""

import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from irst_pipeline.engine import Engine, SharedEngine, find_device, open_engine
from irst_pipeline.errors import IrstError, UsageError
from irst_pipeline.lsnet.normalise import normalise
from irst_pipeline.lsnet.weights import load_weights
from irst_pipeline.sources import open_source
from irst_pipeline.types import Frame, Image

CLOUDS = Path(__file__).parents[2] / "videos" / "clouds" / "sequence16.mkv"
TOLERANCE = 0.1  # of a probability; what half precision may change in a single pixel


@pytest.fixture(scope="module", params=["cpu", "cpu newest", "cpu shared", pytest.param("cuda", marks=pytest.mark.gpu)])
def engine(request: pytest.FixtureRequest) -> Iterator[Engine[Any]]:
    device, _, kind = request.param.partition(" ")
    engine = open_engine(load_weights("lsnet-nano").network, device, newest=kind == "newest")
    if kind != "shared":
        yield engine
        return
    with closing(SharedEngine(engine)) as shared:
        yield shared


@pytest.fixture(scope="module")
def frames() -> list[Frame]:
    frames = iter(open_source(str(CLOUDS)))
    return [next(frames) for _ in range(6)]


def as_frame(image: Image, index: int = 0) -> Frame:
    return Frame(image, index, index / 30, "test")


def reference(image: Image) -> tuple[np.ndarray, np.ndarray]:
    """Probability and T by the network itself, in float32 on the CPU."""
    normalised = normalise(torch.from_numpy(image.astype(np.int32))[None, None])
    with torch.inference_mode():
        parts = load_weights("lsnet-nano").network(normalised.frames)
    return parts.logits.sigmoid()[0, 0].numpy(), (parts.target * normalised.scale)[0, 0].numpy()


def test_maps_are_the_networks(engine: Engine[Any], frames: list[Frame]) -> None:
    for frame, found in engine.run(frames):
        probability, intensity = reference(frame.image)
        assert found.probability.dtype == found.intensity.dtype == np.float32
        np.testing.assert_allclose(found.probability, probability, atol=TOLERANCE)
        assert np.abs(found.probability - probability).mean() < 1e-3
        np.testing.assert_allclose(found.intensity, intensity, atol=0.1 * np.abs(intensity).max())
        assert found.probability.max() > 0.5
        assert found.span.seconds > 0


@pytest.mark.parametrize("count", [0, 1, 2, 3, 6])
def test_every_frame_comes_back_in_order(engine: Engine[Any], frames: list[Frame], count: int) -> None:
    assert [frame.index for frame, _ in engine.run(frames[:count])] == list(range(count))


def test_maps_are_the_callers_own(engine: Engine[Any], frames: list[Frame]) -> None:
    together = [found.probability for _, found in engine.run(frames)]
    alone = [found.probability for frame in frames for _, found in engine.run([frame])]
    np.testing.assert_array_equal(together, alone)


def test_no_more_frames_are_taken_than_fit_in_flight(engine: Engine[Any], frames: list[Frame]) -> None:
    taken = []

    def watched() -> Iterator[Frame]:
        for frame in frames:
            taken.append(frame)
            yield frame

    for count, _ in enumerate(engine.run(watched()), start=1):
        assert len(taken) <= count + engine.slots - 1


def test_size_and_depth_may_change_between_frames(engine: Engine[Any]) -> None:
    rng = np.random.default_rng(0)
    images = [rng.integers(0, 255, shape).astype(kind) for shape, kind in (((40, 56), "u1"), ((33, 47), "u2")) * 2]
    found = [maps.probability for _, maps in engine.run(as_frame(image) for image in images)]
    assert [f.shape for f in found] == [image.shape for image in images]


def test_depth_changes_nothing(engine: Engine[Any]) -> None:
    image = np.random.default_rng(0).integers(0, 255, (48, 64)).astype(np.uint8)
    (_, narrow), (_, wide) = engine.run([as_frame(image), as_frame(image.astype(np.uint16) * 64)])
    np.testing.assert_allclose(wide.probability, narrow.probability, atol=TOLERANCE)
    np.testing.assert_allclose(wide.intensity, narrow.intensity * 64, atol=64)


def test_a_view_of_a_larger_buffer_is_read_right(engine: Engine[Any]) -> None:
    buffer = np.random.default_rng(0).integers(0, 255, (48, 96)).astype(np.uint8)
    (_, view), (_, copy) = engine.run([as_frame(buffer[:, :64]), as_frame(buffer[:, :64].copy())])
    np.testing.assert_array_equal(view.probability, copy.probability)


def test_a_frame_too_small_is_refused_in_one_line(engine: Engine[Any]) -> None:
    with pytest.raises(IrstError, match=r"^test: 40x15 px; the network takes 16x16 and more$"):
        list(engine.run([as_frame(np.zeros((15, 40), np.uint8))]))


def test_a_shared_engine_gives_each_run_its_own_maps() -> None:
    """Runs of different sizes at once, on an engine that was never told of those sizes before."""
    rng = np.random.default_rng(0)
    runs = [[as_frame(rng.integers(0, 255, (48, 16 * k)).astype(np.uint8), i) for i in range(8)] for k in (2, 3, 4)]
    alone = open_engine(load_weights("lsnet-nano").network, "cpu")
    expected = [[found.probability for _, found in alone.run(run)] for run in runs]

    shared = SharedEngine(open_engine(load_weights("lsnet-nano").network, "cpu"))

    def probabilities(run: list[Frame]) -> list[np.ndarray]:
        shared.prepare(run[0])
        return [found.probability for _, found in shared.run(run)]

    with closing(shared), ThreadPoolExecutor(len(runs)) as pool:
        together = list(pool.map(probabilities, runs))
    for own, same in zip(together, expected, strict=True):
        np.testing.assert_array_equal(own, same)


class BrokenEngine(Engine[int]):
    """Fails at every third image."""

    device, slots = "none", 2

    def __init__(self) -> None:
        self.count = 0

    def warm_up(self, _image: Image) -> None: ...

    def submit(self, _image: Image) -> int:
        self.count += 1
        return self.count

    def collect(self, ticket: int) -> tuple[np.ndarray, np.ndarray]:
        if ticket % 3 == 0:
            raise IrstError("the device is gone")
        return np.zeros((1, 1), np.float32), np.zeros((1, 1), np.float32)

    def network_alone(self, _image: Image) -> Callable[[], None]:
        raise NotImplementedError


def test_a_failure_of_a_shared_engine_is_told_to_the_run_it_befell(frames: list[Frame]) -> None:
    with closing(SharedEngine(BrokenEngine())) as engine:
        results = engine.run(frames)
        assert [next(results)[0].index for _ in range(2)] == [0, 1]
        with pytest.raises(IrstError, match="the device is gone"):
            next(results)
        # Another run goes on.
        assert len(list(engine.run(frames[:2]))) == 2


@pytest.mark.parametrize("name", ["gpu", "cuda:", "cuda:x", "cuda:99", "CPU", ""])
def test_unknown_devices_are_refused(name: str) -> None:
    with pytest.raises(UsageError, match=f"^device {name}: "):
        find_device(name)


def test_nothing_is_told_to_anybody() -> None:
    """Importing OpenVINO as it is starts a thread that reports its use."""
    lines = "import threading, irst_pipeline.engine; print(threading.active_count())"
    found = subprocess.run([sys.executable, "-c", lines], capture_output=True, check=True, text=True)
    assert found.stdout.strip() == "1"


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
def test_without_cuda() -> None:
    assert find_device("auto").type == "cpu"
    with pytest.raises(UsageError, match="use --device cpu"):
        find_device("cuda")
