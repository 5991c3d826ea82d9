"""What two processes say to each other about a run: lines of JSON, and behind each the arrays that it announces."""

import json
import traceback
from collections.abc import Sequence
from socket import socket
from threading import Lock
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from irst_pipeline.errors import IrstError, UsageError, refusal
from irst_pipeline.statistics import Account, Counts

RAISED = {"usage": UsageError, "user": IrstError, "fault": RuntimeError}
"""By the kind of failure in the other process: what is raised here."""


class Said(NamedTuple):
    """What one process tells the other."""

    what: str
    words: Any = None
    """Of JSON's types."""
    arrays: Sequence[NDArray[Any]] = ()


class Wire:
    """One end of a socket between two processes. Any thread may say something; one alone listens."""

    def __init__(self, end: socket) -> None:
        self._end = end
        self._incoming = end.makefile("rb")
        self._saying = Lock()

    def say(self, what: str, words: Any = None, arrays: Sequence[NDArray[Any]] = ()) -> None:
        """Raises OSError if the other process is gone."""
        announced = [(array.dtype.str, array.shape) for array in arrays]
        with self._saying:
            self._end.sendall(json.dumps([what, words, announced]).encode() + b"\n")
            for array in arrays:
                self._end.sendall(np.ascontiguousarray(array).reshape(-1).view(np.uint8).data)

    def hear(self) -> Said:
        """What the other process says next; raises EOFError or OSError if it is gone."""
        line = self._incoming.readline()
        if not line.endswith(b"\n"):
            raise EOFError
        what, words, announced = json.loads(line)
        arrays = [np.empty(shape, dtype) for dtype, shape in announced]
        for array in arrays:
            if self._incoming.readinto(array.reshape(-1).view(np.uint8).data) < array.nbytes:
                raise EOFError
        return Said(what, words, arrays)

    def close(self) -> None:
        self._incoming.close()
        self._end.close()


def failure(error: Exception) -> Said:
    """What says that a process has failed, and how."""
    match error:
        case UsageError():
            kind, line = "usage", str(error)
        case IrstError():
            kind, line = "user", str(error)
        case OSError():
            kind, line = "user", refusal(error)
        case RuntimeError():
            kind, line = "fault", str(error)
        case _:
            kind, line = "fault", f"{type(error).__name__}: {error}"
    return Said("failed", {"kind": kind, "line": line, "trace": "".join(traceback.format_exception(error))})


def error_of(words: dict[str, str]) -> Exception:
    """What to raise for the words of a `failure`."""
    error = RAISED[words["kind"]](words["line"])
    error.add_note(words["trace"])
    return error


def counted(account: Account) -> Said:
    """What says what a run has come to."""
    others = account._asdict()
    counts = others.pop("counts")
    state = counts.state()
    words = {"in_flight": counts.frames_in_flight, "tracks": counts.tracks, "names": list(state), "account": others}
    return Said("account", words, list(state.values()))


def account_of(words: dict[str, Any], arrays: Sequence[NDArray[Any]]) -> Account:
    """The account that was said by `counted`."""
    counts = Counts(frames_in_flight=words["in_flight"], tracks=words["tracks"])
    counts.restore(dict(zip(words["names"], arrays, strict=True)))
    return Account(counts, **words["account"])
