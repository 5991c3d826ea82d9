"""A run in a process of its own: the threads of several would share one lock of Python's, and most of the processors
would idle.

The process that starts the others keeps the network and lends them its engine: frames come to it over a socket, and
what was found in them goes back. This file is its end, `__main__.py` the end of the one that carries out the run, and
`wire.py` what they say to each other.
"""

import logging
import os
import signal
import sys
from collections.abc import Generator, Iterator
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import ExitStack, closing, contextmanager, suppress
from dataclasses import fields
from socket import socketpair
from subprocess import DEVNULL, Popen
from threading import Event, Thread
from time import perf_counter
from typing import Any

from irst_pipeline.engine.base import Engine
from irst_pipeline.errors import IrstError
from irst_pipeline.run import Run, carry_out_and_report, counted_before, exhaust, report_failure
from irst_pipeline.signals import STOPS
from irst_pipeline.sources.address import scheme_of
from irst_pipeline.stage import POLL_SECONDS
from irst_pipeline.statistics import Account, RunStatistics
from irst_pipeline.types import Image, Span, Work
from irst_pipeline.worker.wire import Said, Wire, account_of, error_of, failure

log = logging.getLogger("irst")

SILENT_MAX = 4.0  # s; a process that is to stop and has said nothing for so long is killed
BEGIN_MAX = 60.0  # s; so is one that has yet to begin so long after it was told
TOLD_SECONDS = 1.0  # after which a signal that went to all processes has come to this one as well


class RunProcess:
    """A run that is carried out in a process of its own, seen from the one that has the engine."""

    def __init__(self, run: Run, realtime: bool) -> None:
        """The source of the `run` is opened anew."""
        self.run, self._realtime = run, realtime
        self._account = counted_before(run).account(run.source, 0.0)._replace(memory_bytes=0)
        self._process: Popen[bytes] | None = None
        self._heard = self._told_to_stop = 0.0
        self._speaks = False

    def account(self) -> Account:
        """What the run has come to by now."""
        account, silent = self._account, perf_counter() - self._heard
        if self._process is None or silent < self.run.header.settings.metrics.stale_seconds:
            return account
        return account._replace(ailment=f"its process has said nothing for {silent:.1f} s")

    def results(self, engine: Engine[Any], stop: Event) -> Generator[Work, None, dict[str, Any]]:
        """The work on each frame, once it is in all files; returns what `run.json` says of the run.

        Raises IrstError also if the process is ended from outside; it ends by itself if this one does, and once `stop`
        is set, after which one that hangs is killed. A run that is stopped before it begins has no process.
        """
        if stop.is_set():
            return exhaust(carry_out_and_report(self.run, engine, stop, RunStatistics()), lambda _: None)
        self.run.source.close()
        self._heard, self._account = perf_counter(), self._account._replace(ailment="its process is starting")
        try:
            with ThreadPoolExecutor(1) as answering, self._started(stop) as (process, wire):
                try:
                    report = yield from self._attend(wire, engine, stop, answering)
                except (EOFError, ConnectionError):
                    raise self._ended(_how(process.wait())) from None
                if report["outcome"] == "interrupted" and not stop.wait(TOLD_SECONDS):
                    raise self._ended("told to stop")
                return report
        except Exception as error:
            if not (self._account.ailment or "").startswith("failed"):  # it has not come to report it itself
                self._account = report_failure(self.run, error, self._account)
            raise
        finally:
            self._process, self._account = None, self._account._replace(waiting={}, memory_bytes=0)

    @contextmanager
    def _started(self, stop: Event) -> Iterator[tuple["Popen[bytes]", Wire]]:
        """The process and the wire to it; in the end there is neither, for what it has to do is done, or cannot be."""
        stdin = None if scheme_of(self.run.header.uri) == "stdin" else DEVNULL
        modules = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}  # from where this process has its own
        lock = [] if self.run.lock is None else [self.run.lock]  # which lasts as long as anyone who can write
        # A stop is told it by this process: the terminal's Ctrl-C does not come into a group of its own. One that comes
        # before it can listen, as from a service manager that stops all processes, is held back until it does.
        mask = signal.pthread_sigmask(signal.SIG_BLOCK, STOPS)
        with ExitStack() as ending:
            try:
                ours, theirs = socketpair()
                wire = ending.enter_context(closing(Wire(ours)))
                with theirs:
                    end = theirs.fileno()
                    command, passed = [sys.executable, "-P", "-m", __name__, str(end)], [end, *lock]
                    process = Popen(command, stdin=stdin, env=modules, pass_fds=passed, process_group=0)
            except OSError as error:
                why = f"its process cannot be started ({error.strerror}); run fewer sources"
                raise IrstError(f"{self.run.source.name}: {why}") from None
            finally:
                signal.pthread_sigmask(signal.SIG_SETMASK, mask)
            ending.callback(process.wait)
            ending.callback(process.kill)
            self._process, ended = process, Event()
            stopping = Thread(target=self._stop, args=[process, stop, ended], daemon=True)
            stopping.start()
            ending.callback(stopping.join)
            ending.callback(ended.set)
            yield process, wire

    def _stop(self, process: "Popen[bytes]", stop: Event, ended: Event) -> None:
        """Have the process stop once `stop` is set, unless it has `ended` by then; one that hangs is killed.

        One that speaks may take its time, as a run alone may: to smooth the tracks of hours takes minutes.
        """
        while not stop.wait(POLL_SECONDS):
            if ended.is_set():
                return
        self._told_to_stop = perf_counter()
        process.terminate()
        while not ended.wait(POLL_SECONDS):
            allowed = SILENT_MAX if self._speaks else BEGIN_MAX
            if perf_counter() > max(self._told_to_stop, self._heard) + allowed:
                process.kill()

    def _attend(
        self, wire: Wire, engine: Engine[Any], stop: Event, answering: Executor
    ) -> Generator[Work, None, dict[str, Any]]:
        """Tell the process what to do, and serve it until it is done."""
        header = self.run.header
        known = {field.name: getattr(header, field.name) for field in fields(header)}
        known["settings"] = header.settings.model_dump(mode="json")
        order = {"folder": str(self.run.folder), "realtime": self._realtime, "header": known}
        wire.say("run", order | {"resumed": self.run.checkpoint is not None})
        while True:
            what, words, arrays = wire.hear()
            self._heard, self._speaks = perf_counter(), True
            match what:
                # Meanwhile it may have other things to say, such as that it has stopped while its network is compiled.
                case "prepare":
                    Thread(target=_answer, args=[wire, engine, what, arrays[0], stop]).start()
                case "search":
                    answering.submit(_answer, wire, engine, what, arrays[0], stop)
                case "frame":
                    yield {stage: Span(*times) for stage, times in words.items()}
                case "log":
                    log.log(words["level"], "%s", words["line"])
                case "account":
                    self._account = account_of(words, arrays)
                case "failed":
                    raise error_of(words)
                case "ended":
                    return dict(words)

    def _ended(self, how: str) -> IrstError:
        """What is to be said of a process that was ended, by whom and `how`."""
        who = "did not stop and was ended" if self._told_to_stop else "was ended from outside"
        whole = "smoothed" in self.run.header.settings.sinks  # which cannot be resumed
        mend = "begin it again with --overwrite" if whole else "--resume goes on where it was"
        return IrstError(f"{self.run.source.name}: the process that worked on it {who} ({how}); {mend}")


def _answer(wire: Wire, engine: Engine[Any], what: str, image: Image, stop: Event) -> None:
    """Say what the engine makes of an image, or how it failed, to whoever still listens."""
    with suppress(OSError):
        wire.say(*_answered(engine, what, image, stop))


def _answered(engine: Engine[Any], what: str, image: Image, stop: Event) -> Said:
    try:
        if what == "prepare":
            if not stop.is_set():  # else there is nothing to get ready for
                engine.warm_up(image, 1)
            return Said("ready")
        (found,) = engine.collect(engine.submit([image]))
        return Said("found", None, found)
    except Exception as error:
        return failure(error)


def _how(code: int) -> str:
    if code >= 0:
        return f"exit code {code}"
    return signal.Signals(-code).name if -code in set(signal.Signals) else f"signal {-code}"
