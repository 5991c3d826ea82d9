"""`irst evaluate tracking`: the command, its files and what it says of files it cannot use."""

import json
import re
import sys
import tracemalloc
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from irst_pipeline.cli import main
from irst_pipeline.evaluation.logs import read_sequence
from irst_pipeline.sinks.jsonl import TracksJsonl
from irst_pipeline.types import Floats
from tests.running import read_csv, read_jsonl
from tests.sinks.sink_streams import T, header, result, tracks

SCENE = """
width_px: 64
height_px: 48
frames: 30
terrain: {height_px: 0}
targets:
  - {x_px: 10, y_px: 10, vx_px_s: 20, vy_px_s: 5, snr: 10}
  - {x_px: 50, y_px: 38.5, vx_px_s: 20, vy_px_s: 5, snr: 10}
"""
"""Its second target leaves the frame in 0.7 s."""
FILES = {"tracking.json", "tracking.png"}


@pytest.fixture
def truth(tmp_path: Path) -> Path:
    """A folder that `irst simulate` wrote."""
    (tmp_path / "scene.yaml").write_text(SCENE)
    assert main(["simulate", str(tmp_path / "scene.yaml"), "--out", str(tmp_path / "scene")]) == 0
    return tmp_path / "scene"


@pytest.fixture
def log(truth: Path, tmp_path: Path) -> Path:
    """The folder of a run that follows the visible targets exactly from frame 6 on, and has a tentative track."""
    run = tmp_path / "run"
    run.mkdir()
    rows = [row for row in read_csv(truth / "truth.csv") if row["visible"] == "1"]
    sink = TracksJsonl(run / "tracks.jsonl", header())
    for frame in range(30):
        seen = [row for row in rows if int(row["frame"]) == frame and frame >= 6]
        x, y = ([float(row[key]) for row in seen] for key in ("x_px", "y_px"))
        sink.write(result(frame, tracks(x, y, velocity=(20, 5))))
        sink.write(result(frame, tracks([5.0], [40.0], [T], first_id=9)))
    sink.close()
    return run


def evaluate(truth: Path, results: Path, out: Path, *more: str) -> int:
    return main(["evaluate", "tracking", str(truth), str(results), "--out", str(out), *more])


def scores(out: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((out / "tracking.json").read_text())
    return found


def test_a_long_log_is_read_without_keeping_its_text_and_records(tmp_path: Path) -> None:
    sink = TracksJsonl(tmp_path / "tracks.jsonl", header())
    for frame in range(1000):
        sink.write(result(frame, tracks(np.arange(10.0).tolist(), np.arange(10.0).tolist())))
    sink.close()
    rows = (f"{frame},{id_},10,10,1,1,1\n" for frame in range(1, 1001) for id_ in range(1, 11))
    (tmp_path / "truth.txt").write_text("".join(rows))
    tracemalloc.start()
    try:
        sequence = read_sequence(tmp_path / "truth.txt", tmp_path / "tracks.jsonl")
        _, most = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert len(sequence.tracks.id) == len(sequence.truth.id) == 10_000
    size = sum((tmp_path / name).stat().st_size for name in ("tracks.jsonl", "truth.txt"))
    assert most < 3 * size, f"{most / size:.1f} times as much"


def test_a_log_in_parts_scores_as_a_whole_one(truth: Path, log: Path, tmp_path: Path) -> None:
    head, *lines = (log / "tracks.jsonl").read_text().splitlines(keepends=True)
    parts = tmp_path / "parts"
    parts.mkdir()
    (parts / "tracks-000001.jsonl").write_text("".join([head, *lines[:20]]))
    (parts / "tracks-000002.jsonl").write_text("".join([head, *lines[20:30]]))
    (parts / "tracks.jsonl").write_text("".join([head, *lines[30:]]))
    found = []
    for results in (log, parts):
        assert evaluate(truth, results, tmp_path / f"scores-{results.name}") == 0
        found.append(scores(tmp_path / f"scores-{results.name}") | {"tracks_log": None})
    assert found[0] == found[1]


def test_a_run_is_scored_against_a_simulated_sequence(
    truth: Path, log: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    assert evaluate(truth, log, out) == 0
    assert {path.name for path in out.iterdir()} == FILES
    s = scores(out)
    assert [s[key] for key in ("frames", "frame_rate", "targets", "tracks", "false_tracks")] == [30, 30, 2, 2, 0]
    assert s["initiation_delay_s"] == pytest.approx(6 / 30)
    visible = sum(row["visible"] == "1" for row in read_csv(truth / "truth.csv"))
    assert visible < 2 * 30
    assert s["mota"] == pytest.approx(1 - 2 * 6 / visible)
    assert s["position_rmse_px"] < 0.002
    assert s["velocity_rmse_px_s"] < 0.02
    picture = cv2.imread(str(out / "tracking.png"))
    assert picture is not None
    assert np.ptp(picture) == 255
    printed = capsys.readouterr().out
    assert f"MOTA %                        {100 * s['mota']:.2f}" in printed
    assert f"GOSPA px                      {s['gospa_px']:.3f}" in printed
    assert f"results  {out}: tracking.json tracking.png" in printed
    assert "BURST" not in printed


def test_files_do_for_folders(truth: Path, log: Path, tmp_path: Path) -> None:
    assert evaluate(truth, log, tmp_path / "one") == 0
    assert evaluate(truth / "truth.mot.txt", log / "tracks.jsonl", tmp_path / "other") == 0
    assert scores(tmp_path / "one") == scores(tmp_path / "other")


def test_tracks_of_another_tracker_score_alike(
    truth: Path, log: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = [
        f"{r['frame'] + 1},{r['id']},{r['x'] - 1},{r['y'] - 1},2,2,0,-1,-1,-1\n"
        for r in read_jsonl(log / "tracks.jsonl")
        if r.get("status", "tentative") != "tentative"
    ]
    mot = tmp_path / "theirs.txt"
    mot.write_text("".join(rows))
    assert evaluate(truth, log, tmp_path / "own") == evaluate(truth, mot, tmp_path / "other") == 0
    own, other = scores(tmp_path / "own"), scores(tmp_path / "other")
    for name in set(own) - {"tracks_log"}:
        known = not name.startswith(("nees", "nis", "velocity"))
        assert other[name] == (pytest.approx(own[name]) if known else None), name
    alone = tmp_path / "alone.txt"
    alone.write_bytes((truth / "truth.mot.txt").read_bytes())
    assert "does not say how many frames a second there are; give it with --rate" in refusal(
        alone, mot, tmp_path, capsys
    )
    assert evaluate(alone, mot, tmp_path / "told", "--rate", "30") == 0
    assert scores(tmp_path / "told")["hota"] == other["hota"]


def test_a_rate_beside_a_known_one_must_be_that(
    truth: Path, log: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert evaluate(truth, log, tmp_path / "own") == 0
    known = read_jsonl(log / "tracks.jsonl")[0]["frame_rate"]
    assert evaluate(truth, log, tmp_path / "other", "--rate", f"{1.001 * known}") == 0
    assert scores(tmp_path / "own") == scores(tmp_path / "other")
    assert evaluate(truth, log, tmp_path / "third", "--rate", f"{2 * known}") == 2
    assert f"it is known to be {known:g} frames a second; leave it out" in capsys.readouterr().err


def test_rows_that_are_not_to_be_considered_are_not(truth: Path, log: Path, tmp_path: Path) -> None:
    lines = (truth / "truth.mot.txt").read_text().splitlines()
    mine = tmp_path / "gt.txt"
    mine.write_text("\n".join([*lines, "1,7,20,20,5,5,0,1,1", "2,7,20,20,5,5,0,1,1"]))
    assert evaluate(truth, log, tmp_path / "one") == 0
    assert evaluate(mine, log, tmp_path / "other") == 0
    assert scores(tmp_path / "other")["targets"] == 2
    assert scores(tmp_path / "other")["mota"] == scores(tmp_path / "one")["mota"]


def test_whole_numbers_may_be_written_as_numpys_savetxt_writes_them(truth: Path, log: Path, tmp_path: Path) -> None:
    mine = tmp_path / "gt.txt"
    np.savetxt(mine, np.loadtxt(truth / "truth.mot.txt", delimiter=","), delimiter=",")
    assert evaluate(truth, log, tmp_path / "one") == 0
    assert evaluate(mine, log, tmp_path / "other") == 0
    assert scores(tmp_path / "other")["mota"] == scores(tmp_path / "one")["mota"]


def perfect_run(scene: str, folder: Path) -> dict[str, Any]:
    """The scores of a run that follows all targets of a scene exactly, those that are hidden as well."""
    folder.mkdir()
    (folder / "scene.yaml").write_text(scene)
    assert main(["simulate", str(folder / "scene.yaml"), "--out", str(folder / "scene")]) == 0
    sink = TracksJsonl(folder / "tracks.jsonl", header())
    for row in read_csv(folder / "scene" / "truth.csv"):
        x, y, vx, vy = (float(row[key]) for key in ("x_px", "y_px", "vx_px_s", "vy_px_s"))
        sink.write(result(int(row["frame"]), tracks([x], [y], velocity=(vx, vy))))
    sink.close()
    assert evaluate(folder / "scene", folder / "tracks.jsonl", folder / "out") == 0
    return scores(folder / "out")


def test_velocities_are_judged_against_the_scene_that_a_moving_camera_sees(tmp_path: Path) -> None:
    camera = "{pan_px_s: [40, -10], jitter_px: 2, roll_deg_s: 5}"
    target = "{x_px: 20, y_px: 20, vx_px_s: 40, vy_px_s: 5, snr: 10}"
    s = perfect_run(
        f"{{width_px: 64, height_px: 48, frames: 25, camera: {camera}, targets: [{target}]}}", tmp_path / "a"
    )
    assert (s["mota"], s["position_rmse_px"], s["velocity_rmse_px_s"]) == pytest.approx((1, 0, 0), abs=0.01)


def test_a_track_that_follows_its_target_while_it_is_hidden_is_not_held_to_be_false(tmp_path: Path) -> None:
    dimming = "[{first_frame: 5, last_frame: 30, share: 0}]"
    target = f"{{x_px: 20, y_px: 20, vx_px_s: 10, vy_px_s: 5, snr: 10, dimming: {dimming}}}"
    s = perfect_run(f"{{width_px: 64, height_px: 48, frames: 31, targets: [{target}]}}", tmp_path / "a")
    assert s["frames"] == 31
    assert (s["mota"], s["hota"], s["idf1"], s["ospa2_px"], s["gospa_px"]) == pytest.approx((1, 1, 1, 0, 0), abs=1e-3)
    assert (s["false_tracks"], s["fragmentations"]) == (0, 0)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("", "truth.csv line 1: no column frame; name the columns there"),
        ("frame,id,vx_px_s\n0,1,2\n", "truth.csv line 1: no column vy_px_s; name the columns there"),
        ("frame,id,vx_px_s,vy_px_s\n0,1,2,3\n1,1,nan,3\n", "truth.csv line 3: vx_px_s is 'nan'; expected a number"),
    ],
)
def test_true_velocities_that_cannot_be_used_are_named(
    truth: Path, log: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], content: str, said: str
) -> None:
    (truth / "truth.csv").write_text(content)
    assert said in refusal(truth, log, tmp_path, capsys)


def test_a_run_without_tracks_is_scored(truth: Path, log: Path, tmp_path: Path) -> None:
    lines = (log / "tracks.jsonl").read_text().splitlines(keepends=True)
    (log / "tracks.jsonl").write_text("".join(line for line in lines if '"confirmed"' not in line))
    assert evaluate(truth, log, tmp_path / "out") == 0
    s = scores(tmp_path / "out")
    assert [s[key] for key in ("tracks", "mota", "hota", "idf1", "targets_missed")] == [0, 0, 0, 0, 2]
    assert [s[key] for key in ("position_rmse_px", "initiation_delay_s", "nees")] == [None, None, None]


def test_numbers_that_a_run_could_not_log_are_left_out(truth: Path, log: Path, tmp_path: Path) -> None:
    text = (log / "tracks.jsonl").read_text()
    (log / "tracks.jsonl").write_text(text.replace('"vx":20.0', '"vx":null').replace('"cov":[0.1235', '"cov":[null'))
    assert evaluate(truth, log, tmp_path / "out") == 0
    s = scores(tmp_path / "out")
    assert [s["velocity_rmse_px_s"], s["nees"]] == [None, None]
    assert s["position_rmse_px"] < 0.002


def test_results_are_not_replaced_unasked(
    truth: Path, log: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    out.mkdir()
    (out / "tracking.json").write_text("mine")
    assert evaluate(truth, log, out) == 2
    assert "not empty; add --overwrite" in capsys.readouterr().err
    assert (out / "tracking.json").read_text() == "mine"
    assert evaluate(truth, log, out, "--overwrite") == 0
    assert scores(out)["targets"] == 2


def test_without_out_the_folder_is_named_after_what_was_compared(
    truth: Path, log: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["evaluate", "tracking", truth.name, log.name]) == 0
    assert {path.name for path in (tmp_path / "runs" / "evaluate-scene-run").iterdir()} == FILES


def refusal(truth: Path, log: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> str:
    """The one line that the command says before it writes anything."""
    assert evaluate(truth, log, tmp_path / "out") == 2
    assert not (tmp_path / "out").exists()
    (line,) = (line for line in capsys.readouterr().err.splitlines() if "frame/s" not in line)  # of `simulate`
    assert line.startswith("irst: error: ")
    return line


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"1,1,5,5,2,2\n2,1,5,x,2,2\n", "truth.mot.txt line 2: key `top`: expected a valid number"),
        (b"1,1,5,5,nan,2\n", "truth.mot.txt line 1: key `width`: expected a finite number, found 'nan'"),
        (
            b"frame,x,y,w,h\n1,5,5,2,2\n",
            "truth.mot.txt line 1: has names where numbers are due; give frame,id,left,top,width,height (frame from 1) "
            "in this order, without a header",
        ),
        (b"1 1 5 5 2 2\n", "truth.mot.txt line 1: one column; separate them by commas"),
        (b"1,1,5,5\n", "truth.mot.txt line 1: key `width` is missing"),
        (b"1,1,5,5" + b" " * 200_000, "truth.mot.txt line 1: key `width` is missing"),
        (b"0,1,5,5,2,2\n", "line 1: key `frame`: expected a frame from 1 (where they count from 0, add 1 to each)"),
        (b"1.5,1,5,5,2,2\n", "truth.mot.txt line 1: key `frame`: expected a valid integer"),
        (b"99999999999,1,5,5,2,2\n", "truth.mot.txt line 1: key `frame`"),
        (b"1,1,5,5,2,2\n1,1,6,5,2,2\n", "truth.mot.txt line 2: target 1 is in frame 1 twice; strike one out"),
        (b"1,1,5,5,2,2\n1,1,6,5,2,2,0\n", "truth.mot.txt line 2: target 1 is in frame 1 twice; strike one out"),
        (b"1,1,5,5,-2,2\n", "truth.mot.txt line 1: key `width`: expected greater than or equal to 0, found '-2'"),
        (b"1,1,5,5,2,2,nan\n", "truth.mot.txt line 1: key `considered`"),
        (b"900,1,5,5,2,2\n", "never in the same one; give the truth of the sequence that was run"),
        (b"\xff\xfe", "truth.mot.txt: not text in UTF-8; save it so, if it is the file that was meant"),
        (None, "truth.mot.txt: no such file; give a folder that irst simulate wrote"),
    ],
)
def test_ground_truth_that_cannot_be_used_is_named(
    truth: Path, log: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], content: bytes | None, said: str
) -> None:
    (truth / "truth.mot.txt").unlink()
    if content is not None:
        (truth / "truth.mot.txt").write_bytes(content)
    assert said in refusal(truth, log, tmp_path, capsys)


def test_of_the_simulators_table_the_file_to_give_is_named(
    truth: Path, log: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    mend = f"truth.csv line 1: has names where numbers are due; give {truth / 'truth.mot.txt'}, or the folder"
    assert mend in refusal(truth / "truth.csv", log, tmp_path, capsys)
    (truth / "truth.mot.txt").unlink()
    assert "give frame,id,left,top,width,height" in refusal(truth / "truth.csv", log, tmp_path, capsys)


@pytest.mark.parametrize("content", [b"", b"1,1,5,5,2,2,0\n"], ids=["empty", "hidden"])
def test_without_a_target_only_a_sequence_of_known_length_is_scored(
    truth: Path, log: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], content: bytes
) -> None:
    """Both tracks, over the scene's second, are false then."""
    (truth / "truth.mot.txt").write_bytes(content)
    assert evaluate(truth, log, tmp_path / "known") == 0
    printed = capsys.readouterr().out
    assert "nan" not in printed
    assert re.search(r"^NEES \(2 is right\) +unknown$", printed, re.MULTILINE)
    s = scores(tmp_path / "known")
    assert [s[key] for key in ("frames", "targets", "false_tracks", "false_tracks_per_hour")] == [30, 0, 2, 7200]
    assert [s[key] for key in ("hota", "mota", "idf1", "position_rmse_px")] == [None] * 4
    (truth / "scene.yaml").unlink()
    assert "truth.mot.txt: names no target; there is nothing to score against" in refusal(truth, log, tmp_path, capsys)


def test_the_sequence_ends_with_the_scene_or_with_the_run(truth: Path, log: Path, tmp_path: Path) -> None:
    """Not with the last target: what is false is counted by the hour."""
    (truth / "truth.mot.txt").write_text("\ufeff7,1,13,10,2,2\n")  # as some editors write it
    file = log / "tracks.jsonl"
    lines = file.read_text().splitlines(keepends=True)
    file.write_text("".join(line for line in lines if '"track"' not in line or '"frame":6,' in line))
    assert evaluate(truth, log, tmp_path / "scene's") == 0
    (log / "run.json").write_text('{"frames_read": 40, "frames_failed": 5}')
    assert evaluate(truth, log, tmp_path / "run's") == 0
    found = [scores(tmp_path / out) for out in ("scene's", "run's")]
    assert [s["frames"] for s in found] == [30, 45]
    assert found[0]["false_tracks_per_hour"] == 1.5 * found[1]["false_tracks_per_hour"] > 0


@pytest.mark.parametrize(
    ("report", "told"),
    [
        ('{"outcome": "complete", "frames_read": 28, "frames_failed": 2}', ""),
        ('{"outcome": "complete", "frames_read": 45}', "a run of 45 frames, but the scene has 30"),
        ('{"outcome": "failed: no space left", "frames_read": 9}', "not a complete run (failed: no space left)"),
    ],
)
def test_a_run_of_other_frames_than_the_scene_is_told(
    report: str, told: str, truth: Path, log: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (log / "run.json").write_text(report)
    assert evaluate(truth, log, tmp_path / "scores") == 0
    assert told in caplog.text
    assert bool(told) == bool(caplog.text)


def labels(truth: Path) -> Floats:
    """The targets of a simulated sequence that are to be considered: frame from 1, id, left, top, width, height."""
    rows = np.loadtxt(truth / "truth.mot.txt", delimiter=",")
    return rows[rows[:, 6] == 1, :6]


@pytest.mark.parametrize(
    ("shift", "noise", "told"),
    [
        ((1, 1), 0.1, "(x, y) off its targets on average; boxes in MOTChallenge form may count pixels from 1"),
        ((0.5, 0.5), 0.05, "or from a pixel's corner and not its centre"),
        ((1, 1), 1.0, ""),
        ((1, 0), 0.1, ""),
        ((0.2, 0.2), 0.01, ""),
    ],
)
def test_a_truth_that_counts_pixels_another_way_is_told(
    shift: tuple[float, float],
    noise: float,
    told: str,
    truth: Path,
    log: Path,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    capsys: pytest.CaptureFixture[str],
) -> None:
    rows = labels(truth)
    rows[:, 2:4] += shift + np.random.default_rng(1).normal(0, noise, (len(rows), 2))
    np.savetxt(tmp_path / "gt.txt", rows, delimiter=",")
    assert evaluate(tmp_path / "gt.txt", log, tmp_path / "out") == 0
    s = scores(tmp_path / "out")
    x, y = s["position_bias_x_px"], s["position_bias_y_px"]
    assert (x, y) == pytest.approx((-shift[0], -shift[1]), abs=noise)
    assert f"position bias x, y px         {x:+.3f}, {y:+.3f}" in capsys.readouterr().out
    assert told in caplog.text
    assert (f"gt.txt: tracks lie {x:+.2f}, {y:+.2f} px" in caplog.text) == bool(told) == bool(caplog.text)


@pytest.mark.parametrize(
    ("last", "told"),
    [
        (12, "gt.txt: labels end with frame 12 of 30; tracks after it count as false"),
        (28, ""),
        (30, ""),
        (32, ""),
        (60, "tracks.jsonl: ends with frame 30 of 60 labelled; targets after it count as missed"),
    ],
)
def test_labels_and_a_run_of_other_frames_are_told(
    last: int, told: str, truth: Path, log: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    rows = labels(truth)
    (target,) = (row for row in rows if tuple(row[:2]) == (30, 1))
    further = [[frame, *target[1:]] for frame in range(31, last + 1)]
    np.savetxt(tmp_path / "gt.txt", [*rows[rows[:, 0] <= last], *further], delimiter=",")
    assert evaluate(tmp_path / "gt.txt", log, tmp_path / "out") == 0
    assert told in caplog.text
    assert len(caplog.records) == bool(told)


def test_frames_at_the_end_without_labels_and_without_tracks_are_nothing_to_tell(
    truth: Path, log: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """As after the targets have left."""
    np.savetxt(tmp_path / "gt.txt", labels(truth), delimiter=",")
    (log / "run.json").write_text('{"frames_read": 90}')
    assert evaluate(tmp_path / "gt.txt", log, tmp_path / "out") == 0
    assert scores(tmp_path / "out")["frames"] == 90
    assert not caplog.text


def test_a_run_at_another_rate_than_the_scene_is_told(
    truth: Path, log: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """As of frames that were given as images, without their rate."""
    file = log / "tracks.jsonl"
    file.write_text(file.read_text().replace('"frame_rate":30.0', '"frame_rate":29.97'))
    assert evaluate(truth, log, tmp_path / "near") == 0
    assert not caplog.text
    file.write_text(file.read_text().replace('"frame_rate":29.97', '"frame_rate":60.0'))
    assert evaluate(truth, log, tmp_path / "other") == 0
    assert "a run at 60 frames/s, but the scene has 30; times and velocities are not the scene's" in caplog.text


def test_nothing_is_known_of_a_run_whose_report_is_damaged(truth: Path, log: Path, tmp_path: Path) -> None:
    (log / "run.json").write_text(100_000 * "[")
    assert evaluate(truth, log, tmp_path / "scores") == 0


def test_frames_without_anything_take_no_time(truth: Path, log: Path, tmp_path: Path) -> None:
    """As after a slip in a frame's number, by which the sequence has millions of them."""
    with (truth / "truth.mot.txt").open("a") as file:
        file.write("5000000,1,5,5,2,2\n")
    assert evaluate(truth, log, tmp_path / "out") == 0
    assert scores(tmp_path / "out")["frames"] == 5_000_000


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ('"schema":"irst.tracks/1"', '"schema":"other/3"', "does not begin with a header of schema irst.tracks/1"),
        ('"frame_rate":30.0', '"frame_rate":0', "line 1: key `frame_rate`: expected greater than 0, found 0"),
        ('"x":14.0', '"x":"left"', "key `x`: expected a valid number"),
        ('"x":14.0', '"x":null', "key `x`: expected a valid number, found None"),
        ('"status":"confirmed",', "", "key `status` is missing"),
        ('"nis":1.5}', '"nis":', "not a JSON record; give the tracks.jsonl of a run, or strike the line out"),
        ('"id":2', '"id":1', "track 1 is in frame 6 twice; strike one out"),
        ('"nis":1.5}', '"nis":' + 100_000 * "[", "not a JSON record"),
    ],
)
def test_a_log_that_cannot_be_used_is_named(
    truth: Path, log: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], old: str, new: str, said: str
) -> None:
    file = log / "tracks.jsonl"
    assert old in file.read_text()
    file.write_text(file.read_text().replace(old, new))
    line = refusal(truth, log, tmp_path, capsys)
    assert str(file) in line
    assert said in line


def test_a_log_is_read_to_its_last_whole_line(truth: Path, log: Path, tmp_path: Path) -> None:
    """As a run that was killed leaves it; of a source whose name holds what elsewhere ends a line."""
    file = log / "tracks.jsonl"
    text = file.read_text().replace('"schema"', '"source":"a\u2028b","schema"', 1)
    file.write_text(text)
    assert evaluate(truth, log, tmp_path / "whole") == 0
    file.write_text(text[: text.rindex("\n", 0, -1) + 9])
    assert evaluate(truth, log, tmp_path / "cut") == 0
    assert scores(tmp_path / "cut")["frames"] <= scores(tmp_path / "whole")["frames"]


def test_a_last_line_without_an_end_counts(truth: Path, log: Path, tmp_path: Path) -> None:
    """As editors leave it."""
    file = log / "tracks.jsonl"
    lines = [line for line in file.read_text().splitlines() if "tentative" not in line]
    for out, end in (("ended", "\n"), ("open", "")):
        file.write_text("\n".join(lines) + end)
        assert evaluate(truth, log, tmp_path / out) == 0
    assert scores(tmp_path / "open") == scores(tmp_path / "ended")


@pytest.mark.parametrize("content", [None, ""])
def test_a_folder_without_a_log_is_named(
    truth: Path, log: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], content: str | None
) -> None:
    (log / "tracks.jsonl").unlink()
    if content is not None:
        (log / "tracks.jsonl").write_text(content)
    assert f"{log / 'tracks.jsonl'}: " in refusal(truth, log, tmp_path, capsys)


def test_a_missing_library_is_named(
    truth: Path, log: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in ("trackeval", "trackeval.metrics"):
        monkeypatch.setitem(sys.modules, module, None)
    assert "pip install --no-deps trackeval==1.3.0" in refusal(truth, log, tmp_path, capsys)
