"""What every engine does, whatever it runs on."""

from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby, islice
from time import perf_counter
from typing import Generic, TypeVar

import numpy as np

from irst_pipeline.errors import IrstError
from irst_pipeline.types import MIN_SIZE, Frame, Image, Map, Span, TargetPixels

Ticket = TypeVar("Ticket")


def above_threshold(probability: Map, intensity: Map, threshold: float) -> TargetPixels:
    """The pixels of two maps (H, W) where the probability is above the threshold."""
    places = np.flatnonzero(probability > threshold)
    return TargetPixels(places, probability.ravel()[places], intensity.ravel()[places])


class BatchTooLargeError(Exception):
    """So many images at a time do not fit the device; `Engine.batch` now says how many do."""


@dataclass(frozen=True)
class _InFlight(Generic[Ticket]):
    frames: list[Frame]
    ticket: Ticket
    started: float


class Engine(ABC, Generic[Ticket]):
    """Runs the network on frames, in order, with up to `slots` batches of them in flight.

    Subclasses say how images go in and what was found comes out. `submit` must return without waiting where the device
    can work on its own; with two slots the copy of frame k+1 then overlaps the computing of frame k.
    """

    device: str
    """What runs it, for logs."""
    slots: int
    """Batches in flight; known once it is prepared."""
    batch: int = 1
    """Images that it takes at a time at most."""
    gathered: int = 1
    """Frames of one run that wait for one another, to be searched together."""

    def compile(self, image: Image) -> None:
        """Take minutes, where it was asked for, to be faster with images like this one; in any thread."""

    def build(self, image: Image) -> None:
        """The part of `warm_up` that any thread may do while other threads search frames of other sizes."""

    @abstractmethod
    def warm_up(self, image: Image, count: int) -> None:
        """Do what has to be done once for up to `count` images at a time of this size and depth."""

    @abstractmethod
    def submit(self, images: Sequence[Image]) -> Ticket:
        """Start on 1 to `batch` images (H, W) of one size and depth; at most `slots` tickets are open at a time.

        Raises BatchTooLargeError, with nothing started, if they are too many for the device's memory.
        """

    @abstractmethod
    def collect(self, ticket: Ticket) -> list[TargetPixels]:
        """Wait for a ticket, and return what was found in each of its images, which the caller may keep."""

    def device_seconds(self, _ticket: Ticket) -> float | None:
        """For how long the device has worked on a ticket that was collected last, where it can tell; None where not."""
        return None

    def prepare(self, frame: Frame) -> None:
        """Get ready for frames like this one, so that the first of them need not wait.

        Raises IrstError for a frame too small for the network.
        """
        check_size(frame)
        self.compile(frame.image)
        self.warm_up(frame.image, self.gathered)

    def run(self, frames: Iterable[Frame]) -> Iterator[tuple[Frame, TargetPixels, Span]]:
        """What was found in frames, in their order, and when it was looked for. Frames may differ in size.

        Raises IrstError for a frame too small for the network.
        """
        waiting: deque[_InFlight[Ticket]] = deque()
        failed: list[Exception] = []
        for group in _alike(_until_failure(frames, failed), self.gathered):
            while group:
                some, started = group[: self.batch], perf_counter()
                try:
                    ticket = self.submit([frame.image for frame in some])
                except BatchTooLargeError:
                    continue
                del group[: len(some)]
                waiting.append(_InFlight(some, ticket, started))
                while len(waiting) >= self.slots:
                    yield from self._finish(waiting.popleft())
        while waiting:
            yield from self._finish(waiting.popleft())
        if failed:
            raise failed[0]

    def _finish(self, flight: _InFlight[Ticket]) -> Iterator[tuple[Frame, TargetPixels, Span]]:
        found = self.collect(flight.ticket)
        now, took = perf_counter(), self.device_seconds(flight.ticket)
        span = Span(flight.started, now if took is None else min(now, flight.started + took))
        for frame, pixels in zip(flight.frames, found, strict=True):
            yield frame, pixels, span


class DeviceEngine(Engine[Ticket]):
    """One that has the network itself."""

    @abstractmethod
    def network_alone(self, image: Image) -> Callable[[], None]:
        """One pass of the network, waited for, over an image that is normalised and on the device already."""


def _until_failure(frames: Iterable[Frame], failed: list[Exception]) -> Iterator[Frame]:
    """The frames, whose failure is noted in `failed` instead of raised: those before it are to be finished."""
    try:
        yield from frames
    except Exception as error:
        failed.append(error)


def _alike(frames: Iterable[Frame], count: int) -> Iterator[list[Frame]]:
    """Up to `count` neighbours of one size and depth at a time."""
    for _, alike in groupby(frames, lambda frame: (frame.image.shape, frame.image.dtype)):
        while group := list(islice(alike, count)):
            check_size(group[0])
            yield group


def check_size(frame: Frame) -> None:
    """Raises IrstError for a frame too small for the network."""
    height, width = frame.image.shape
    if min(height, width) < MIN_SIZE:
        raise IrstError(f"{frame.source}: {width}x{height} px; the network takes {MIN_SIZE}x{MIN_SIZE} and more")
