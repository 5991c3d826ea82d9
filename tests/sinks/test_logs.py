"""The logs hold what the tracker said, in forms that other people's readers take."""

import json
import re
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import pytest

from irst_pipeline.config import RunSettings, SinkName
from irst_pipeline.errors import IrstError
from irst_pipeline.sinks import open_sinks
from irst_pipeline.types import Bearings, CameraMotion, FrameResult, TrackEvent, Tracks
from tests.running import read_csv
from tests.sinks.sink_streams import C, P, T, detections, header, result, tracks


def write(name: SinkName, folder: Path, *results: FrameResult, **changes: Any) -> None:
    (sink,) = open_sinks([name], folder, header(**changes)).values()
    for item in results:
        sink.write(item)
    sink.close()


def read_jsonl(folder: Path) -> list[dict[str, Any]]:
    """Strictly: Python's own reader takes NaN and Infinity, JSON does not."""

    def refuse(word: str) -> NoReturn:
        raise AssertionError(f"{word} is no JSON")

    lines = (folder / "tracks.jsonl").read_text().splitlines()
    return [json.loads(line, parse_constant=refuse) for line in lines]


def read_mot(folder: Path) -> list[tuple[int, int, float, float]]:
    """Frame from 0, id and box centre, as scorers take them."""
    rows = [[float(cell) for cell in line.split(",")] for line in (folder / "mot.txt").read_text().splitlines()]
    assert all(len(row) == 10 and row[7:] == [-1, -1, -1] for row in rows)
    return [(int(f) - 1, int(i), left + w / 2, top + h / 2) for f, i, left, top, w, h, *_ in rows]


def test_jsonl_begins_with_what_ran(tmp_path: Path) -> None:
    write("tracks_jsonl", tmp_path)
    (record,) = read_jsonl(tmp_path)
    assert record["record"] == "header"
    assert record["schema"] == "irst.tracks/1"
    assert (record["source"], record["uri"], record["device"]) == ("clip", "/data/clip.mp4", "cpu")
    assert (record["model"], record["weights_sha256"]) == ("lsnet-nano", "ab" * 32)
    assert record["started"] == "2025-01-02T03:04:05Z"
    assert record["config"]["tracker"]["coast_seconds"] == RunSettings().tracker.coast_seconds


def test_of_a_live_source_logs_say_when_each_frame_came(tmp_path: Path) -> None:
    shown, dropped = tracks([10], [20]), TrackEvent("dropped", 2, 0, 0.0)
    motion = CameraMotion(np.array([[1.0, 0, 2], [0, 1, 0], [0, 0, 1]]), known=True)
    came = result(0, shown, events=(dropped,), motion=motion, utc=1764471600.25)
    for name in ("tracks_jsonl", "tracks_csv"):
        write(name, tmp_path, came, result(1, shown), live=True)
    utc = "2025-11-30T03:00:00.250+00:00"
    at_first = [record for record in read_jsonl(tmp_path) if record.get("frame") == 0]
    assert [(record["record"], record["utc"]) for record in at_first] == [
        ("camera", utc),
        ("track", utc),
        ("event", utc),
    ]
    assert [row["utc"] for row in read_csv(tmp_path / "tracks.csv")] == [utc, ""]
    assert list(read_csv(tmp_path / "tracks.csv")[0])[-1] == "utc"


def test_of_a_recording_logs_have_no_such_time(tmp_path: Path) -> None:
    for name in ("tracks_jsonl", "tracks_csv"):
        write(name, tmp_path, result(0, tracks([10], [20])))
        assert "utc" not in (tmp_path / name.replace("_", ".")).read_text()


def test_jsonl_has_a_record_per_track_and_frame(tmp_path: Path) -> None:
    shown = tracks([10.12345, 20, 30], [5.5, 6, 7], [C, P, T], first_id=4)
    write("tracks_jsonl", tmp_path, result(0), result(1, shown), result(2, shown, time=0.1234567))
    records = read_jsonl(tmp_path)[1:]
    assert [(r["frame"], r["id"], r["status"]) for r in records] == [
        (frame, id_, status)
        for frame in (1, 2)
        for id_, status in ((4, "confirmed"), (5, "coasting"), (6, "tentative"))
    ]
    assert records[3] == {
        "record": "track",
        "frame": 2,
        "time": 0.123457,
        "id": 4,
        "status": "confirmed",
        "x": 10.123,
        "y": 5.5,
        "vx": 12.0,
        "vy": -3.0,
        "cov": [0.1235, -0.01235, 1235.0],
        "box": [8.623, 4.5, 3.0, 2.0],
        "score": 0.95,
        "snr": 8.25,
        "age": 9,
        "hits": 7,
        "nis": 1.5,
    }


def test_jsonl_tells_when_a_track_is_confirmed_and_dropped_and_what_it_went_on_as(tmp_path: Path) -> None:
    kinds = ("confirmed", 3, None), ("dropped", 1, None), ("jumped", 2, 4)
    events = tuple(TrackEvent(kind, id_, 8, 8 / 30, was) for kind, id_, was in kinds)
    write("tracks_jsonl", tmp_path, result(8, events=events))
    assert read_jsonl(tmp_path)[1:] == [
        {"record": "event", "event": "confirmed", "id": 3, "frame": 8, "time": 0.266667},
        {"record": "event", "event": "dropped", "id": 1, "frame": 8, "time": 0.266667},
        {"record": "event", "event": "jumped", "id": 2, "frame": 8, "time": 0.266667, "was": 4},
    ]


def test_jsonl_tells_how_the_camera_moved_where_it_did(tmp_path: Path) -> None:
    """To less than 0.001 px over a picture of thousands."""
    matrix = np.array([[1.00012345678, -0.002, 12.3456789], [0.002, 1.0, -7.25], [1.23456789e-7, 0.0, 1.0]])
    turns, stays = CameraMotion(matrix, known=True), CameraMotion(np.eye(3), known=True)
    write("tracks_jsonl", tmp_path, result(0), result(3, motion=turns), result(4, motion=stays))
    (record,) = read_jsonl(tmp_path)[1:]
    said = CameraMotion(np.array(record.pop("matrix")), known=True)
    assert record == {"record": "camera", "frame": 3, "time": 0.1}
    corners = np.array([[0.0, 0], [4095, 0], [0, 4095], [4095, 4095]])
    np.testing.assert_allclose(said.apply(corners), turns.apply(corners), rtol=0, atol=1e-3)


@pytest.mark.parametrize("name", ["tracks_csv", "detections"])
def test_tables_have_times_to_a_microsecond(name: SinkName, tmp_path: Path) -> None:
    write(name, tmp_path, result(3, tracks([1], [2]), seen=detections([1], [2]), time=0.1234567))
    (row,) = read_csv(next(tmp_path.glob("*.csv")))
    assert row["time_s"] == "0.123457"


def test_no_number_breaks_the_logs(tmp_path: Path) -> None:
    shown = tracks([np.nan, 5, 6], [1, 2, 3])
    shown.covariance[1] = (np.inf, -np.inf, np.nan)
    shown.snr[1], shown.score[2] = np.inf, np.nan
    for name in ("tracks_jsonl", "tracks_csv", "mot", "detections"):
        write(name, tmp_path, result(0, shown, seen=detections([7], [8], snr=np.inf)))

    _, *rows = read_jsonl(tmp_path)
    assert (rows[0]["x"], rows[0]["y"]) == (None, 1.0)
    assert (rows[1]["cov"], rows[1]["snr"], rows[2]["score"]) == ([None] * 3, None, None)
    table = read_csv(tmp_path / "tracks.csv")
    assert (table[0]["x_px"], table[1]["cov_xx_px2"], table[1]["x_px"]) == ("", "", "5.0")
    assert read_csv(tmp_path / "detections.csv")[0]["snr"] == ""
    assert read_mot(tmp_path) == [(0, 2, 5, 2), (0, 3, 6, 3)]  # what has no place is no row


def test_every_line_is_on_disk_with_its_frame(tmp_path: Path) -> None:
    names: list[SinkName] = ["tracks_jsonl", "tracks_csv", "mot", "detections"]
    files = ["tracks.jsonl", "tracks.csv", "mot.txt", "detections.csv"]
    sinks = open_sinks(names, tmp_path, header()).values()
    before = [(tmp_path / file).read_text().count("\n") for file in files]
    for index in range(3):
        for sink in sinks:
            sink.write(result(index, tracks([1, 2], [3, 4]), seen=detections([1, 2], [3, 4])))
        texts = [(tmp_path / file).read_text() for file in files]
        assert [text.count("\n") for text in texts] == [lines + 2 * (index + 1) for lines in before]
        assert all(text.endswith("\n") for text in texts)
    for sink in sinks:
        sink.close()


def test_csv_names_units_and_leaves_tentative_tracks_out(tmp_path: Path) -> None:
    write("tracks_csv", tmp_path, result(3, tracks([10.5, 20, 30], [1, 2, 3], [C, P, T])))
    rows = read_csv(tmp_path / "tracks.csv")
    assert [(row["id"], row["status"]) for row in rows] == [("1", "confirmed"), ("2", "coasting")]
    assert None not in rows[0]  # as many cells
    assert None not in rows[0].values()  # as columns
    numbers = {key: float(value) for key, value in rows[0].items() if key != "status"}
    assert (numbers["time_s"], numbers["frame"], numbers["x_px"], numbers["y_px"]) == (0.1, 3, 10.5, 1)
    assert (numbers["vx_px_per_s"], numbers["vy_px_per_s"], numbers["cov_xy_px2"]) == (12, -3, -0.01235)
    assert [numbers[key] for key in ("left_px", "top_px", "width_px", "height_px")] == [9, 0, 3, 2]
    assert [numbers[key] for key in ("score", "snr", "age_frames", "hits")] == [0.95, 8.25, 9, 7]


class East:
    """Sees all tracks in the same place."""

    def __init__(self, azimuth: float) -> None:
        self._azimuth = azimuth

    def bearings(self, tracks: Tracks) -> Bearings:
        values = self._azimuth, 4.5, -0.1234567, np.nan, 0.001234567, 0.002
        return Bearings(*(np.full(len(tracks), value) for value in values))


BEARINGS = {
    "azimuth_deg": 90.123457,
    "elevation_deg": 4.5,
    "azimuth_rate_deg_s": -0.12346,
    "elevation_rate_deg_s": None,
    "azimuth_sd_deg": 0.001235,
    "elevation_sd_deg": 0.002,
}


def test_bearings_are_logged_where_there_is_a_camera(tmp_path: Path) -> None:
    camera = {"width_px": 80, "pointing": None}
    for name in ("tracks_jsonl", "tracks_csv"):
        shown = result(0, tracks([1, 2], [4, 5]), view=East(90.12345678))
        write(name, tmp_path, shown, result(1, view=East(9)), camera=camera)
    head, *records = read_jsonl(tmp_path)
    assert head["camera"] == camera
    assert len(records) == 2
    table = read_csv(tmp_path / "tracks.csv")
    for record, row in zip(records, table, strict=True):
        assert {key: record[key] for key in BEARINGS} == BEARINGS
        assert {key: row[key] for key in list(row)[-6:]} == {
            key: "" if value is None else str(value) for key, value in BEARINGS.items()
        }


def test_no_azimuth_is_360(tmp_path: Path) -> None:
    write("tracks_jsonl", tmp_path, result(0, tracks([1], [4]), view=East(359.9999999)))
    assert read_jsonl(tmp_path)[1]["azimuth_deg"] == 0


def test_mot_keeps_the_sub_pixel_centre(tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    x, y = rng.uniform(-5, 700, (2, 200))
    shown = tracks(x.tolist(), y.tolist(), size=(3.337, 1.0))
    write("mot", tmp_path, result(0, shown), result(7, shown))
    rows = read_mot(tmp_path)
    assert [row[:2] for row in rows] == [(frame, id_) for frame in (0, 7) for id_ in range(1, 201)]
    np.testing.assert_allclose([row[2:] for row in rows], np.tile(np.column_stack((x, y)), (2, 1)), atol=0.00051)


def test_mot_has_confirmed_and_coasting_tracks_with_their_score(tmp_path: Path) -> None:
    write("mot", tmp_path, result(0, tracks([1, 2, 3], [4, 5, 6], [T, P, C], first_id=8)))
    assert read_mot(tmp_path) == [(0, 9, 2, 5), (0, 10, 3, 6)]
    assert {line.split(",")[6] for line in (tmp_path / "mot.txt").read_text().splitlines()} == {"0.95"}


def test_of_weak_detections_those_of_tracks_have_a_row(tmp_path: Path) -> None:
    seen = detections([10, 20, 30], [10, 20, 30])
    seen.score[:] = [0.9, 0.01, 0.01]
    led = tracks([20], [20])
    led.detection[:] = 1
    write("detections", tmp_path, result(0, led, seen=seen))
    assert [row["x_px"] for row in read_csv(tmp_path / "detections.csv")] == ["10.0", "20.0"]


def test_detections_have_a_row_each(tmp_path: Path) -> None:
    write("detections", tmp_path, result(0), result(6, seen=detections([1.23456, 50], [2, 60])))
    rows = read_csv(tmp_path / "detections.csv")
    assert rows[0] == {
        "time_s": "0.2",
        "frame": "6",
        "x_px": "1.235",
        "y_px": "2.0",
        "cov_xx_px2": "0.2",
        "cov_xy_px2": "0.01",
        "cov_yy_px2": "0.3",
        "left_px": "0.235",
        "top_px": "0.5",
        "width_px": "2.0",
        "height_px": "3.0",
        "area_px": "5",
        "score": "0.9",
        "intensity_levels": "41.25",
        "snr": "7.5",
    }
    assert [row["x_px"] for row in rows] == ["1.235", "50.0"]


@pytest.mark.parametrize("name", ["tracks_jsonl", "video"])
def test_a_folder_that_is_not_there_is_one_line(name: SinkName, tmp_path: Path) -> None:
    with pytest.raises(IrstError, match=re.escape(str(tmp_path / "none"))) as caught:
        open_sinks([name], tmp_path / "none", header())
    assert "create that folder" in str(caught.value)
    assert "\n" not in str(caught.value)
