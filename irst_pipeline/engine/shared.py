"""One engine for several runs at once."""

from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from queue import Empty, SimpleQueue
from threading import Thread
from typing import Any, NamedTuple

from irst_pipeline.engine.base import Engine, Map
from irst_pipeline.types import Image

Promise = Future[Any]
"""Of the maps of an image, or of nothing but that the engine is ready for such images."""


class Job(NamedTuple):
    """An image for the engine."""

    image: Image
    promise: Promise
    maps: bool
    """Whether its maps are wanted; otherwise the engine is but to get ready for images like it."""


class SharedEngine(Engine[Promise]):
    """Takes frames from several threads and runs them on one engine, in the order in which they come.

    The engine belongs to a thread of its own, which keeps it busy as long as any run has a frame for it. What fails for
    one frame is raised where that frame is collected.
    """

    slots = 1  # of each run; together they have as many frames in flight as there are runs

    def __init__(self, engine: Engine[Any]) -> None:
        self.device = engine.device
        self._engine = engine
        self._jobs: SimpleQueue[Job | None] = SimpleQueue()
        self._flying: deque[tuple[Any, Promise]] = deque()
        self._thread = Thread(target=self._work, daemon=True)
        self._thread.start()

    def close(self) -> None:
        """End the thread, after the frames it has."""
        self._jobs.put(None)
        self._thread.join()

    def warm_up(self, image: Image) -> None:
        self._ask(image, maps=False).result()

    def submit(self, image: Image) -> Promise:
        return self._ask(image, maps=True)

    def collect(self, ticket: Promise) -> tuple[Map, Map]:
        return ticket.result()

    def network_alone(self, image: Image) -> Callable[[], None]:
        return self._engine.network_alone(image)

    def _ask(self, image: Image, maps: bool) -> Promise:
        job = Job(image, Future(), maps)
        self._jobs.put(job)
        return job.promise

    def _work(self) -> None:
        while job := self._next_job():
            try:
                if job.maps:
                    self._flying.append((self._engine.submit(job.image), job.promise))
                else:
                    self._land(0)  # an engine gets ready with all of its slots
                    self._engine.warm_up(job.image)
                    job.promise.set_result(None)
            except BaseException as error:
                job.promise.set_exception(error)
            self._land(self._engine.slots - 1)
        self._land(0)

    def _next_job(self) -> Job | None:
        """The next job; as long as there is none, what is in flight is landed."""
        while self._flying:
            try:
                return self._jobs.get_nowait()
            except Empty:
                self._land(len(self._flying) - 1)
        return self._jobs.get()

    def _land(self, left: int) -> None:
        """Collect frames, oldest first, until so many are left in flight."""
        while len(self._flying) > left:
            ticket, promise = self._flying.popleft()
            try:
                promise.set_result(self._engine.collect(ticket))
            except BaseException as error:
                promise.set_exception(error)
