"""The full log of a run: one JSON record a line."""

import json
from typing import Any

import orjson

from irst_pipeline.sinks.base import RunHeader, significant, track_columns, utc_text
from irst_pipeline.sinks.log import Gap, Log
from irst_pipeline.types import Bearings, CameraMotion, DroppedFrames, FrameResult, Tracks

SCHEMA = "irst.tracks/1"
Stamp = dict[str, Any]
"""What every record of a frame has: its index, its time, and of a live source when it came."""


class TracksJsonl(Log):
    """`tracks.jsonl`: a header, then a record per track and frame, one per track confirmed, jumped or dropped, and one
    for all frames that were dropped in a row.

    A number that is not finite is written as null.
    """

    def head(self) -> bytes:
        return head(self._header)

    def text(self, result: FrameResult) -> bytes:
        return lines(records_of(result))

    def gap_text(self, gap: Gap) -> bytes:
        return lines([{"record": "gap", "frame": gap.frame, "time": round(gap.time, 6), "frames": gap.frames}])


def head(header: RunHeader) -> bytes:
    """The first line of a log; of paths that are not UTF-8, what is not is shown as ?."""
    record = {"record": "header", "schema": SCHEMA, **header.record()}
    return json.dumps(record, ensure_ascii=False, separators=(",", ":")).encode(errors="replace") + b"\n"


def records_of(result: FrameResult) -> list[dict[str, Any]]:
    """All that there is to say of a frame."""
    frame = result.frame
    stamp: Stamp = {"frame": frame.index, "time": round(frame.time, 6)}
    if frame.utc is not None:
        stamp["utc"] = utc_text(frame)
    records = [_dropped_record(dropped) for dropped in result.dropped]
    records += _camera_records(stamp, result.motion)
    records += track_records(stamp, result.tracks, result.bearings)
    for event in result.events:
        was = {} if event.was is None else {"was": event.was}
        records.append({"record": "event", "event": event.kind, "id": event.id} | stamp | was)
    return records


def lines(records: list[dict[str, Any]]) -> bytes:
    return b"".join(orjson.dumps(record, option=orjson.OPT_APPEND_NEWLINE) for record in records)


def _dropped_record(dropped: DroppedFrames) -> dict[str, Any]:
    span = {"first": dropped.first, "last": dropped.last, "count": len(dropped)}
    return {"record": "dropped", "cause": dropped.cause, **span}


def _camera_records(stamp: Stamp, motion: CameraMotion) -> list[dict[str, Any]]:
    """One where the camera moved, none where it stood still or nothing is known."""
    if not motion.moved:
        return []
    return [{"record": "camera"} | stamp | {"matrix": significant(motion.matrix, 9)}]


def track_records(stamp: Stamp, tracks: Tracks, bearings: Bearings | None) -> list[dict[str, Any]]:
    """A record for each track of a frame, which the `stamp` names."""
    columns = track_columns(tracks, bearings)
    same = {"record": "track"} | stamp
    return [same | dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]
