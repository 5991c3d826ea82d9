"""The network on a CUDA device, with pinned-memory double buffering."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from irst_pipeline.engine.base import Engine, Map, TargetNet
from irst_pipeline.lsnet.model import LSNet
from irst_pipeline.lsnet.normalise import normalise
from irst_pipeline.types import Image


@dataclass
class Slot:
    """Buffers of one frame in flight, allocated once a frame size: pinning memory is slow, copying into it is not."""

    host_image: Tensor
    device_image: Tensor
    host_maps: Tensor
    """(2, H, W) float32: probability and T."""
    done: torch.cuda.Event


class CudaEngine(Engine[Slot]):
    """Two slots and three streams: upload, compute and download of neighbouring frames overlap.

    Raw grey levels travel to the device and are normalised there; the network runs in float16.
    """

    slots = 2

    def __init__(self, network: LSNet, device: torch.device) -> None:
        self._device = device
        self.device = f"{device}, {torch.cuda.get_device_name(device)}"
        self._network = TargetNet(network).eval().half().to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        self._upload, self._compute, self._download = (torch.cuda.Stream(device) for _ in range(3))
        self._slots: list[Slot] = []
        self._turn = 0
        torch.cuda.synchronize(device)  # the weights are laid out on another stream than they are used on

    def warm_up(self, image: Image) -> None:
        """Fill every slot once: buffers are pinned, kernels loaded and chosen at their first use."""
        for ticket in [self.submit(image) for _ in range(self.slots)]:
            self.collect(ticket)

    def submit(self, image: Image) -> Slot:
        slot = self._next_slot(torch.from_numpy(np.ascontiguousarray(image)))
        with torch.cuda.device(self._device), torch.inference_mode():
            with torch.cuda.stream(self._upload):
                slot.device_image.copy_(slot.host_image, non_blocking=True)
            self._compute.wait_stream(self._upload)
            with torch.cuda.stream(self._compute):
                normalised = normalise(slot.device_image)
                probability, target = self._network(normalised.frames.half())
                maps = torch.cat([probability.float(), target.float() * normalised.scale], 1)[0]
            self._download.wait_stream(self._compute)
            with torch.cuda.stream(self._download):
                slot.host_maps.copy_(maps, non_blocking=True)
                # Without this the allocator may hand `maps` out again while it is still being copied.
                maps.record_stream(self._download)
                slot.done.record()
        return slot

    def collect(self, ticket: Slot) -> tuple[Map, Map]:
        ticket.done.synchronize()
        probability, intensity = ticket.host_maps.numpy().copy()
        return probability, intensity

    def network_alone(self, image: Image) -> Callable[[], None]:
        with torch.cuda.device(self._device), torch.inference_mode():
            frames = normalise(torch.from_numpy(np.ascontiguousarray(image))[None, None].to(self._device)).frames.half()
            torch.cuda.synchronize(self._device)

        def once() -> None:
            with torch.cuda.device(self._device), torch.inference_mode(), torch.cuda.stream(self._compute):
                self._network(frames)
            self._compute.synchronize()

        return once

    def _next_slot(self, image: Tensor) -> Slot:
        """The slot whose turn it is, holding `image`."""
        if len(self._slots) < self.slots:
            self._slots.append(self._allocate(image))
        slot = self._slots[self._turn]
        slot.done.synchronize()  # at once, unless a run was given up with this slot in flight
        if slot.host_image.shape[2:] != image.shape or slot.host_image.dtype != image.dtype:
            slot = self._slots[self._turn] = self._allocate(image)
        self._turn = (self._turn + 1) % self.slots
        slot.host_image[0, 0].copy_(image)
        return slot

    def _allocate(self, image: Tensor) -> Slot:
        return Slot(
            torch.empty((1, 1, *image.shape), dtype=image.dtype, pin_memory=True),
            torch.empty((1, 1, *image.shape), dtype=image.dtype, device=self._device),
            torch.empty((2, *image.shape), dtype=torch.float32, pin_memory=True),
            torch.cuda.Event(),
        )
