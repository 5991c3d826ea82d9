"""A thread of the pipeline, and the queue in front of whoever takes what it makes."""

import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from queue import Empty, Full, Queue
from threading import Event, Semaphore, Thread
from time import perf_counter
from typing import Any, TypeVar

T = TypeVar("T")
POLL_SECONDS = 0.1  # between two looks, of whoever waits, at whether it is to stop
TURN = Semaphore(max(1, len(os.sched_getaffinity(0)) // 2))
"""Of which a thread takes one while it works on a frame in Python, not while it waits for a frame or for a device.

Each short call of OpenCV or PyTorch gives the interpreter away and wakes for it again. Three threads that do so as they
like take a third more processor time on two cores than in turns, beside a network that needs all there is.
"""
_END = object()


class Stage(Iterator[T]):
    """Iterates `items` in a thread of its own from now on, at most `depth` of them ahead of whoever takes them.

    Without `drop` the thread waits where the taker is slower; with it, the oldest item that waits is dropped, and
    passed to `drop`. An exception in `items` is raised in the taker, after the items before it. Whoever takes them
    closes the stage, which ends the thread; so does an event `abandoned` that somebody sets.
    """

    def __init__(
        self, items: Iterable[T], depth: int, drop: Callable[[T], None] | None = None, abandoned: Event | None = None
    ) -> None:
        self._items, self._drop = items, drop
        self._queue: Queue[Any] = Queue(depth)
        self._abandoned = abandoned or Event()
        self._failure: BaseException | None = None
        self._ended = False
        self._taken: float | None = None
        self._thread = Thread(target=self._work, daemon=True)
        self._thread.start()

    @property
    def waiting(self) -> int:
        """Items that are made and not yet taken."""
        return self._queue.qsize()

    def ready(self, seconds: float) -> bool:
        """Wait until an item is made or the end has come; whether that was within so many seconds."""
        with self._queue.not_empty:
            return self._queue.not_empty.wait_for(lambda: bool(self._queue.queue), seconds)

    @property
    def held_seconds(self) -> float:
        """For how long the taker has been busy with the item that it took last; 0 while it waits for the next one."""
        taken = self._taken
        return 0.0 if taken is None else perf_counter() - taken

    def __next__(self) -> T:
        self._taken = None
        item: Any = _END if self._ended else self._queue.get()
        if item is _END:
            self._ended = True
            if self._failure:
                raise self._failure
            raise StopIteration
        self._taken = perf_counter()
        return item

    def close(self, seconds: float | None = None) -> None:
        """End the thread, once it is done with what it has in hand; wait for that, `seconds` at most."""
        self._taken = None
        self._abandoned.set()
        self._thread.join(seconds)

    def _work(self) -> None:
        iterator = iter(self._items)
        try:
            for item in iterator:
                if not self._hand_over(item):
                    break
        except BaseException as error:
            self._failure = error
        finally:
            # Closing a generator in the thread that ran it ends the stages before it in turn.
            getattr(iterator, "close", lambda: None)()
            self._hand_over(_END)

    def _hand_over(self, item: Any) -> bool:
        """Whether somebody still wants it."""
        drop = None if item is _END else self._drop
        while not self._abandoned.is_set():
            try:
                self._queue.put(item, timeout=0 if drop else POLL_SECONDS)
                return True
            except Full:
                if drop:
                    with suppress(Empty):  # the taker was faster
                        drop(self._queue.get_nowait())
        return False
