"""The signals that ask a run to stop, and what comes of them."""

import math
import signal
import sys
from contextlib import suppress
from threading import Event
from time import perf_counter

STOPS = (signal.SIGINT, signal.SIGTERM)
SAME_STOP_SECONDS = 1.0


def stop_on_signals() -> Event:
    """An event that Ctrl-C or SIGTERM sets; a signal that comes a second or more later ends the process at once.

    One sooner is the same stop: `timeout` and service managers signal a process, and then once more its whole group.
    """
    stop, asked = Event(), math.inf

    def ask(number: int, _frame: object) -> None:
        nonlocal asked
        if stop.is_set():
            if perf_counter() > asked + SAME_STOP_SECONDS:
                signal.signal(number, signal.SIG_DFL)
                signal.raise_signal(number)
            return
        asked = perf_counter()
        stop.set()
        with suppress(OSError):  # the same signal may have ended who read it
            print(f"irst: {signal.Signals(number).name}: finishing what is under way", file=sys.stderr, flush=True)

    for each in STOPS:
        signal.signal(each, ask)
    return stop
