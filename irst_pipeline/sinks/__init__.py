"""Where results and frames go: `open_sinks` and `open_recorders` are doors to files, `open_senders` to the network."""

from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TypeVar

from irst_pipeline.config import SinkName
from irst_pipeline.sinks.base import RunHeader, Sink
from irst_pipeline.sinks.jsonl import TracksJsonl
from irst_pipeline.sinks.send import open_senders
from irst_pipeline.sinks.smoothed import SmoothedJsonl
from irst_pipeline.sinks.tables import DetectionsCsv, Mot, TracksCsv
from irst_pipeline.sinks.video import AnnotatedVideo, RecordedFrames
from irst_pipeline.state import State, part_of
from irst_pipeline.types import Frame, FrameResult

__all__ = ["RECORDED_FILES", "RESULT_FILES", "RunHeader", "Sink", "open_recorders", "open_senders", "open_sinks"]

T = TypeVar("T")
Kinds = Mapping[SinkName, tuple[str, Callable[[Path, RunHeader, State | None], Sink[T]]]]
"""By name, the file and what writes it."""

_SINKS: Kinds[FrameResult] = {
    "tracks_jsonl": ("tracks.jsonl", TracksJsonl),
    "tracks_csv": ("tracks.csv", TracksCsv),
    "mot": ("mot.txt", Mot),
    "detections": ("detections.csv", DetectionsCsv),
    "smoothed": ("smoothed.jsonl", SmoothedJsonl),
    "video": ("annotated.mp4", AnnotatedVideo),
}
_RECORDERS: Kinds[Frame] = {"recorded": ("recorded.mp4", RecordedFrames)}
RECORDED_FILES = tuple(file for file, _ in _RECORDERS.values())
"""Names of the files that frames are in, as they were read."""
RESULT_FILES = (*(file for file, _ in _SINKS.values()), *RECORDED_FILES)
"""Names of all files that sinks write."""


def open_sinks(
    names: Sequence[SinkName], folder: Path, header: RunHeader, state: State | None = None
) -> dict[SinkName, Sink[FrameResult]]:
    """Those of the named sinks that take results, each with its file begun in `folder`, which must exist, or with a
    `state` gone on with there.

    Raises IrstError, one line, when a file cannot be written; the sinks opened before it are closed then.
    """
    return _opened(_SINKS, names, folder, header, state)


def open_recorders(
    names: Sequence[SinkName], folder: Path, header: RunHeader, state: State | None = None
) -> dict[SinkName, Sink[Frame]]:
    """The same of those that take frames as they are read."""
    return _opened(_RECORDERS, names, folder, header, state)


def _opened(
    kinds: Kinds[T], names: Sequence[SinkName], folder: Path, header: RunHeader, state: State | None
) -> dict[SinkName, Sink[T]]:
    with ExitStack() as opened:
        sinks = {}
        for name in names:
            if name in kinds:
                file, kind = kinds[name]
                sinks[name] = kind(folder / file, header, None if state is None else part_of(state, name))
                opened.callback(sinks[name].close)
        opened.pop_all()
        return sinks
