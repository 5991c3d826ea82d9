"""Where results go. `open_sinks` is the door to files, `open_senders` that to the network."""

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path

from irst_pipeline.config import SinkName
from irst_pipeline.sinks.base import RunHeader, Sink
from irst_pipeline.sinks.jsonl import TracksJsonl
from irst_pipeline.sinks.send import open_senders
from irst_pipeline.sinks.smoothed import SmoothedJsonl
from irst_pipeline.sinks.tables import DetectionsCsv, Mot, TracksCsv
from irst_pipeline.sinks.video import AnnotatedVideo, RecordedFrames
from irst_pipeline.state import State, part_of

__all__ = ["RESULT_FILES", "RunHeader", "Sink", "open_senders", "open_sinks"]

_SINKS: dict[SinkName, tuple[str, Callable[[Path, RunHeader, State | None], Sink]]] = {
    "tracks_jsonl": ("tracks.jsonl", TracksJsonl),
    "tracks_csv": ("tracks.csv", TracksCsv),
    "mot": ("mot.txt", Mot),
    "detections": ("detections.csv", DetectionsCsv),
    "smoothed": ("smoothed.jsonl", SmoothedJsonl),
    "video": ("annotated.mp4", AnnotatedVideo),
    "recorded": ("recorded.mp4", RecordedFrames),
}
RESULT_FILES = tuple(file for file, _ in _SINKS.values())
"""Names of all files that sinks write."""


def open_sinks(names: Sequence[SinkName], folder: Path, header: RunHeader, state: State | None = None) -> list[Sink]:
    """The named sinks, each with its file begun in `folder`, which must exist, or with a `state` gone on with there.

    Raises IrstError, one line, when a file cannot be written; the sinks opened before it are closed then.
    """
    with ExitStack() as opened:
        sinks = []
        for name in names:
            file, kind = _SINKS[name]
            sinks.append(kind(folder / file, header, None if state is None else part_of(state, name)))
            opened.callback(sinks[-1].close)
        opened.pop_all()
        return sinks
