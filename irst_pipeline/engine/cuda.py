"""The network on a CUDA device: pinned memory, overlapped copies, recorded graphs; only what was found comes back."""

import logging
import sys
import traceback
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import dataclass
from threading import Lock
from typing import Any

import numpy as np
import torch
from torch import Tensor

from irst_pipeline.engine.base import BatchTooLargeError, DeviceEngine, above_threshold
from irst_pipeline.engine.network import TargetNet
from irst_pipeline.errors import IrstError
from irst_pipeline.lsnet.model import LSNet
from irst_pipeline.lsnet.normalise import normalise, normalise_image
from irst_pipeline.memory import lacks_memory
from irst_pipeline.types import Image, TargetPixels

log = logging.getLogger("irst")

Net = Callable[[Tensor], tuple[Tensor, Tensor]]
"""As of `TargetNet`."""

BATCH_MAX = 16
PIXELS_MAX = 4096  # of each image that come back; where more are found, its maps come back whole
GATHERED = 8  # frames of one recording that go together; alone they would leave most of the device idle
SHAPES_KEPT = 40  # kinds of batches whose buffers and graphs are kept: eight sizes of images, by one to 16 at a time
_COMPILING = Lock()  # PyTorch's compiler is one for all engines
WARM_UP = 3  # passes before a graph is recorded, in which kernels are loaded and chosen


def in_half_precision(network: LSNet, device: torch.device) -> TargetNet:
    """A copy on the device, as it is run there; the network itself stays as it is, for others to use."""
    return TargetNet(deepcopy(network)).eval().half().to(device, memory_format=torch.channels_last)  # type: ignore[call-overload, no-any-return]


def pack_found(maps: Tensor, threshold: float, count: int) -> Tensor:
    """The pixels above a threshold in one flat int32 tensor of fixed size, found without waiting for the device.

    maps: (2, B, H, W) float32, probability and T. The result: how many there are; the places in B * H * W of the first
    `count` of them, ascending, and -1 from there on; then the bits of their probabilities and of their T.
    """
    flat = maps.flatten(1)
    above = flat[0] > threshold
    places = torch.nonzero_static(above, size=count, fill_value=-1)[:, 0]
    values = flat[:, places.clamp(min=0)].contiguous()
    return torch.cat([above.sum(dtype=torch.int32)[None], places.int(), values.view(torch.int32).flatten()])


def search(images: Tensor, network: Net, threshold: float, maps: Tensor, packed: Tensor) -> None:
    """Fill `maps` and `packed`, as of `pack_found`, from raw images (B, 1, H, W), without waiting for the device."""
    normalised = normalise(images)
    probability, target = network(normalised.frames.half())
    maps[0].copy_(probability[:, 0])
    torch.mul(target[:, 0].float(), normalised.scale[:, 0], out=maps[1])
    packed.copy_(pack_found(maps, threshold, len(packed) // 3))


def unpack_found(packed: Tensor, batch: int, pixels: int) -> list[TargetPixels] | None:
    """What `pack_found` packed, for each of `batch` images of so many pixels; None if there was no room for all."""
    total, rest = int(packed[0]), packed[1:].view(3, -1)
    if total > rest.shape[1]:
        return None
    places = rest[0, :total].numpy().astype(np.int64)
    probability, intensity = rest[1:, :total].contiguous().view(torch.float32).numpy()
    ends = np.searchsorted(places, pixels * np.arange(1, batch + 1))
    starts = np.concatenate([[0], ends[:-1]])
    return [
        TargetPixels(places[a:b] - pixels * i, probability[a:b].copy(), intensity[a:b].copy())
        for i, (a, b) in enumerate(zip(starts, ends, strict=True))
    ]


def compiled_for(network: Net, frames: Tensor, backend: str | Callable[..., Any] = "inductor") -> Net:
    """The network, compiled for frames (B, 1, H, W) of this size: for one, or for any number of several.

    By itself PyTorch would compile a second size for all that follow, which is slower, and would leave a ninth in a
    process as it is without a word.
    """
    compiled = torch.compile(network, dynamic=False, backend=backend)
    torch._dynamo.maybe_mark_dynamic(frames, 0)  # type: ignore[no-untyped-call]
    with torch._dynamo.config.patch(recompile_limit=sys.maxsize, accumulated_recompile_limit=sys.maxsize):
        compiled(frames)
    return compiled


@dataclass
class Slot:
    """Buffers of one batch in flight and the work on them, made once for each sort of batch: to pin memory and to
    record a graph is slow, to copy and to replay is not."""

    host_images: Tensor
    """(B, 1, H, W), pinned."""
    device_images: Tensor
    maps: Tensor
    """(2, B, H, W) float32 on the device: probability and T."""
    packed: Tensor
    """On the device, as of `pack_found`."""
    host_packed: Tensor
    """Pinned."""
    search: Callable[[], object]
    """Asks the device for everything from `device_images` to `packed`."""
    done: torch.cuda.Event
    count: int = 0
    """How many of the images were given; the others are left over from an earlier batch."""


class CudaEngine(DeviceEngine[Slot]):
    """Two slots and three streams: upload, compute and download of neighbouring batches overlap.

    Raw grey levels travel to the device and are normalised there; the network runs in float16. All work on a batch is
    one recorded graph, so that Python asks for it once and not a kernel at a time. Batches are filled up to 1, 2, 4, 8
    or 16 images, each of which has its own graphs.
    """

    slots = 2
    batch = BATCH_MAX

    def __init__(self, network: LSNet, threshold: float, device: torch.device, newest: bool, compiled: bool) -> None:
        self._device, self._threshold = device, threshold
        self.gathered = 1 if newest else GATHERED
        self.device = f"{device}, {torch.cuda.get_device_name(device)}"
        self._network = in_half_precision(network, device)
        self._upload, self._compute, self._download = (torch.cuda.Stream(device) for _ in range(3))
        self._pool = torch.cuda.graph_pool_handle()
        self._kept: OrderedDict[tuple[int, tuple[int, ...], np.dtype[np.generic]], list[Slot]] = OrderedDict()
        self._compiles = compiled
        self._compiled: dict[tuple[tuple[int, ...], bool], Net] = {}
        """By the size of images, and whether there are several."""
        torch.cuda.synchronize(device)  # the weights are laid out on another stream than they are used on

    def compile(self, image: Image) -> None:
        """Of the network, for one image at a time where the newest counts and else for several. Sizes that come up
        in the middle of a run are searched without, as are several images of cameras that are watched together."""
        count = self.gathered
        key = image.shape, count > 1
        with _COMPILING, torch.cuda.device(self._device), torch.inference_mode():
            if not self._compiles or key in self._compiled:
                return
            height, width = image.shape
            log.info("%s: compiling the network for frames of %dx%d", self.device, width, height)
            stream = torch.cuda.Stream(self._device)
            try:
                with torch.cuda.stream(stream):
                    frames = normalise(torch.zeros((count, 1, *image.shape), device=self._device)).frames.half()
                    compiled = compiled_for(self._network, frames)
                stream.synchronize()
            except RuntimeError as error:
                reason = str(error).splitlines()[0]
                log.warning("%s: the network cannot be compiled (%s); it runs as it is", self.device, reason)
                self._compiles = False
            else:
                self._compiled[key] = compiled

    def _network_for(self, shape: tuple[int, ...], count: int) -> Net:
        return self._compiled.get((shape, count > 1), self._network)

    def warm_up(self, image: Image, count: int) -> None:
        size = 1
        while size <= min(_filled_up(count), self.batch):
            try:
                tickets = [self.submit([image] * size) for _ in range(self.slots)]
            except BatchTooLargeError:  # what was ready is gone
                size = 1
                continue
            for ticket in tickets:
                self.collect(ticket)
            size *= 2

    def submit(self, images: Sequence[Image]) -> Slot:
        with self._working(len(images), images[0]):
            slot = self._next_slot(images)
            for row, image in zip(slot.host_images[:, 0], images, strict=False):
                row.copy_(torch.from_numpy(np.ascontiguousarray(image)))
            slot.count = len(images)
            with torch.cuda.stream(self._upload):
                slot.device_images.copy_(slot.host_images, non_blocking=True)
            self._compute.wait_stream(self._upload)
            with torch.cuda.stream(self._compute):
                slot.search()
            self._download.wait_stream(self._compute)
            with torch.cuda.stream(self._download):
                slot.host_packed.copy_(slot.packed, non_blocking=True)
                slot.done.record()
        return slot

    def collect(self, ticket: Slot) -> list[TargetPixels]:
        batch, _, height, width = ticket.host_images.shape
        with self._working(batch, ticket.host_images[0, 0].numpy()):
            ticket.done.synchronize()
            found = unpack_found(ticket.host_packed, batch, height * width)
            if found is None:  # more than there is room for, as in a frame of noise
                maps = ticket.maps.cpu().numpy()
                found = [above_threshold(maps[0, i], maps[1, i], self._threshold) for i in range(batch)]
        return found[: ticket.count]

    def network_alone(self, image: Image) -> Callable[[], None]:
        with self._working(1, image), torch.cuda.stream(self._compute):
            frames = normalise_image(image, self._device).frames.half()
            network = self._network_for(image.shape, 1)
            pass_ = self._record(lambda: network(frames))
            done = torch.cuda.Event(blocking=True)
        held = pass_, frames  # what a graph reads must live as long as it

        def once() -> None:
            with self._working(1, image), torch.cuda.stream(self._compute):
                held[0]()
                done.record()
                done.synchronize()

        return once

    @contextmanager
    def _working(self, count: int, image: Image) -> Iterator[None]:
        """Turns what the device cannot do into an error of one line, or a smaller batch."""
        try:
            with torch.cuda.device(self._device), torch.inference_mode():
                yield
        except RuntimeError as error:
            if not lacks_memory(error):
                reason = str(error).splitlines()[0]
                raise IrstError(
                    f"{self.device}: the device failed ({reason}); what was found before is in the logs"
                ) from None
            traceback.clear_frames(error.__traceback__)  # of which each holds what it had allocated
            torch.cuda.synchronize(self._device)
            self._kept.clear()
            torch.cuda.empty_cache()
            height, width = image.shape
            if count == 1:
                raise IrstError(
                    f"{self.device}: out of memory with one frame of {width}x{height}; use a smaller network, free the "
                    "device of other programs, or use --device cpu"
                ) from None
            self.batch = _filled_up(count) // 2
            log.warning("%s: out of memory; going on with %d frames at a time", self.device, self.batch)
            raise BatchTooLargeError from None

    def _next_slot(self, images: Sequence[Image]) -> Slot:
        """The slot whose turn it is among those for such a batch, free to be filled."""
        size, image = _filled_up(len(images)), images[0]
        key = (size, image.shape, image.dtype)
        if key not in self._kept:
            self._kept[key] = [self._allocate(size, image) for _ in range(self.slots)]
            if len(self._kept) > SHAPES_KEPT:
                for slot in self._kept.popitem(last=False)[1]:
                    slot.done.synchronize()  # a run that was given up may have left it in flight
        self._kept.move_to_end(key)
        slot = self._kept[key].pop(0)
        self._kept[key].append(slot)
        slot.done.synchronize()  # at once, unless a run was given up with this slot in flight
        return slot

    def _allocate(self, size: int, image: Image) -> Slot:
        shape, kind = (size, 1, *image.shape), torch.from_numpy(np.empty(0, image.dtype)).dtype
        images = torch.empty(shape, dtype=kind, device=self._device)
        # Results lie outside of the memory that graphs share, where the next graph would write over them.
        maps = torch.empty((2, size, *image.shape), device=self._device)
        packed = torch.empty(1 + 3 * size * PIXELS_MAX, dtype=torch.int32, device=self._device)
        network = self._network_for(image.shape, size)
        return Slot(
            host_images=torch.zeros(shape, dtype=kind, pin_memory=True),
            device_images=images,
            maps=maps,
            packed=packed,
            host_packed=torch.empty(packed.shape, dtype=packed.dtype, pin_memory=True),
            search=self._record(lambda: search(images, network, self._threshold, maps, packed)),
            done=torch.cuda.Event(blocking=True),  # to wait in a loop would take a core from the other stages
        )

    def _record(self, work: Callable[[], object]) -> Callable[[], object]:
        """What `work` asks of the device, as one graph on the stream for computing.

        Where a kernel cannot be recorded, `work` itself, which is slower by what Python takes to ask for each.
        """
        with torch.cuda.stream(self._compute):
            for _ in range(WARM_UP):
                work()
        self._compute.synchronize()
        graph, stream = torch.cuda.CUDAGraph(), torch.cuda.current_stream()
        # Graphs follow one another on one stream: they can share the memory of what they do not hand out. What other
        # threads do meanwhile is none of the recording's business.
        try:
            with torch.cuda.graph(graph, self._pool, self._compute, capture_error_mode="thread_local"):
                work()
        except RuntimeError as error:
            # A recording that is broken off leaves its stream and its memory as they were in it.
            torch.cuda.set_stream(stream)
            self._pool = torch.cuda.graph_pool_handle()
            for reason in (error, error.__context__):
                if isinstance(reason, torch.cuda.OutOfMemoryError):
                    raise reason from None
            log.warning("%s: no graph can be recorded (%s)", self.device, str(error).splitlines()[0])
            return work
        return graph.replay


def _filled_up(count: int) -> int:
    """The size of batch in which so many images go."""
    return 1 << (count - 1).bit_length()
