"""The process that carries out one of several runs, with the engine of the process that started it."""

import logging
import os
import signal
import sys
from collections.abc import Sequence
from contextlib import closing, suppress
from pathlib import Path
from queue import SimpleQueue
from socket import socket
from threading import Event, Thread
from typing import Any

from numpy.typing import NDArray

from irst_pipeline.bearings import open_platform
from irst_pipeline.calibration import open_calibrator
from irst_pipeline.checkpoint import read_checkpoint
from irst_pipeline.config import RunSettings
from irst_pipeline.engine.base import Engine
from irst_pipeline.memory import share_freed_memory
from irst_pipeline.run import Run, carry_out_and_report, exhaust
from irst_pipeline.settings import validate
from irst_pipeline.signals import STOPS
from irst_pipeline.sinks import RunHeader
from irst_pipeline.sources import open_source, redact, resume_source
from irst_pipeline.statistics import RunStatistics
from irst_pipeline.types import Image, TargetPixels
from irst_pipeline.worker.wire import Said, Wire, counted, error_of, failure

log = logging.getLogger("irst")

ACCOUNT_SECONDS = 0.2  # between two accounts of a run


class LentEngine(Engine[None]):
    """The engine of the process that started this one."""

    slots = 1

    def __init__(self, device: str, wire: Wire, answers: "SimpleQueue[Said]") -> None:
        self.device = device
        self._wire, self._answers = wire, answers

    def warm_up(self, image: Image, _count: int) -> None:
        self._wire.say("prepare", None, [image])
        self._answer()

    def submit(self, images: Sequence[Image]) -> None:
        self._wire.say("search", None, images)

    def collect(self, _ticket: None) -> list[TargetPixels]:
        return [TargetPixels(*self._answer())]

    def _answer(self) -> Sequence[NDArray[Any]]:
        what, words, arrays = self._answers.get()
        if what == "failed":
            raise error_of(words)
        return arrays


class _Told(logging.Handler):
    """Has the other process log what is logged here."""

    def __init__(self, wire: Wire) -> None:
        super().__init__()
        self._wire = wire

    def emit(self, record: logging.LogRecord) -> None:
        self._wire.say("log", {"level": record.levelno, "line": record.getMessage()})


def work(wire: Wire) -> None:
    """Carry out the run that the other process names, and tell it of it."""
    share_freed_memory()
    log.setLevel(logging.INFO)
    log.propagate = False
    log.addHandler(_Told(wire))
    order = wire.hear().words
    stop, answers = Event(), SimpleQueue[Said]()
    Thread(target=_await_stop, args=[stop], daemon=True).start()
    Thread(target=_listen, args=[wire, answers], daemon=True).start()
    try:
        report = _carry_out(order, wire, LentEngine(order["header"]["device"], wire, answers), stop)
    except Exception as error:
        wire.say(*failure(error))
    else:
        wire.say("ended", report)


def _await_stop(stop: Event) -> None:
    signal.sigwait(STOPS)  # all threads block them
    stop.set()


def _listen(wire: Wire, answers: "SimpleQueue[Said]") -> None:
    with suppress(EOFError, OSError):
        while True:
            answers.put(wire.hear())
    os._exit(1)  # the other process is gone, and the engine with it: this one ends as if killed with it


def _carry_out(order: dict[str, Any], wire: Wire, engine: Engine[Any], stop: Event) -> dict[str, Any]:
    folder, settings = Path(order["folder"]), validate(RunSettings, order["header"]["settings"], "settings")
    header = RunHeader(**order["header"] | {"settings": settings})
    uri = header.uri
    platform = open_platform(settings.camera, redact(uri))
    calibrate = open_calibrator(settings.calibration, redact(uri))
    checkpoint = read_checkpoint(folder) if order["resumed"] else None
    opened = open_source(uri, settings.image_rate, order["realtime"], settings.live, stop, settings.frame_times)
    with closing(opened) as source:
        source.name = header.source
        if checkpoint:
            source = resume_source(source, checkpoint.position, stop, calibrate)
        statistics, ended = RunStatistics(), Event()

        def tell() -> None:
            wire.say(*counted(statistics.account(source, settings.metrics.stale_seconds)))

        def keep_telling() -> None:
            with suppress(OSError):  # the other process is gone, as whoever listens to it notices
                while not ended.wait(ACCOUNT_SECONDS):
                    tell()

        run = Run(source, folder, header, platform, calibrate, checkpoint)
        results = carry_out_and_report(run, engine, stop, statistics)
        telling = Thread(target=keep_telling, daemon=True)
        telling.start()
        try:
            return exhaust(results, lambda result: wire.say("frame", result.spans))
        finally:
            ended.set()
            telling.join()
            tell()


if __name__ == "__main__":
    with suppress(EOFError, OSError):  # the other process is gone
        work(Wire(socket(fileno=int(sys.argv[1]))))
