"""From a recording, a camera and a pointing to the logs."""

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from irst_pipeline.cli import main
from irst_pipeline.simulation import simulate
from irst_pipeline.sinks.base import BEARINGS
from irst_pipeline.sources.address import named_after
from tests.running import read_csv, read_jsonl
from tests.simulation.small_scenes import scene, target

RATE, FOCAL, PAN, AZIMUTH = 25.0, 600.0, 3.0, 358 + 0.98 * 3.0
FRAMES, KNOWN = 50, 40  # of the recording; that have a pointing


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A recording of 8 and of 16 bits, in which a target goes left as if the camera panned right past it, and results.

    The 16-bit one's pointing pans so; that of the other, taken by frames, does not.
    """
    folder = tmp_path_factory.mktemp("bearings") / "scene"
    x = 63.5 + FOCAL * np.tan(np.deg2rad(AZIMUTH - 358))
    flight = target(x_px=x, y_px=27.5, vx_px_s=-FOCAL * np.deg2rad(PAN), snr=15)
    tree: dict[str, Any] = {"width_px": 128, "height_px": 96, "frames": FRAMES, "frame_rate_hz": RATE}
    simulate(scene(**tree, view_levels=[7250, 7400], targets=[flight]), folder, 1)
    (folder / "camera.yaml").write_text(f"width_px: 128\nheight_px: 96\nfocal_px: [{FOCAL}, {FOCAL}]\n")
    end = (KNOWN - 1) / RATE
    rows = f"time_s,azimuth_deg,elevation_deg\n0,358,0\n{end},{(358 + PAN * end) % 360},0\n"
    (folder / "sequence16.pointing.csv").write_text(rows)
    rows = f"frame,azimuth_deg,elevation_deg\n0,40,10\n{KNOWN - 1},40,10\n"
    (folder / "sequence8.pointing.csv").write_text(rows)
    recordings = [str(folder / name) for name in ("sequence16.mkv", "sequence8.mp4")]
    camera = ["--camera", str(folder / "camera.yaml"), "--pointing", "{}.pointing.csv"]
    assert run(*recordings, *camera, "--smooth", "--out", str(folder / "out")) == 0
    return folder


def run(*arguments: str) -> int:
    return main(["run", *arguments, "--no-video", "--device", "cpu", "--set", "tracker.false_tracks_per_hour=100"])


def seen(path: Path) -> list[dict[str, Any]]:
    """The records of the one track that goes on to the end."""
    found = [r for r in read_jsonl(path) if r["record"] == "track"]
    return [r for r in found if r["id"] == found[-1]["id"]]


def settled(rows: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    """Those by when the track knows its velocity."""
    return [row for row in rows if 15 <= row["frame"] < KNOWN]


@pytest.mark.parametrize("name", ["tracks", "smoothed"])
def test_a_target_that_the_camera_pans_past_keeps_its_bearing(name: str, folder: Path) -> None:
    rows = settled(seen(folder / "out" / "sequence16" / f"{name}.jsonl"))
    assert len(rows) == KNOWN - 15
    if name == "smoothed":  # which looks ahead to where the pan goes on and the pointing does not
        rows = rows[:-5]
    for row in rows:
        assert (row["azimuth_deg"], row["elevation_deg"]) == pytest.approx((AZIMUTH - 360, 1.909), abs=0.08)
        assert (row["azimuth_rate_deg_s"], row["elevation_rate_deg_s"]) == pytest.approx((0, 0), abs=0.6)
        assert 0 < row["azimuth_sd_deg"] < 0.1
    rates = [row["azimuth_rate_deg_s"] for row in rows]
    assert np.mean(rates) == pytest.approx(0, abs=0.15)


@pytest.mark.parametrize("name", ["tracks", "smoothed"])
def test_before_a_clear_sky_the_pointing_tells_the_tracker_how_the_camera_swings(name: str, swung: Path) -> None:
    """At up to 22 deg/s, 9 px a frame, past a target at rest."""
    rows = [r for r in read_jsonl(swung / f"{name}.jsonl") if r["record"] == "track" and r["frame"] >= 20]
    assert [row["frame"] for row in rows] == list(range(20, 75))
    assert len({row["id"] for row in rows}) == 1
    for row in rows:
        assert (row["azimuth_deg"] + 180) % 360 - 180 == pytest.approx(0, abs=0.08)
        assert (row["azimuth_rate_deg_s"], row["elevation_rate_deg_s"]) == pytest.approx((0, 0), abs=0.6)


@pytest.fixture(scope="module")
def swung(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("bearings") / "swing"
    swing, hertz, frames = 30.0, 1.25, 75
    tree: dict[str, Any] = {"width_px": 128, "height_px": 96, "frames": frames, "frame_rate_hz": RATE}
    camera = {"vibration_px": [swing, 0], "vibration_hz": hertz}
    simulate(scene(**tree, camera=camera, targets=[target(x_px=63.5, y_px=47.5, snr=15)]), folder, 1)
    (folder / "camera.yaml").write_text(f"width_px: 128\nheight_px: 96\nfocal_px: [{FOCAL}, {FOCAL}]\n")
    offsets = swing * np.sin(2 * np.pi * hertz * np.arange(frames) / RATE)
    rows = [f"{i},{azimuth},0" for i, azimuth in enumerate(np.rad2deg(np.arctan(offsets / FOCAL)))]
    (folder / "p.csv").write_text("\n".join(["frame,azimuth_deg,elevation_deg", *rows]))
    camera_and_pointing = ["--camera", str(folder / "camera.yaml"), "--pointing", str(folder / "p.csv")]
    assert run(str(folder / "sequence16.mkv"), *camera_and_pointing, "--smooth", "--out", str(folder / "out")) == 0
    return folder / "out"


def test_before_a_camera_that_stands_still_it_moves(folder: Path) -> None:
    rows = settled(seen(folder / "out" / "sequence8" / "tracks.jsonl"))
    for row in rows:
        expected = 40 + PAN * (0.98 - row["time"]) / np.cos(np.deg2rad(12))
        assert row["azimuth_deg"] == pytest.approx(expected, abs=0.1)
        assert row["elevation_deg"] == pytest.approx(11.9, abs=0.1)
    rates = [row["azimuth_rate_deg_s"] for row in rows]
    assert np.mean(rates) == pytest.approx(-PAN / np.cos(np.deg2rad(12)), abs=0.2)


def test_after_the_pointing_has_ended_nothing_is_invented(folder: Path) -> None:
    for name in ("tracks", "smoothed"):
        last = [r for r in seen(folder / "out" / "sequence16" / f"{name}.jsonl") if r["frame"] >= KNOWN]
        assert len(last) == FRAMES - KNOWN
        assert all(row[key] is None for row in last for key in BEARINGS)


def test_logs_agree_and_say_what_they_come_of(folder: Path) -> None:
    out = folder / "out" / "sequence16"
    table = read_csv(out / "tracks.csv")
    logged = [r for r in read_jsonl(out / "tracks.jsonl") if r["record"] == "track" and r["status"] != "tentative"]
    assert len(table) == len(logged) > 30
    for row, record in zip(table, logged, strict=True):
        assert [row[key] for key in BEARINGS] == ["" if record[key] is None else str(record[key]) for key in BEARINGS]
    for head in (read_jsonl(out / "tracks.jsonl")[0], json.loads((out / "run.json").read_text())):
        assert head["camera"]["pointing"] == str(folder / "sequence16.pointing.csv")
        assert head["camera"]["focal_px"] == [FOCAL, FOCAL]


def test_without_a_camera_logs_are_as_ever(folder: Path) -> None:
    assert run(str(folder / "sequence8.mp4"), "--out", str(folder / "plain")) == 0
    head, *plain = read_jsonl(folder / "plain" / "tracks.jsonl")
    _, *full = read_jsonl(folder / "out" / "sequence8" / "tracks.jsonl")
    assert "camera" not in head
    assert plain == [{key: value for key, value in record.items() if key not in BEARINGS} for record in full]
    texts = [(path / "tracks.csv").read_text().splitlines() for path in (folder / "plain", folder / "out/sequence8")]
    assert texts[0] == [line.rsplit(",", len(BEARINGS))[0] for line in texts[1]]
    assert (folder / "plain" / "mot.txt").read_bytes() == (folder / "out" / "sequence8" / "mot.txt").read_bytes()


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ("--camera none.yaml", "none.yaml: cannot read it (No such file or directory)"),
        (r'--set camera.model="no\0file"', "cannot read it (embedded null byte)"),
        ("--camera camera.yaml --pointing {}.csv", "sequence16.csv: cannot read it (No such file or directory)"),
        (
            "--pointing sequence16.pointing.csv",
            "--pointing: key `camera`: expected a model (--camera) beside a pointing",
        ),
        ("--camera large.yaml", "sequence16.mkv: frames of 128x96 px, but the camera model is for 640x512 px"),
    ],
)
def test_what_does_not_fit_is_told_in_one_line(
    arguments: str, expected: str, folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / "large.yaml").write_text("width_px: 640\nheight_px: 512\nhorizontal_fov_deg: 20\n")
    words = [str(folder / word) if word.endswith(".yaml") else word for word in arguments.split()]
    assert run(str(folder / "sequence16.mkv"), *words, "--out", str(tmp_path / "out")) == 2
    last = capsys.readouterr().err.strip().splitlines()[-1]
    assert last.startswith("irst: error: ")
    assert expected in last


def test_the_file_beside_a_folder_has_its_whole_name(tmp_path: Path) -> None:
    night = tmp_path / "2026.05.01"
    night.mkdir()
    assert named_after("{}.pointing.csv", str(night)) == tmp_path / "2026.05.01.pointing.csv"
    assert named_after("{}.pointing.csv", str(night / "seq.1.mkv")) == night / "seq.1.pointing.csv"


def test_the_file_beside_raw_frames_goes_by_their_path(tmp_path: Path) -> None:
    uri = f"raw://{tmp_path}/night.1.raw?format=gray16le&size=640x512&fps=29.97"
    assert named_after("{}.pointing.csv", uri) == tmp_path / "night.1.pointing.csv"
