"""Reading of true paths and of the tracks that a run, or another tracker, logged."""

import json
import logging
import math
from array import array
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import AfterValidator, BaseModel, BeforeValidator, Field
from tqdm import tqdm

from irst_pipeline.columns import FRAME, read_columns, require
from irst_pipeline.disk import all_parts
from irst_pipeline.errors import UsageError
from irst_pipeline.evaluation.tracking import Paths, TrackedSequence, TrackPaths, velocities, without_hidden
from irst_pipeline.settings import FileFields, FiniteFloat, NotNegative, Positive, read_lines, read_yaml, validate
from irst_pipeline.simulation.simulate import MOT_FILE, SCENE_FILE, TRUTH_FILE
from irst_pipeline.sinks.base import REPORT_FILE, read_report
from irst_pipeline.sinks.jsonl import SCHEMA
from irst_pipeline.types import Floats, Integers

logger = logging.getLogger("irst")

LOG_FILE = "tracks.jsonl"
FRAMES_MAX = 10_000_000  # more is a slip of the pen, and would not fit in memory
ID_END = 1 << 31  # ids are below
MOT_COLUMNS = "frame,id,left,top,width,height"
UNLABELLED = 0.1  # of a sequence, that may well be without labels, or without tracks, at its end
RATE_ERROR = 0.01  # by which frame rates may differ that are the same, as 29.97 and 30

FrameIndex = Annotated[int, Field(ge=0, lt=FRAMES_MAX)]
Id = Annotated[int, Field(ge=0, lt=ID_END)]


def _number(cell: str) -> float | str:
    """A cell as a number, which other tools write in many ways (NumPy's savetxt 1 as 1.0e+00); else as it is."""
    try:
        return float(cell)
    except ValueError:
        return cell


def _from_one(frame: int) -> int:
    if frame < 1:
        raise ValueError("a frame from 1 (where they count from 0, add 1 to each)")
    return frame


class _MotRow(BaseModel):
    """The columns of a MOTChallenge file in their order; what follows them is not used. Its cells are text, of which
    none is a boolean: to look for those would take a fifth of the time.

    Boxes are in px with pixel centres at integers from 0: that of the pixel at (0, 0) is -0.5, -0.5, 1, 1.
    """

    frame: Annotated[int, BeforeValidator(_number), Field(le=FRAMES_MAX), AfterValidator(_from_one)]
    """From 1."""
    id: Annotated[Id, BeforeValidator(_number)]
    left: FiniteFloat
    top: FiniteFloat
    width: NotNegative
    height: NotNegative
    considered: FiniteFloat = 1
    """Of ground truth, 0 for a target that cannot be seen there; of tracks, what their maker likes."""


class _Scene(FileFields):
    frames: Annotated[int, Field(ge=1, le=FRAMES_MAX)] = 0
    frame_rate_hz: Positive | None = None


class _Report(FileFields):
    """What is read of a run's account of itself; nothing is known where there is none, as after a kill."""

    outcome: str = "complete"
    frames_read: Annotated[int, Field(ge=0, le=FRAMES_MAX)] = 0
    frames_failed: Annotated[int, Field(ge=0, le=FRAMES_MAX)] = 0


class _Header(FileFields):
    frame_rate: Positive


class _Record(FileFields):
    """What most records have."""

    frame: FrameIndex = 0


class _TrackRecord(_Record):
    """What is read of a record of a track; see the README for all of it."""

    frame: FrameIndex
    id: Id
    status: Literal["tentative", "confirmed", "coasting"]
    x: FiniteFloat
    y: FiniteFloat
    vx: FiniteFloat | None
    vy: FiniteFloat | None
    cov: tuple[float | None, float | None, float | None]
    nis: float | None = None


def find_truth(path: Path) -> Path:
    """A file of MOTChallenge ground truth, or the one in a folder that `irst simulate` wrote."""
    return _find(path, MOT_FILE, "give a folder that irst simulate wrote, or a file of MOTChallenge ground truth")


def find_log(path: Path) -> Path:
    """The full log in a folder that `irst run` wrote, such a file or a part of it, or tracks in MOTChallenge form."""
    return _find(path, LOG_FILE, "give a folder that irst run wrote with tracks_jsonl among its sinks")


def read_sequence(truth: Path, log: Path, frame_rate: float | None = None) -> TrackedSequence:
    """Targets of a file of ground truth, and confirmed and coasting tracks of a run's log, matched by their frames.

    Tracks of another tracker come in MOTChallenge form (.txt): nobody knows how sure it is of them or how fast they
    are. Such a file does not say its frame rate either: it is that of the scene beside the truth, or `frame_rate`.

    A target's position is the centre of its box. Of a simulated sequence its velocity is known, against the scene as
    that of a track is; elsewhere it is that of its neighbouring positions at the log's frame rate, which is the same
    where the camera stands still. Hidden targets do not count, nor do tracks where they follow one. The sequence ends
    with the last frame that either file names, or that the scene beside the one or the run's report beside the other
    counts. Raises UsageError, one line.
    """
    scene = _scene_of(truth)
    run = _frames_of_run(log, scene.frames)
    if log.suffix == ".txt":
        tracks, logged, said = TrackPaths.of_positions(*_places(_read_mot(log, "track"))), 0, scene.frame_rate_hz
    else:
        tracks, logged, said = _read_tracks(log)
    rate = said or frame_rate
    if rate is None:
        raise UsageError(f"{log}: does not say how many frames a second there are; give it with --rate")
    if frame_rate and not math.isclose(rate, frame_rate, rel_tol=RATE_ERROR):
        raise UsageError(f"--rate {frame_rate:g}: it is known to be {rate:g} frames a second; leave it out")
    if scene.frame_rate_hz and not math.isclose(rate, scene.frame_rate_hz, rel_tol=RATE_ERROR):
        theirs = f"a run at {rate:g} frames/s, but the scene has {scene.frame_rate_hz:g}"
        logger.warning("%s: %s; times and velocities are not the scene's (see image_rate)", log.parent, theirs)
    targets, hidden = _read_targets(truth, rate)
    simulated = scene.frames
    if not len(targets.frame) and not simulated:
        raise UsageError(f"{truth}: names no target; there is nothing to score against")
    labelled, tracked = max(_end(targets), _end(hidden)), _end(tracks)
    if len(tracks.frame) and max(labelled, tracked) > simulated and not np.isin(tracks.frame, targets.frame).any():
        spans = [f"{frame.min()} to {frame.max()}" for frame in (tracks.frame, targets.frame)]
        raise UsageError(
            f"{log}: its tracks are in frames {spans[0]}, the targets of {truth} in {spans[1]} (from 0), never in the "
            f"same one; give the truth of the sequence that was run"
        )
    ran = max(run, logged, tracked)
    frames = max(simulated, labelled, ran)
    if not simulated and tracked - labelled > UNLABELLED * frames:
        logger.warning("%s: labels end with frame %d of %d; tracks after it count as false", truth, labelled, frames)
    if not simulated and labelled - ran > UNLABELLED * frames:
        logger.warning("%s: ends with frame %d of %d labelled; targets after it count as missed", log, ran, frames)
    return without_hidden(TrackedSequence(targets, tracks, frames, rate), hidden)


def _end(paths: Paths) -> int:
    """How many frames there are up to the last of these."""
    return 1 + int(paths.frame.max(initial=-1))


def _scene_of(truth: Path) -> _Scene:
    """What the scene of a simulated sequence says; of another's ground truth, nothing."""
    scene = truth.with_name(SCENE_FILE)
    return validate(_Scene, read_yaml(scene) if truth.name == MOT_FILE and scene.is_file() else {}, str(scene))


def _frames_of_run(log: Path, simulated: int) -> int:
    """How many frames the run of this log has met; 0 where it does not say. It is told where they cannot be those of
    the truth, of which `simulated` are known, if any."""
    report = validate(_Report, read_report(log.parent), str(log.with_name(REPORT_FILE)))
    met, outcome = report.frames_read + report.frames_failed, report.outcome
    if outcome != "complete":
        logger.warning("%s: not a complete run (%s); what it did not see counts as missed", log.parent, outcome)
    elif met and simulated and met != simulated:
        logger.warning("%s: a run of %d frames, but the scene has %d; is it of this scene?", log.parent, met, simulated)
    return met


def _read_targets(path: Path, frame_rate: float) -> tuple[Paths, Paths]:
    """Targets, and those that are hidden; of these the velocities are not known."""
    rows = _read_mot(path, "target")
    considered = rows[:, -1] != 0
    frame, id_, position = _places(rows[considered])
    states = path.with_name(TRUTH_FILE)
    if path.name == MOT_FILE and states.is_file():
        known = _read_velocities(states)
        keys = zip(frame.tolist(), id_.tolist(), strict=True)
        velocity = np.array([known.get(key, (math.nan, math.nan)) for key in keys]).reshape(-1, 2)
    else:
        velocity = velocities(frame, id_, position, frame_rate)
    hidden = TrackPaths.of_positions(*_places(rows[~considered]))
    return Paths(frame, id_, position, velocity), hidden


def _read_mot(path: Path, what: str) -> Floats:
    """(n, 7): the columns of `_MotRow`."""
    numbers, seen = array("d"), set[int]()
    for number, line in _lines(path):
        where = f"{path} line {number}"
        cells = line.split(",")
        if cells[0].strip().isidentifier():
            raise UsageError(f"{where}: has names where numbers are due; {_mend_names(path)}")
        if len(cells) == 1:
            raise UsageError(f"{where}: one column; separate them by commas, as {MOT_COLUMNS}")
        row = validate(_MotRow, dict(zip(_MotRow.model_fields, cells, strict=False)), where)
        _refuse_twice(f"{where}: {what}", row.frame, row.id, seen)
        numbers.extend(vars(row).values())
    return np.array(numbers).reshape(-1, len(_MotRow.model_fields))


def _mend_names(path: Path) -> str:
    """What to give instead of a file with names of columns, which may be the simulator's own table."""
    mot = path.with_name(MOT_FILE)
    if path.name == TRUTH_FILE and mot.is_file():
        return f"give {mot}, or the folder"
    return f"give {MOT_COLUMNS} (frame from 1) in this order, without a header"


def _places(rows: Floats) -> tuple[Integers, Integers, Floats]:
    """Frame from 0, id and position, of the columns of `_MotRow`."""
    frame, id_ = rows[:, :2].astype(np.int64).T
    return frame - 1, id_, rows[:, 2:4] + rows[:, 4:6] / 2


def _read_velocities(path: Path) -> dict[tuple[int, int], tuple[float, float]]:
    """px/s by frame and id."""
    columns = read_columns(path, lambda present: require(present, FRAME, "id", "vx_px_s", "vy_px_s"))
    keys = zip(columns.frames(), columns.table[:, 1].tolist(), strict=True)
    return {key: (vx, vy) for key, (vx, vy) in zip(keys, columns.table[:, 2:].tolist(), strict=True)}


def _read_tracks(path: Path) -> tuple[TrackPaths, int, float]:
    """Tracks, number of frames and frame rate of a log, with the parts of it that were set aside."""
    numbers, seen, frames = array("d"), set[int](), 1
    for part in all_parts(path):
        lines = _lines(part, whole=True)
        number, line = next(lines, (1, ""))
        head = _json(line)
        if head is None or head.get("schema") != SCHEMA:
            mend = "give a log that irst run wrote, or FILE.txt in MOTChallenge form"
            raise UsageError(f"{part}: does not begin with a header of schema {SCHEMA}; {mend}")
        frame_rate = validate(_Header, head, f"{part} line {number}").frame_rate
        for number, line in lines:
            where = f"{part} line {number}"
            tree = _parse(line, where)
            record = validate(_TrackRecord if tree.get("record") == "track" else _Record, tree, where)
            frames = max(frames, 1 + record.frame)
            if isinstance(record, _TrackRecord) and record.status != "tentative":
                _refuse_twice(f"{where}: track", record.frame, record.id, seen)
                values = record.frame, record.id, record.x, record.y, record.vx, record.vy, *record.cov, record.nis
                numbers.extend(math.nan if value is None else value for value in values)
    rows = np.array(numbers).reshape(-1, 10)
    frame, id_ = rows[:, :2].astype(np.int64).T
    return TrackPaths(frame, id_, rows[:, 2:4], rows[:, 4:6], rows[:, 6:9], rows[:, 9]), frames, frame_rate


def _find(path: Path, name: str, mend: str) -> Path:
    file = path / name if path.is_dir() else path
    if not file.is_file():
        raise UsageError(f"{file}: no such file; {mend}")
    return file


def _lines(path: Path, whole: bool = False) -> Iterator[tuple[int, str]]:
    """Number, from 1, and text of the lines that are not empty; with `whole` without a last one that is cut off, as a
    run that was killed leaves it."""
    for number, line in enumerate(tqdm(read_lines(path), desc=path.name, unit="line", leave=False, disable=None), 1):
        cut_off = whole and not line.endswith("\n") and _json(line) is None
        if line.strip() and not cut_off:
            yield number, line.removesuffix("\n")


def _parse(line: str, where: str) -> dict[str, Any]:
    tree = _json(line)
    if tree is None:
        raise UsageError(f"{where}: not a JSON record; give the tracks.jsonl of a run, or strike the line out")
    return tree


def _json(line: str) -> dict[str, Any] | None:
    try:
        tree = json.loads(line)
    except (ValueError, RecursionError):
        return None
    return tree if isinstance(tree, dict) else None


def _refuse_twice(what: str, frame: int, id_: int, seen: set[int]) -> None:
    key = frame * ID_END + id_  # takes a third of the memory of a pair
    if key in seen:
        raise UsageError(f"{what} {id_} is in frame {frame} twice; strike one out")
    seen.add(key)
