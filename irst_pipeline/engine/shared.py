"""One engine for several runs at once."""

from collections import deque
from collections.abc import Sequence
from concurrent.futures import Future
from contextlib import suppress
from queue import Empty, SimpleQueue
from threading import Thread
from typing import Any, NamedTuple

from irst_pipeline.engine.base import BatchTooLargeError, Engine
from irst_pipeline.types import Image, TargetPixels

Promise = Future[Any]
"""Of what is found in an image, or of nothing but that the engine is ready for such images."""


class Job(NamedTuple):
    """An image for the engine."""

    image: Image
    promise: Promise
    search: bool
    """Whether it is to be searched; otherwise the engine is but to get ready for images like it."""

    def goes_with(self, other: "Job") -> bool:
        """Whether both can be in one batch."""
        alike = self.image.shape == other.image.shape and self.image.dtype == other.image.dtype
        return self.search and other.search and alike


class SharedEngine(Engine[Promise]):
    """Takes frames from several threads and runs them on one engine, in the order in which they come.

    The engine belongs to a thread of its own, which keeps it busy as long as any run has a frame for it, and gives it
    neighbours of one size together, as many as it takes. What fails for a batch is raised where its frames are
    collected. What is asked of it once it is closed is cancelled.
    """

    slots = 1  # of each run; together they have as many frames in flight as there are runs

    def __init__(self, engine: Engine[Any]) -> None:
        self.device = engine.device
        self._engine = engine
        self._jobs: SimpleQueue[Job | None] = SimpleQueue()
        self._waiting: deque[Job] = deque()  # taken from the queue, but not yet begun
        self._closing = False
        self._runs = 0  # that have asked for it to get ready; each has a frame in flight at most
        self._flying: deque[tuple[Any, list[Promise]]] = deque()
        self._thread = Thread(target=self._work, daemon=True)
        self._thread.start()

    def close(self) -> None:
        """End the thread, after the frames it has."""
        self._jobs.put(None)
        self._thread.join()
        self._cancel()

    def warm_up(self, image: Image, _count: int) -> None:
        self._engine.compile(image)  # here, so that the other runs' frames need not wait
        self._engine.build(image)
        self._ask(image, search=False).result()

    def submit(self, images: Sequence[Image]) -> Promise:
        (image,) = images
        self._engine.build(image)  # of a size that is new to it, here as well
        return self._ask(image, search=True)

    def collect(self, ticket: Promise) -> list[TargetPixels]:
        return [ticket.result()]

    def _ask(self, image: Image, search: bool) -> Promise:
        job = Job(image, Future(), search)
        self._jobs.put(job)
        if not self._thread.is_alive():
            self._cancel()
        return job.promise

    def _cancel(self) -> None:
        """Give up what has come too late: a run may be stopped, and all closed, while its network is compiled."""
        with suppress(Empty):
            while True:
                if job := self._jobs.get_nowait():
                    job.promise.cancel()

    def _work(self) -> None:
        while jobs := self._next_jobs():
            promises = [job.promise for job in jobs]
            try:
                if jobs[0].search:
                    self._flying.append((self._engine.submit([job.image for job in jobs]), promises))
                else:
                    self._land(0)  # an engine gets ready with all of its slots
                    self._runs += 1
                    self._engine.warm_up(jobs[0].image, self._runs)
                    promises[0].set_result(None)
            except BatchTooLargeError:
                self._waiting.extendleft(reversed(jobs))
            except BaseException as error:
                _fail(promises, error)
            self._land(self._engine.slots - 1)
        self._land(0)

    def _next_jobs(self) -> list[Job]:
        """The next batch, or none at the end; as long as there is no job, what is in flight is landed."""
        self._take(wait=not (self._waiting or self._flying))
        while not (self._waiting or self._closing):
            self._land(len(self._flying) - 1)
            self._take(wait=not self._flying)
        jobs: list[Job] = []
        while self._waiting and len(jobs) < self._engine.batch and (not jobs or jobs[0].goes_with(self._waiting[0])):
            jobs.append(self._waiting.popleft())
        return jobs

    def _take(self, wait: bool) -> None:
        """Take what is in the queue; with `wait`, something has to come first, unless nothing more will."""
        with suppress(Empty):
            while not self._closing:
                job = self._jobs.get(wait)
                wait = False
                if job is None:
                    self._closing = True
                else:
                    self._waiting.append(job)

    def _land(self, left: int) -> None:
        """Collect batches, oldest first, until so many are left in flight."""
        while len(self._flying) > left:
            ticket, promises = self._flying.popleft()
            try:
                for promise, found in zip(promises, self._engine.collect(ticket), strict=True):
                    promise.set_result(found)
            except BaseException as error:
                _fail(promises, error)


def _fail(promises: list[Promise], error: BaseException) -> None:
    for promise in promises:
        promise.set_exception(error)
