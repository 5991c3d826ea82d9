"""What every engine promises, the same tests for the CPU and for CUDA."""

import gc
import subprocess
import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import CancelledError, ThreadPoolExecutor
from contextlib import closing
from itertools import chain
from threading import Event
from typing import Any

import numpy as np
import pytest
import torch

from irst_pipeline.config import RunSettings
from irst_pipeline.detection import detect
from irst_pipeline.engine import Engine, SharedEngine, find_device, open_engine
from irst_pipeline.engine.base import BatchTooLargeError, above_threshold
from irst_pipeline.engine.cpu import Compiled, fingerprint
from irst_pipeline.engine.cuda import compiled_for, in_half_precision, pack_found, search, unpack_found
from irst_pipeline.engine.network import TargetNet
from irst_pipeline.errors import IrstError, UsageError
from irst_pipeline.lsnet.normalise import normalise, target_units
from irst_pipeline.lsnet.weights import load_weights, shipped_names
from irst_pipeline.sources import open_source
from irst_pipeline.types import Frame, Image, TargetPixels
from tests.running import CLOUDS

NANO = "lsnet-nano"
TOLERANCE = 0.1  # of a probability; what half precision may change in a single pixel
EVERY_PIXEL = -1.0  # a threshold below any probability


def nano(device: str, threshold: float = EVERY_PIXEL, newest: bool = False) -> Engine[Any]:
    return open_engine(load_weights(NANO).network, device, threshold, newest)


@pytest.fixture(scope="module", params=["cpu", "cpu newest", "cpu shared", pytest.param("cuda", marks=pytest.mark.gpu)])
def engine(request: pytest.FixtureRequest) -> Iterator[Engine[Any]]:
    device, _, kind = request.param.partition(" ")
    engine = nano(device, newest=kind == "newest")
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


def reference(image: Image, model: str = NANO) -> tuple[np.ndarray, np.ndarray]:
    """Probability and T by the network itself, in float32 on the CPU."""
    normalised = normalise(torch.from_numpy(image.astype(np.int32))[None, None])
    with torch.inference_mode():
        parts = load_weights(model).network(normalised.frames)
    target = target_units(parts.background, parts.target) * normalised.scale
    return parts.logits.sigmoid()[0, 0].numpy(), target[0, 0].numpy()


def test_maps_are_the_networks(engine: Engine[Any], frames: list[Frame]) -> None:
    for frame, found, span in engine.run(frames):
        probability, intensity = (plane.ravel() for plane in reference(frame.image))
        assert found.probability.dtype == found.intensity.dtype == np.float32
        np.testing.assert_array_equal(found.places, np.arange(frame.image.size))
        np.testing.assert_allclose(found.probability, probability, atol=TOLERANCE)
        assert np.abs(found.probability - probability).mean() < 1e-3
        np.testing.assert_allclose(found.intensity, intensity, atol=0.1 * np.abs(intensity).max())
        assert found.probability.max() > 0.5
        assert span.seconds > 0


@pytest.mark.parametrize("device", ["cpu", pytest.param("cuda", marks=pytest.mark.gpu)])
def test_pixels_above_the_threshold_come_back_and_no_others(device: str, frames: list[Frame]) -> None:
    for (_, few, _), (_, every, _) in zip(nano(device, 0.3).run(frames), nano(device).run(frames), strict=True):
        above = every.probability > 0.3
        assert 0 < above.sum() < 1000
        np.testing.assert_array_equal(few.places, every.places[above])
        np.testing.assert_array_equal(few.probability, every.probability[above])
        np.testing.assert_array_equal(few.intensity, every.intensity[above])


@pytest.mark.parametrize("count", [0, 1, 2, 3, 6])
def test_every_frame_comes_back_in_order(engine: Engine[Any], frames: list[Frame], count: int) -> None:
    assert [frame.index for frame, _, _ in engine.run(frames[:count])] == list(range(count))


def test_maps_are_the_callers_own(engine: Engine[Any], frames: list[Frame]) -> None:
    kept, copied = [], []
    for _, found, _ in engine.run(frames):
        kept.append(found.probability)
        copied.append(found.probability.copy())
    alone = [found.probability for frame in frames for _, found, _ in engine.run([frame])]
    np.testing.assert_array_equal(kept, copied)
    # A GPU adds up in another order where frames go together.
    np.testing.assert_allclose(kept, alone, rtol=0, atol=TOLERANCE if engine.gathered > 1 else 0)


def test_no_more_frames_are_taken_than_fit_in_flight(engine: Engine[Any], frames: list[Frame]) -> None:
    taken = []

    def watched() -> Iterator[Frame]:
        for frame in 12 * frames:
            taken.append(frame)
            yield frame

    for came, _ in enumerate(engine.run(watched())):
        assert len(taken) - came <= engine.slots * engine.gathered


@pytest.mark.parametrize("device", ["cpu", pytest.param("cuda", marks=pytest.mark.gpu)])
def test_of_a_run_that_is_given_up_nothing_is_left_in_the_next(device: str, frames: list[Frame]) -> None:
    engine = nano(device)
    alone = [engine.collect(engine.submit([frame.image]))[0].probability for frame in frames]
    given_up = [engine.submit([frame.image]) for frame in frames[: engine.slots]]
    del given_up
    for frame, expected in zip(frames, alone, strict=True):
        np.testing.assert_array_equal(engine.collect(engine.submit([frame.image]))[0].probability, expected)


def test_a_size_of_which_more_go_at_once_mixes_up_no_other(frames: list[Frame]) -> None:
    """On a CPU, OpenVINO says for each size how many frames at a time pay."""
    engine = nano("cpu")
    alone = [found.probability for frame in frames for _, found, _ in engine.run([frame])]
    engine.slots = len(frames)
    for (_, found, _), expected in zip(engine.run(frames), alone, strict=True):
        np.testing.assert_array_equal(found.probability, expected)


def test_size_and_depth_may_change_between_frames(engine: Engine[Any]) -> None:
    rng = np.random.default_rng(0)
    images = [rng.integers(0, 255, shape).astype(kind) for shape, kind in (((40, 56), "u1"), ((33, 47), "u2")) * 2]
    found = [found for _, found, _ in engine.run(as_frame(image) for image in images)]
    assert [len(f.places) for f in found] == [image.size for image in images]


def test_depth_changes_nothing(engine: Engine[Any]) -> None:
    image = np.random.default_rng(0).integers(0, 255, (48, 64)).astype(np.uint8)
    (_, narrow, _), (_, wide, _) = engine.run([as_frame(image), as_frame(image.astype(np.uint16) * 64)])
    np.testing.assert_allclose(wide.probability, narrow.probability, atol=TOLERANCE)
    np.testing.assert_allclose(wide.intensity, narrow.intensity * 64, atol=64)


def test_a_view_of_a_larger_buffer_is_read_right(engine: Engine[Any]) -> None:
    buffer = np.random.default_rng(0).integers(0, 255, (48, 96)).astype(np.uint8)
    (_, view, _), (_, copy, _) = engine.run([as_frame(buffer[:, :64]), as_frame(buffer[:, :64].copy())])
    np.testing.assert_array_equal(view.probability, copy.probability)


def test_a_frame_too_small_is_refused_in_one_line(engine: Engine[Any]) -> None:
    with pytest.raises(IrstError, match=r"^test: 40x15 px; the network takes 16x16 and more$"):
        list(engine.run([as_frame(np.zeros((15, 40), np.uint8))]))


def test_a_shared_engine_gives_each_run_its_own_maps() -> None:
    """Runs of different sizes at once, on an engine that was never told of those sizes before."""
    rng = np.random.default_rng(0)
    runs = [[as_frame(rng.integers(0, 255, (48, 16 * k)).astype(np.uint8), i) for i in range(8)] for k in (2, 3, 4)]
    expected = [[found.probability for _, found, _ in nano("cpu").run(run)] for run in runs]
    shared = SharedEngine(nano("cpu"))

    def probabilities(run: list[Frame]) -> list[np.ndarray]:
        shared.prepare(run[0])
        return [found.probability for _, found, _ in shared.run(run)]

    with closing(shared), ThreadPoolExecutor(len(runs)) as pool:
        together = list(pool.map(probabilities, runs))
    for own, same in zip(together, expected, strict=True):
        np.testing.assert_array_equal(own, same)


def test_the_network_is_made_once_for_each_size_of_the_runs_that_share_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """Their frames take turns: an engine that kept too few sizes would begin anew with every frame."""
    made = []

    def noted(shape: tuple[int, ...], model: Any) -> Compiled:
        made.append(shape)
        return Compiled(shape, model)

    monkeypatch.setattr("irst_pipeline.engine.cpu.Compiled", noted)
    images = [np.zeros((32, 32 + 8 * k), np.uint8) for k in range(6)]
    with closing(SharedEngine(nano("cpu"))) as shared:
        for image in images:
            shared.prepare(as_frame(image))
        for image in 3 * images:
            assert shared.collect(shared.submit([image]))
    assert made == [image.shape for image in images]


def test_a_network_is_recorded_once_in_a_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of each recording PyTorch keeps memory: a program that runs one recording after another must not grow by it."""
    record: Any = torch.jit.trace
    recorded = []

    def noted(network: Any, example: torch.Tensor, **options: Any) -> Any:
        recorded.append(example.shape)
        return record(network, example, **options)

    monkeypatch.setattr("torch.jit.trace", noted)
    monkeypatch.setattr("irst_pipeline.engine.cpu._CONVERTED", {})  # other tests may have made it
    image = np.random.default_rng(5).integers(90, 110, (40, 56)).astype(np.uint8)
    other = load_weights(NANO).network
    with torch.no_grad():
        list(other.parameters())[-1].add_(1)  # to all logits
    first, again, changed = (
        next(engine.run([as_frame(image)]))[1].probability
        for engine in (nano("cpu"), nano("cpu", newest=True), open_engine(other, "cpu", EVERY_PIXEL))
    )
    np.testing.assert_allclose(first, again, atol=1e-6)
    assert np.median(changed / first) > 2
    assert len(recorded) == 2


def test_frames_before_a_failure_of_their_source_are_finished(engine: Engine[Any], frames: list[Frame]) -> None:
    def broken_off() -> Iterator[Frame]:
        yield from frames[:4]
        raise IrstError("the source is gone")

    found: list[int] = []
    with pytest.raises(IrstError, match="the source is gone"):
        found.extend(frame.index for frame, _, _ in engine.run(broken_off()))
    assert found == [0, 1, 2, 3]


NOTHING = TargetPixels(np.empty(0, np.int64), np.empty(0, np.float32), np.empty(0, np.float32))


class StubEngine(Engine[list[Image]]):
    """Finds nothing, writes down its batches and waits until it may begin; no device can be told when to fail."""

    device, slots = "none", 2

    def __init__(self, batch: int = 1, room: int = 100, breaks_at: int = 0, gathered: int = 1) -> None:
        self.batch, self.room, self.breaks_at, self.gathered = batch, room, breaks_at, gathered
        self.batches: list[list[tuple[int, ...]]] = []
        self.may_begin = Event()

    def warm_up(self, _image: Image, _count: int) -> None:
        self.may_begin.wait()

    def submit(self, images: Sequence[Image]) -> list[Image]:
        if len(images) > self.room:
            self.batch = len(images) // 2
            raise BatchTooLargeError
        self.batches.append([image.shape for image in images])
        return list(images)

    def collect(self, ticket: list[Image]) -> list[TargetPixels]:
        if len(self.batches) == self.breaks_at:
            raise IrstError("the device is gone")
        return [NOTHING] * len(ticket)


def test_a_failure_of_a_shared_engine_is_told_to_the_run_it_befell(frames: list[Frame]) -> None:
    with closing(SharedEngine(StubEngine(breaks_at=3))) as engine:
        results = engine.run(frames)
        assert [next(results)[0].index for _ in range(2)] == [0, 1]
        with pytest.raises(IrstError, match="the device is gone"):
            next(results)
        # Another run goes on.
        assert len(list(engine.run(frames[:2]))) == 2


class SlowBuilder(StubEngine):
    """Takes until `may_begin` to get ready for a size that comes up in the middle of a run."""

    def build(self, image: Image) -> None:
        if image.shape == (16, 20):
            self.may_begin.wait()


def test_a_size_that_comes_up_in_one_run_holds_no_other_up(frames: list[Frame]) -> None:
    slow = SlowBuilder()
    with closing(SharedEngine(slow)) as engine, ThreadPoolExecutor(1) as other:
        changed = other.submit(lambda: list(engine.run([as_frame(np.zeros((16, 20), np.uint8))])))
        assert len(list(engine.run(frames))) == len(frames)
        assert not changed.done()
        slow.may_begin.set()
        assert len(changed.result(timeout=10)) == 1


def test_a_shared_engine_that_is_closed_keeps_nobody_waiting(frames: list[Frame]) -> None:
    """As the thread of a run that was stopped while its network was compiled: the program's end waits for it."""
    with closing(SharedEngine(StubEngine())) as engine:
        pass
    with pytest.raises(CancelledError):
        engine.submit([frames[0].image]).result(timeout=10)


@pytest.mark.parametrize("room", [100, 2])
def test_frames_that_are_gathered_come_back_each_and_in_their_order(room: int) -> None:
    stub, sizes = StubEngine(batch=4, room=room, gathered=4), [(16, 16)] * 6 + [(20, 16)] * 3 + [(16, 16)]
    frames = [as_frame(np.zeros(size, np.uint8)) for size in sizes]
    assert [frame for frame, _, _ in stub.run(frames)] == frames
    assert [len(batch) for batch in stub.batches] == ([4, 2, 3, 1] if room > 2 else [2, 2, 2, 2, 1, 1])
    assert list(chain.from_iterable(stub.batches)) == sizes


def pile_up(stub: StubEngine, images: list[Image]) -> None:
    """Give a shared engine all of these before it can begin with the first, and wait until all are done."""
    with closing(SharedEngine(stub)) as engine, ThreadPoolExecutor(1) as pool:
        ready = pool.submit(engine.warm_up, images[0], 1)
        tickets = [engine.submit([image]) for image in images]
        stub.may_begin.set()
        ready.result()
        assert [engine.collect(ticket) for ticket in tickets] == [[NOTHING]] * len(images)


def test_a_shared_engine_gives_frames_of_one_size_together_in_their_order() -> None:
    stub, sizes = StubEngine(batch=4), [(16, 16)] * 6 + [(20, 16)] + [(16, 16)] * 2
    pile_up(stub, [np.zeros(size, np.uint8) for size in sizes])
    assert list(chain.from_iterable(stub.batches)) == sizes
    assert [len(batch) for batch in stub.batches] == [4, 2, 1, 2]


def test_a_batch_too_large_is_halved_and_nothing_is_lost() -> None:
    stub = StubEngine(batch=8, room=2)
    pile_up(stub, [np.zeros((16, 16), np.uint8)] * 8)
    assert [len(batch) for batch in stub.batches] == [2, 2, 2, 2]


def test_what_is_packed_on_a_device_is_what_lies_above_the_threshold() -> None:
    maps = torch.from_numpy(np.random.default_rng(0).uniform(0, 1, (2, 3, 12, 16)).astype(np.float32))
    maps[0, 1] = 0  # a frame without any
    found = unpack_found(pack_found(maps, 0.9, 200), 3, 12 * 16)
    assert found is not None
    for i, pixels in enumerate(found):
        for packed, plain in zip(pixels, above_threshold(maps[0, i].numpy(), maps[1, i].numpy(), 0.9), strict=True):
            np.testing.assert_array_equal(packed, plain)
    assert unpack_found(pack_found(maps, 0.1, 200), 3, 12 * 16) is None, "there is no room for all"


def buffers(batch: int, height: int, width: int, device: str) -> tuple[torch.Tensor, torch.Tensor]:
    """What `search` fills."""
    return torch.empty((2, batch, height, width), device=device), torch.empty(
        1 + 3 * 200, dtype=torch.int32, device=device
    )


@pytest.mark.parametrize("model", shipped_names())
@pytest.mark.parametrize("depth", [torch.uint8, torch.uint16])
def test_a_search_can_be_recorded_for_it_needs_no_number_from_the_device(depth: torch.dtype, model: str) -> None:
    """Tensors without values raise an error where one is asked for."""
    network = TargetNet(load_weights(model).network).half().to("meta")
    images = torch.empty((2, 1, 96, 130), dtype=depth, device="meta")
    with torch.inference_mode():
        search(images, network, 0.3, *buffers(2, 96, 130, "meta"))


def test_an_engine_leaves_the_network_it_was_given_to_others() -> None:
    network = load_weights(NANO).network
    before = fingerprint(network)
    half = in_half_precision(network, torch.device("cpu"))
    assert {parameter.dtype for parameter in half.parameters()} == {torch.float16}
    assert fingerprint(network) == before


def test_a_search_finds_in_half_precision_what_the_network_sees(frames: list[Frame]) -> None:
    images = np.stack([frame.image[8:72] for frame in frames[:2]])
    maps, packed = buffers(2, 64, 256, "cpu")
    with torch.inference_mode():
        search(torch.from_numpy(images)[:, None], TargetNet(load_weights(NANO).network).half(), 0.3, maps, packed)
    found = unpack_found(packed, 2, images[0].size)
    assert found is not None
    for image, pixels in zip(images, found, strict=True):
        probability, target = reference(image)
        expected = above_threshold(probability, target, 0.3)
        assert len(pixels.places) > 6
        doubtful = np.setxor1d(pixels.places, expected.places)
        np.testing.assert_allclose(probability.flat[doubtful], 0.3, atol=TOLERANCE)
        np.testing.assert_allclose(pixels.probability, probability.flat[pixels.places], atol=TOLERANCE)
        np.testing.assert_allclose(pixels.intensity, target.flat[pixels.places], atol=0.1 * np.abs(target).max())


@pytest.mark.gpu
@pytest.mark.parametrize("compiled", [False, True])
@pytest.mark.parametrize("model", shipped_names())
def test_half_precision_finds_the_same_detections(model: str, compiled: bool, frames: list[Frame]) -> None:
    settings = RunSettings().detection
    engine = open_engine(load_weights(model).network, "cuda", settings.threshold, compiled=compiled)
    engine.prepare(frames[0])
    with closing(open_source(str(CLOUDS))) as source:
        for frame, found, _ in engine.run(source):
            maps = reference(frame.image, model)
            exact, _ = detect(frame, above_threshold(*maps, settings.threshold), settings)
            half, _ = detect(frame, found, settings)
            assert len(half) == len(exact)
            places = np.column_stack([half.x, half.y]), np.column_stack([exact.x, exact.y])
            assert np.hypot(*(places[0][:, None] - places[1]).T).min(0).max(initial=0) <= 0.05


@pytest.mark.gpu
def test_frames_in_a_batch_are_found_as_alone(frames: list[Frame]) -> None:
    engine = nano("cuda", 0.3)
    alone = [found for _, found, _ in engine.run(frames)]
    for one, together in zip(alone, engine.collect(engine.submit([f.image for f in frames])), strict=True):
        np.testing.assert_allclose(len(one.places), len(together.places), atol=2)
        common = np.isin(one.places, together.places)
        np.testing.assert_allclose(
            one.probability[common], together.probability[np.isin(together.places, one.places)], atol=TOLERANCE
        )


def test_a_network_is_compiled_anew_for_each_size_however_many_there_are() -> None:
    made, net = [], torch.nn.Conv2d(1, 1, 3)

    def noted(graph: torch.fx.GraphModule, _inputs: Any) -> Any:
        made.append(graph)
        return graph.forward

    sizes = [(count, 16, width) for count in (4, 1) for width in range(16, 22)]
    with torch.inference_mode():
        for done, (count, height, width) in enumerate(sizes, 1):
            compiled = compiled_for(net, torch.zeros(count, 1, height, width), noted)
            assert len(made) == done
            compiled(torch.zeros(2 if count > 1 else 1, 1, height, width))
            assert len(made) == done, "for any number of several"


@pytest.mark.gpu
def test_a_compiled_network_takes_other_sizes_as_it_is(frames: list[Frame], caplog: pytest.LogCaptureFixture) -> None:
    engine = open_engine(load_weights(NANO).network, "cuda", 0.3, newest=True, compiled=True)
    with caplog.at_level("INFO", "irst"):
        engine.prepare(frames[0])
    height, width = frames[0].image.shape
    assert f"compiling the network for frames of {width}x{height}" in caplog.text
    cropped = [as_frame(frame.image[:-3, :-5]) for frame in frames]
    for some in (frames, cropped):
        for (_, found, _), (_, plain, _) in zip(engine.run(some), nano("cuda", 0.3).run(some), strict=True):
            both = np.intersect1d(found.places, plain.places)
            assert len(both) >= len(plain.places) - 2
            assert len(both) >= len(found.places) - 2
    assert caplog.text.count("compiling") == 1


@pytest.mark.gpu
def test_a_device_out_of_memory_takes_fewer_frames_and_says_so(caplog: pytest.LogCaptureFixture) -> None:
    gc.collect()
    torch.cuda.empty_cache()  # of what other tests left
    engine, image = nano("cuda", 0.3), np.zeros((1024, 1280), np.uint8)
    engine.collect(engine.submit([image]))
    total = torch.cuda.get_device_properties(0).total_memory
    torch.cuda.set_per_process_memory_fraction(2 * torch.cuda.memory_reserved() / total)
    try:
        with pytest.raises(BatchTooLargeError):
            engine.submit([image] * 16)
        assert engine.batch == 8
        assert "out of memory" in caplog.text
        with pytest.raises(IrstError, match="out of memory with one frame of 8000x8000"):
            engine.submit([np.zeros((8000, 8000), np.uint8)])
        assert len(engine.collect(engine.submit([image]))) == 1
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)


@pytest.mark.parametrize("name", ["gpu", "cuda:", "cuda:x", "cuda:99", "CPU", ""])
def test_unknown_devices_are_refused(name: str) -> None:
    with pytest.raises(UsageError, match=f"^device {name}: "):
        find_device(name)


def test_nothing_is_told_to_anybody() -> None:
    """Importing OpenVINO as it is starts a thread that reports its use."""
    lines = "import threading, irst_pipeline.engine.cpu; print(threading.active_count())"
    found = subprocess.run([sys.executable, "-c", lines], capture_output=True, check=True, text=True)
    assert found.stdout.strip() == "1"


def test_a_signal_may_come_when_engines_have_gone() -> None:
    """In whatever order; a process whose stack for signals is gone ends in a segmentation fault."""
    lines = """
import gc, os, signal, numpy
from irst_pipeline.engine import open_engine
from irst_pipeline.lsnet.weights import load_weights
signal.signal(signal.SIGTERM, lambda *_: print("handled"))
for _ in range(3):
    engine = open_engine(load_weights("lsnet-nano").network, "cpu", 0.3, False)
    gc.collect()
del engine
gc.collect()
os.kill(os.getpid(), signal.SIGTERM)
"""
    found = subprocess.run([sys.executable, "-c", lines], capture_output=True, check=True, text=True)
    assert found.stdout.strip() == "handled"


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
def test_without_cuda() -> None:
    assert find_device("auto").type == "cpu"
    with pytest.raises(UsageError, match="use --device cpu"):
        find_device("cuda")
