"""Where results go. `open_sinks` is the only door."""

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path

from irst_pipeline.config import SinkName
from irst_pipeline.sinks.base import RunHeader, Sink
from irst_pipeline.sinks.jsonl import TracksJsonl
from irst_pipeline.sinks.tables import DetectionsCsv, Mot, TracksCsv
from irst_pipeline.sinks.video import AnnotatedVideo

__all__ = ["RunHeader", "Sink", "open_sinks"]

_SINKS: dict[SinkName, Callable[[Path, RunHeader], Sink]] = {
    "tracks_jsonl": TracksJsonl,
    "tracks_csv": TracksCsv,
    "mot": Mot,
    "detections": DetectionsCsv,
    "video": AnnotatedVideo,
}


def open_sinks(names: Sequence[SinkName], folder: Path, header: RunHeader) -> list[Sink]:
    """The named sinks, each with its file begun in `folder`, which must exist.

    Raises IrstError, one line, when a file cannot be written; the sinks opened before it are closed then.
    """
    with ExitStack() as opened:
        sinks = []
        for name in names:
            sinks.append(_SINKS[name](folder, header))
            opened.callback(sinks[-1].close)
        opened.pop_all()
        return sinks
