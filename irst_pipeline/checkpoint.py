"""What a run needs to go on after it was killed: beside its results while it runs, and gone when it is complete.

A checkpoint belongs to one frame: it holds all that the pipeline remembers after it, and how long each log was. To go
on is to cut the logs there and to process what comes after that frame, so that in the end the logs are those of a run
that was never killed.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from irst_pipeline.disk import beside, rewrite_file
from irst_pipeline.errors import UsageError
from irst_pipeline.sources import Position, Source, checksum
from irst_pipeline.sources.base import utc_of
from irst_pipeline.state import State, state_of
from irst_pipeline.types import FrameResult

CHECKPOINT_FILE = "checkpoint.safetensors"
CHECKPOINT_FILES = (CHECKPOINT_FILE, *(path.name for path in beside(Path(CHECKPOINT_FILE))))
SCHEMA = "irst.checkpoint/4"
SAME = ("uri", "model", "weights_sha256", "camera", "config")
"""What of a run's header must not change."""


class Checkpoint(NamedTuple):
    """What was stored after a frame."""

    header: dict[str, Any]
    """The run's header record."""
    position: Position
    """Of the frame to go on after."""
    state: State
    """By `pipeline`, `statistics` and `sinks`."""


def write_checkpoint(
    folder: Path, header: dict[str, Any], result: FrameResult, source: Source, others: Mapping[str, Any]
) -> None:
    """Make the frame that was just written the one to go on from; raises IrstError where it cannot be stored.

    `others`: what else remembers something, as for `state_of`.
    """
    frame, came = result.frame, utc_of(result.spans["read"].end)
    position = Position(frame.index, frame.time, came, source.frames_failed, source.reconnects, checksum(frame))
    state = state_of({"pipeline": result.state, **others})
    metadata = {"schema": SCHEMA, "header": json.dumps(header), "position": json.dumps(position)}
    rewrite_file(folder / CHECKPOINT_FILE, save(state, metadata))


def remove_checkpoint(folder: Path) -> None:
    """There is nothing left to go on with."""
    for name in CHECKPOINT_FILES:
        (folder / name).unlink(missing_ok=True)


def read_checkpoint(folder: Path) -> Checkpoint | None:
    """The checkpoint in a folder, if there is one; raises UsageError for one that cannot be used."""
    path = folder / CHECKPOINT_FILE
    if not path.exists():
        return None
    try:
        with safe_open(path, framework="numpy") as file:
            metadata = file.metadata() or {}
            state = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (it is no mapping)
    except (SafetensorError, OSError) as error:
        raise UsageError(f"{path}: cannot read it ({error}); begin again with --overwrite") from None
    if metadata.get("schema") != SCHEMA:
        raise of_another_version(folder, metadata.get("schema", "no checkpoint"))
    try:
        return Checkpoint(dict(json.loads(metadata["header"])), Position(*json.loads(metadata["position"])), state)
    except (KeyError, ValueError, TypeError, RecursionError) as error:
        raise UsageError(f"{path}: is damaged ({error}); begin again with --overwrite") from None


def of_another_version(folder: Path, how: object) -> UsageError:
    """What to raise for the checkpoint in a folder; `how`: what shows it."""
    return UsageError(f"{folder / CHECKPOINT_FILE}: of another version of irst ({how}); begin again with --overwrite")


def refuse_another_run(folder: Path, before: dict[str, Any], now: dict[str, Any]) -> None:
    """Raise UsageError, which names the first difference, unless both header records are of the same run.

    Who may ask for its metrics, and where it sends what it finds, makes no difference.
    """
    for key in SAME:
        if difference := _difference(key, before.get(key), now.get(key)):
            raise UsageError(f"{folder}: holds another run: {difference}; give --resume what that run was given")


def _difference(key: str, before: Any, now: Any) -> str | None:
    if key in ("config.metrics", "config.send"):
        return None
    if isinstance(before, dict) and isinstance(now, dict):
        inner = (_difference(f"{key}.{name}", before.get(name), now.get(name)) for name in {**before, **now})
        return next((difference for difference in inner if difference), None)
    return None if before == now else f"its {key} was {json.dumps(before)}, now it is {json.dumps(now)}"
