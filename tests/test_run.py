"""`irst run` as its users meet it: real processes, files and signals."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from contextlib import closing, suppress
from itertools import islice
from pathlib import Path
from threading import Event
from typing import Any

import av
import cv2
import numpy as np
import pytest
from numpy.typing import NDArray
from safetensors.numpy import save_file

from irst_pipeline.cli import main
from irst_pipeline.config import RunSettings, VideoSettings
from irst_pipeline.engine import load_model, open_engine
from irst_pipeline.run import Run, carry_out, run_header
from irst_pipeline.runs import result_folders, run_recordings
from irst_pipeline.sources import open_source
from irst_pipeline.statistics import RunStatistics
from tests.running import (
    CLOUDS,
    HORIZON,
    ROOT,
    read_csv,
    read_jsonl,
    report,
    shown,
    start,
    wait_for,
    write_images,
    write_video,
)

EAGER = "tracker.false_tracks_per_hour=100"
FILES = {"annotated.mp4", "detections.csv", "mot.txt", "run.json", "tracks.csv", "tracks.jsonl"}


def irst(*arguments: object) -> tuple[int, str, str]:
    process = start(*arguments)
    out, error = process.communicate(timeout=120)
    return process.returncode, out, error


def refused(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, str]:
    """Exit code of the command in this process, and what it says on standard error."""
    code = main([*map(str, arguments)])
    return code, capsys.readouterr().err


def log(out: Path) -> list[dict[str, Any]]:
    return read_jsonl(out / "tracks.jsonl")


@pytest.mark.parametrize(
    ("sources", "name"),
    [
        (["-", "stdin://?format=gray&size=64x48"], "-"),
        (["fifo:///tmp/f?format=gray&size=64x48&fps=25", "fifo:///tmp/f"], "fifo:///tmp/f"),
        (["v4l2:///dev/video0", "v4l2:///dev/video0?fps=9"], "v4l2:///dev/video0"),
    ],
)
def test_what_gives_each_frame_once_is_one_source(
    sources: list[str], name: str, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    code, error = refused(capsys, "run", *sources, "--out", tmp_path)
    assert code == 2
    assert error.splitlines() == [f"irst: error: {name}: gives each of its frames once; name it once"]


@pytest.fixture(scope="module")
def clouds(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Results of one whole run."""
    out = tmp_path_factory.mktemp("run") / "clouds"
    assert main(["run", str(CLOUDS), "--out", str(out), "--device", "cpu", "--set", EAGER]) == 0
    return out


def test_all_files_are_written(clouds: Path) -> None:
    assert {path.name for path in clouds.iterdir()} == FILES


def test_the_header_tells_what_ran(clouds: Path) -> None:
    header = log(clouds)[0]
    assert (header["record"], header["schema"]) == ("header", "irst.tracks/1")
    assert header["model"] == "lsnet-nano"
    assert len(header["weights_sha256"]) == 64
    assert header["config"]["tracker"]["false_tracks_per_hour"] == 100


def test_the_logs_agree(clouds: Path) -> None:
    tracks = [r for r in log(clouds) if r["record"] == "track" and r["status"] != "tentative"]
    events = [r for r in log(clouds) if r["record"] == "event"]
    table = read_csv(clouds / "tracks.csv")
    mot = [line.split(",") for line in (clouds / "mot.txt").read_text().splitlines()]
    assert len(tracks) == len(table) == len(mot) > 100
    for record, row, line in zip(tracks, table, mot, strict=True):
        assert record["id"] == int(row["id"]) == int(line[1])
        assert record["frame"] == int(row["frame"]) == int(line[0]) - 1
        assert record["x"] == pytest.approx(float(row["x_px"]), abs=2e-3)
        assert record["x"] == pytest.approx(float(line[2]) + float(line[4]) / 2, abs=2e-2)
    assert report(clouds)["tracks_confirmed"] == sum(e["event"] == "confirmed" for e in events)


def test_the_report_counts(clouds: Path) -> None:
    found = report(clouds)
    assert found["outcome"] == "complete"
    assert (found["frames_read"], found["frames_processed"], found["frames_failed"]) == (90, 90, 0)
    assert (found["frames_dropped"], set(found["dropped"].values())) == (0, {0})
    assert found["frames_per_second"] > 0
    stages = found["latency_ms"]
    assert stages.keys() == {"glass_to_track", "read", "network", "detect", "stabilise", "track", "write"}
    assert all(0 < s["p50"] <= s["p95"] <= s["p99"] for s in stages.values())
    assert stages["glass_to_track"]["p50"] >= stages["network"]["p50"]


def test_the_video_shows_every_frame(clouds: Path) -> None:
    with av.open(str(clouds / "annotated.mp4")) as container:
        stream = container.streams.video[0]
        assert (stream.codec_context.name, stream.codec_context.pix_fmt) == ("h264", "yuv420p")
        assert sum(1 for _ in container.decode(stream)) == 90


def test_results_are_not_overwritten_unasked(capsys: pytest.CaptureFixture[str], clouds: Path) -> None:
    before = (clouds / "tracks.jsonl").read_bytes()
    code, error = refused(capsys, "run", CLOUDS, "--out", clouds)
    assert code == 2
    assert "--overwrite" in error
    assert (clouds / "tracks.jsonl").read_bytes() == before


def test_a_glob_of_images_that_the_shell_took_apart_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    images = [tmp_path / f"{number}.png" for number in range(3)]
    for image in images:
        cv2.imwrite(str(image), np.full((20, 30), 90, np.uint8))
    code, error = refused(capsys, "run", *images, "--out", tmp_path / "out")
    assert (code, "3 images, each a run of its own; give their folder, or put the glob in quotes" in error) == (2, True)
    assert not (tmp_path / "out").exists()


def test_a_frame_with_more_than_the_most_detections_is_told_once(tmp_path: Path) -> None:
    images = tmp_path / "images"
    images.mkdir()
    for i in range(4):
        image = np.random.default_rng(i).integers(90, 94, (64, 80)).astype(np.uint8)
        image[20 : 20 + 2 * (i > 0), 20:22] = image[40:42, 50:52] = (
            200  # the first frame has one target, the others two
        )
        cv2.imwrite(str(images / f"{i}.png"), image)
    flags = ["--no-video", "--device", "cpu", "--set", "detection.weak_threshold=null"]
    for most, told in ((1, 1), (2, 0)):
        run = ["run", images, *flags, "--set", f"detection.max_detections={most}", "--out", tmp_path / f"{most}"]
        code, _, error = irst(*run)
        said = "frame 1 has 2 detections; only the strongest 1 are taken (detection.max_detections)"
        assert (code, error.count(said), error.count("max_detections")) == (0, told, told)


def test_a_run_can_be_repeated_with_the_same_tracks(clouds: Path, tmp_path: Path) -> None:
    out = tmp_path / "again"
    for source in (write_video(tmp_path / "short.mp4", 5), CLOUDS):  # the second run replaces the first
        arguments = ["run", str(source), "--out", str(out), "--no-video", "--overwrite", "--device", "cpu"]
        assert main([*arguments, "--set", EAGER]) == 0
    assert (out / "mot.txt").read_bytes() == (clouds / "mot.txt").read_bytes()
    assert {path.name for path in out.iterdir()} == FILES - {"annotated.mp4"}


def test_smoothed_tracks_are_written_at_the_end_and_are_better(tmp_path: Path) -> None:
    out = tmp_path / "out"
    assert main(["run", str(HORIZON), "--no-video", "--smooth", "--device", "cpu", "--out", str(out)]) == 0
    scores = {}
    for name in ("tracks", "smoothed"):
        arguments = ["evaluate", "tracking", str(HORIZON.parent), str(out / f"{name}.jsonl"), "--out"]
        assert main([*arguments, str(tmp_path / name)]) == 0
        scores[name] = json.loads((tmp_path / name / "tracking.json").read_text())
    for error in ("position_rmse_px", "velocity_rmse_px_s", "initiation_delay_s"):
        assert scores["smoothed"][error] < scores["tracks"][error]
    assert scores["smoothed"]["hota"] > scores["tracks"]["hota"]
    assert scores["smoothed"]["tracks"] <= scores["tracks"]["tracks"]


def horizon(frames: int) -> list[NDArray[Any]]:
    """The first frames of a sample."""
    with av.open(str(HORIZON)) as container:
        return [frame.to_ndarray(format="gray") for frame in islice(container.decode(video=0), frames)]


def test_targets_keep_their_ids_where_a_recording_was_cut_and_are_smoothed_on_either_side_of_it(tmp_path: Path) -> None:
    film, out = tmp_path / "film", tmp_path / "out"
    film.mkdir()
    for index, image in enumerate(horizon(120)):
        cv2.imwrite(str(film / f"{index:03}.png"), image if index < 60 else np.flipud(image))
    assert main(["run", str(film), "--no-video", "--smooth", "--device", "cpu", "--out", str(out)]) == 0
    jumped = [r for r in log(out) if r.get("event") == "jumped"]
    assert len(jumped) >= 3
    assert {r["frame"] // 10 for r in jumped} == {6}
    smoothed = read_jsonl(out / "smoothed.jsonl")
    places: list[dict[tuple[int, int], tuple[float, float]]] = [
        {(r["id"], r["frame"]): (r["x"], r["y"]) for r in records if r.get("status") == "confirmed"}
        for records in (log(out), smoothed)
    ]
    both = places[0].keys() & places[1].keys()
    times = [{r["frame"]: r["time"] for r in records if r.get("record") == "track"} for records in (log(out), smoothed)]
    assert all(times[0][frame] == time for frame, time in times[1].items() if frame in times[0])
    assert {(r["id"], frame) for r in jumped for frame in (59, 119)} <= both
    away = np.array([np.subtract(places[0][key], places[1][key]) for key in both])
    assert np.abs(away).max() < 5


def test_more_recordings_are_run_than_files_may_be_open_at_first(tmp_path: Path) -> None:
    """Each recording, its folder and its results are open."""
    clips = [write_video(tmp_path / f"{number}.mp4", 1) for number in range(16)]
    command = [sys.executable, "-m", "irst_pipeline.cli", "run", *map(str, clips), "--out", str(tmp_path / "out")]
    limited = ["bash", "-c", 'ulimit -Sn 40; exec "$@"', "bash", *command, "--no-video"]
    done = subprocess.run(limited, cwd=ROOT, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    assert len(list((tmp_path / "out").glob("*/run.json"))) == 16


def test_several_recordings_run_at_once_each_as_if_alone(clouds: Path, tmp_path: Path) -> None:
    other = tmp_path / "horizon"
    other.mkdir()
    for index, image in enumerate(horizon(60)):
        cv2.imwrite(str(other / f"{index}.png"), image)
    common = ["--no-video", "--device", "cpu", "--set", EAGER, "--out"]
    assert main(["run", str(other), *common, str(tmp_path / "alone")]) == 0
    assert main(["run", str(CLOUDS), str(other), str(CLOUDS), *common, str(tmp_path / "all")]) == 0
    found = {path.name: path for path in (tmp_path / "all").iterdir()}
    assert found.keys() == {"sequence16", "horizon", "sequence16-2"}
    for name, alone in (("horizon", tmp_path / "alone"), ("sequence16", clouds), ("sequence16-2", clouds)):
        assert (found[name] / "mot.txt").read_bytes() == (alone / "mot.txt").read_bytes()
        assert report(found[name])["outcome"] == "complete"


def test_a_numbered_name_and_a_namesakes_have_folders_of_their_own() -> None:
    folders = [folder.name for folder in result_folders(["clip", "clip", "clip-2", "clip"], Path("out"))]
    assert folders == ["clip", "clip-2", "clip-2-2", "clip-3"]


def test_the_results_of_several_sources_do_not_mix_with_those_of_one(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    nights, out = [str(write_images(tmp_path / name, 3)) for name in "ab"], tmp_path / "out"
    options = ["--no-video", "--device", "cpu", "--out", str(out)]
    assert main(["run", nights[0], *options]) == 0
    for _ in ("complete", "killed"):
        before = {path: path.read_bytes() for path in out.iterdir()}
        for also in ([], ["--overwrite"], ["--resume"]):
            assert main(["run", *nights, *options, *also]) == 2
            assert f"{out}: holds the results of one source; choose another folder" in capsys.readouterr().err
        assert {path: path.read_bytes() for path in out.iterdir()} == before
        (out / "run.json").unlink(missing_ok=True)  # as a run that is killed leaves none


def test_a_folders_name_has_no_suffix(short: Path, tmp_path: Path) -> None:
    nights, out = [write_images(tmp_path / f"2026.05.0{day}", 3) for day in (1, 2)], tmp_path / "out"
    sources = [str(nights[0]), f"{nights[1]}/*.png", str(short)]
    assert main(["run", *sources, "--no-video", "--device", "cpu", "--out", str(out)]) == 0
    assert {folder.name for folder in out.iterdir()} == {"2026.05.01", "2026.05.02", short.stem}


def test_a_recording_may_have_a_name_that_is_not_utf8(tmp_path: Path) -> None:
    recording = write_video(Path(os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9.mp4")), 3)
    options = ["--no-video", "--smooth", "--device", "cpu"]
    command = [sys.executable, "-m", "irst_pipeline.cli", "run", str(recording), *options]
    strict = os.environ | {"PYTHONPATH": str(ROOT), "PYTHONIOENCODING": "utf-8:strict"}
    ran = subprocess.run(command, cwd=tmp_path, env=strict, capture_output=True, check=False)
    assert ran.returncode == 0, ran.stderr
    out = tmp_path / "runs" / "caf\ufffd"
    assert log(out)[0]["source"] == report(out)["source"] == "caf\ufffd.mp4"
    assert log(out)[0]["uri"].endswith("/caf?.mp4")


def test_a_recording_that_fails_does_not_stop_the_others(odd: Path, short: Path, tmp_path: Path) -> None:
    code, out, error = irst("run", odd / "tiny.png", short, "--no-video", "--out", tmp_path)
    assert code == 1
    assert "irst: error: tiny.png: 8x8 px" in error
    assert error.strip().splitlines()[-1] == "irst: error: 1 of 2 sources could not go on"
    assert "Traceback" not in error
    assert "complete: 20 frames" in out
    assert report(tmp_path / "tiny")["outcome"].startswith("failed: ")
    assert report(tmp_path / "short")["outcome"] == "complete"


def test_a_live_run_counts_what_it_drops(tmp_path: Path) -> None:
    assert main(["run", str(CLOUDS), "--realtime", "--out", str(tmp_path / "out")]) == 0
    found = report(tmp_path / "out")
    records = log(tmp_path / "out")
    processed = {r["frame"] for r in records if r["record"] == "track"}
    dropped = [r for r in records if r["record"] == "dropped"]
    assert found["frames_read"] == 90 == found["frames_processed"] + found["frames_dropped"]
    for cause, count in found["dropped"].items():
        assert count == sum(r["count"] for r in dropped if r["cause"] == cause)
    assert processed.isdisjoint(frame for r in dropped for frame in range(r["first"], r["last"] + 1))


def long_run(tmp_path: Path) -> tuple["subprocess.Popen[str]", Path]:
    """A run that would last for minutes and has begun to write its video, and its folder."""
    out = tmp_path / "out"
    process = start("run", write_images(tmp_path / "long", 20_000, (256, 320)), "--out", out)
    wait_for(out / "annotated.mp4", 10_000)
    return process, out


def ask_to_stop(process: "subprocess.Popen[str]", number: signal.Signals) -> None:
    """Wait until it says that it will."""
    process.send_signal(number)
    assert process.stderr is not None
    assert any("finishing" in line for line in iter(process.stderr.readline, ""))


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_the_run_in_order(number: signal.Signals, tmp_path: Path) -> None:
    process, out = long_run(tmp_path)
    process.send_signal(number)
    _, error = process.communicate(timeout=30)
    assert process.returncode == 0
    assert number.name in error
    assert report(out)["outcome"] == "interrupted"
    assert shown(out / "annotated.mp4") == report(out)["frames_read"] > 0


def test_a_signal_ends_a_run_whose_network_is_being_compiled(tmp_path: Path) -> None:
    out = tmp_path / "out"
    recording = write_images(tmp_path / "large", 20, (1024, 1280))
    process = start("run", recording, "--model", "lsnet-base", "--device", "cpu", "--out", out)
    wait_for(out / "tracks.jsonl", 0)  # compiling, which takes the better part of a minute, comes next
    time.sleep(1)
    process.send_signal(signal.SIGTERM)
    _, error = process.communicate(timeout=10)
    assert process.returncode == 0, error
    assert (report(out)["outcome"], report(out)["frames_processed"]) == ("interrupted", 0)


def test_a_stop_that_is_told_twice_ends_the_run_in_order(tmp_path: Path) -> None:
    """As `timeout` does, which signals its child and then its own group."""
    process, out = long_run(tmp_path)
    ask_to_stop(process, signal.SIGTERM)
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=30)
    assert process.returncode == 0
    assert report(out)["outcome"] == "interrupted"


def test_a_second_signal_of_either_kind_ends_the_process_at_once(tmp_path: Path) -> None:
    """Here one that cannot come to an end, for nobody reads what it says of the first one."""
    process, out = long_run(tmp_path)
    assert process.stderr is not None
    said = os.open(f"/proc/{process.pid}/fd/2", os.O_WRONLY | os.O_NONBLOCK)
    with suppress(BlockingIOError):
        while True:
            os.write(said, b"\n")
    os.close(said)
    process.send_signal(signal.SIGINT)
    wait_for(out / "run.json", 0)
    time.sleep(1.1)  # one sooner is the same stop
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=30)
    assert process.returncode == -signal.SIGTERM


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_that_also_ends_who_reads_what_is_said_ends_the_run_in_order(
    number: signal.Signals, tmp_path: Path
) -> None:
    """As Ctrl-C does under `2>&1 | tee log`."""
    process, out = long_run(tmp_path)
    assert process.stdout is not None
    assert process.stderr is not None
    process.stdout.close()
    process.stderr.close()
    process.send_signal(number)
    assert process.wait(30) == 0
    assert report(out)["outcome"] == "interrupted"
    assert shown(out / "annotated.mp4") == report(out)["frames_read"] > 0


@pytest.mark.parametrize("streams", ["| true", ">/dev/full", "2>&-", ">&- 2>&- <&-"])
def test_a_run_needs_nobody_who_reads_what_it_says(streams: str, short: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    command = f"set -o pipefail; {sys.executable} -m irst_pipeline.cli run {short} --no-video --out {out} {streams}"
    assert (
        subprocess.run(["bash", "-c", command], cwd=ROOT, capture_output=True, timeout=60, check=False).returncode == 0
    )
    assert report(out)["outcome"] == "complete"
    assert all(line.startswith("{") for line in (out / "tracks.jsonl").read_text().splitlines())


def test_a_program_that_is_interrupted_leaves_its_runs_in_order(tmp_path: Path) -> None:
    recording, out = str(write_images(tmp_path / "long", 20_000, (256, 320))), tmp_path / "out"
    program = f"""
import os, signal, threading
from pathlib import Path
from irst_pipeline.config import RunSettings
from irst_pipeline.runs import run_recordings

def interrupt():
    while not Path({str(out / "annotated.mp4")!r}).exists():
        stop.wait(0.1)
    stop.wait(1)
    os.kill(os.getpid(), signal.SIGINT)

stop = threading.Event()
threading.Thread(target=interrupt).start()
try:
    run_recordings([{recording!r}], RunSettings(), Path({str(out)!r}), False, False, stop)
except KeyboardInterrupt:
    print("interrupted", threading.active_count())
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=90, check=False)
    assert (done.returncode, done.stdout.split()[0]) == (0, "interrupted"), done.stderr
    assert report(out)["outcome"] == "interrupted"


def test_recordings_that_have_not_begun_when_a_run_is_stopped_leave_only_word_of_it(tmp_path: Path) -> None:
    stop = Event()
    stop.set()
    run_recordings([str(CLOUDS), str(HORIZON)], RunSettings(), tmp_path / "out", False, False, stop)
    folders = list((tmp_path / "out").iterdir())
    assert len(folders) == 2
    for folder in folders:
        assert [path.name for path in folder.iterdir()] == ["run.json"]
        assert report(folder)["outcome"] == "interrupted"


def test_a_recording_that_cannot_be_opened_does_not_stop_the_others(
    short: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    broken, out = tmp_path / "broken.mp4", tmp_path / "out"
    broken.write_bytes(short.read_bytes()[:1000])
    assert main(["run", str(broken), str(short), "--no-video", "--out", str(out)]) == 1
    assert [path.name for path in out.iterdir()] == [short.stem]
    assert report(out / short.stem)["outcome"] == "complete"
    assert capsys.readouterr().err.splitlines()[-1] == "irst: error: 1 of 2 sources could not go on"


def test_a_recording_without_a_frame_does_not_stop_the_others_that_a_camera_model_is_for(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    broken, good, camera = tmp_path / "broken.png", write_video(tmp_path / "good.mp4", 3), tmp_path / "camera.yaml"
    broken.write_bytes(b"no picture")
    camera.write_text("width_px: 80\nheight_px: 64\nhorizontal_fov_deg: 20\n")
    flags = ["--camera", str(camera), "--no-video", "--out", str(tmp_path / "out")]
    assert main(["run", str(broken), str(good), *flags]) == 1
    assert report(tmp_path / "out/broken")["outcome"].startswith("failed: ")
    assert report(tmp_path / "out/good")["outcome"] == "complete"
    assert main(["run", str(broken), str(good), *flags, "--overwrite"]) == 1
    assert report(tmp_path / "out/good")["outcome"] == "complete", "earlier results are kept"
    assert "broken.png: not one frame could be read" in capsys.readouterr().err.splitlines()[-1]


def test_of_several_failures_one_that_nobody_foresaw_is_raised(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bad = tmp_path / "bad"
    bad.mkdir()
    (bad / "0.png").write_bytes(b"none")

    def submit(*_: object) -> None:
        raise KeyError("a fault of ours")

    monkeypatch.setattr("irst_pipeline.engine.cpu.CpuEngine.submit", submit)
    with pytest.raises(RuntimeError, match="KeyError: 'a fault of ours'") as failed:
        run_recordings([str(bad), str(HORIZON)], RunSettings(), tmp_path / "out", False, False, Event())
    assert any("in submit" in note for note in failed.value.__notes__), "where it happened is told"


def handles(pid: int, number: signal.Signals) -> bool:
    """Whether a process has a handler of its own for a signal."""
    caught = re.search(r"SigCgt:\s*(\w+)", Path(f"/proc/{pid}/status").read_text())
    return bool(caught and int(caught[1], 16) >> (number - 1) & 1)


def test_a_signal_during_the_start_ends_the_run_in_order(tmp_path: Path) -> None:
    process = start("run", HORIZON, "--out", tmp_path / "out")
    deadline = time.monotonic() + 30
    while not handles(process.pid, signal.SIGTERM):  # from then on PyTorch is being imported
        assert time.monotonic() < deadline
        time.sleep(0.01)
    process.send_signal(signal.SIGTERM)
    _, error = process.communicate(timeout=60)
    assert process.returncode == 0, error
    assert "SIGTERM" in error


def test_the_recording_itself_is_never_replaced(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    recording = write_video(tmp_path / "annotated.mp4", 3)
    before = recording.read_bytes()
    code, error = refused(capsys, "run", recording, "--out", tmp_path, "--overwrite")
    assert code == 2
    assert "would be replaced by the results" in error
    assert recording.read_bytes() == before


@pytest.mark.parametrize("realtime", [False, True])
def test_a_camera_of_another_size_costs_no_earlier_results_and_leaves_none(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, realtime: bool
) -> None:
    recording, out, camera = write_video(tmp_path / "a.mp4", 3), tmp_path / "out", tmp_path / "camera.yaml"
    camera.write_text("width_px: 640\nheight_px: 512\nhorizontal_fov_deg: 20\n")
    flags = ["--out", out, "--camera", camera, *(["--realtime"] if realtime else [])]
    code, error = refused(capsys, "run", recording, *flags)
    assert code == 2
    assert "but the camera model is for 640x512 px" in error
    assert not out.exists()
    out.mkdir()
    (out / "tracks.jsonl").write_text("of an earlier run\n")
    assert refused(capsys, "run", recording, *flags, "--overwrite") == (code, error)
    assert {path.name: path.read_text() for path in out.iterdir()} == {"tracks.jsonl": "of an earlier run\n"}


def test_nothing_of_an_earlier_run_is_left(tmp_path: Path) -> None:
    out, images = tmp_path / "out", tmp_path / "wide"
    images.mkdir()
    for i in range(3):  # as low and wide as frames may be
        cv2.imwrite(str(images / f"{i}.png"), np.random.default_rng(i).integers(0, 99, (16, 640)).astype(np.uint8))
    (out / "mine").mkdir(parents=True)
    again = ["run", str(images), "--out", str(out), "--overwrite"]
    assert main(again) == 0
    assert {path.name for path in out.iterdir()} == FILES | {"mine"}
    assert main([*again, "--no-video"]) == 0
    assert {path.name for path in out.iterdir()} == (FILES | {"mine"}) - {"annotated.mp4"}


def test_a_run_whose_logs_are_being_removed_is_no_complete_one(tmp_path: Path) -> None:
    """As where a process is killed as it does so; here a folder is in its way."""
    images, out = write_images(tmp_path / "images", 3), tmp_path / "out"
    command = ["run", str(images), "--device", "cpu", "--no-video", "--out", str(out)]
    assert main(command) == 0
    (out / "annotated.mp4").mkdir()
    assert main([*command, "--overwrite"]) == 1
    assert not (out / "tracks.jsonl").exists()
    (out / "annotated.mp4").rmdir()
    assert main([*command, "--resume"]) == 0
    assert log(out)[0]["record"] == "header"


def test_a_killed_run_leaves_a_readable_log(tmp_path: Path) -> None:
    out = tmp_path / "out"
    process = start("run", HORIZON, "--out", out)
    wait_for(out / "tracks.jsonl", 20_000)
    process.kill()
    process.communicate()
    records = log(out)
    assert records[0]["record"] == "header"
    assert max(r["frame"] for r in records[1:]) > 5


def test_a_full_disk_is_one_line_and_costs_no_log(small_disk: Path) -> None:
    code, _, error = irst("run", HORIZON, "--out", small_disk / "out")
    assert code == 1
    assert "No space left on device" in error
    assert "Traceback" not in error
    assert log(small_disk / "out")[0]["record"] == "header"


def test_frames_that_a_full_disk_takes_of_the_video_as_it_is_closed_are_in_the_report(small_disk: Path) -> None:
    recording, out = small_disk.parent / "noise.mp4", small_disk / "out"
    write_video(recording, 5)
    settings, weights = RunSettings(device="cpu", sinks=("video",)), load_model("lsnet-nano")
    settings = settings.model_copy(update={"video": VideoSettings(min_height=64, min_free_megabytes=1e-3)})
    engine = open_engine(weights.network, "cpu", settings.detection.lowest)
    statistics = RunStatistics()
    out.mkdir()
    with closing(open_source(str(recording))) as source:
        run = Run(source, out, run_header(str(recording), source, weights, engine, settings))
        for number, _ in enumerate(carry_out(run, engine, Event(), statistics)):
            if number == 4:
                with pytest.raises(OSError, match="No space"):
                    (small_disk / "other").write_bytes(bytes(1_000_000))
    assert statistics.frames_not_written == {"video": 5}


@pytest.fixture(scope="module")
def short(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_video(tmp_path_factory.mktemp("short") / "short.mp4", 20)


@pytest.fixture(scope="module")
def odd(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of things that are no recordings."""
    folder = tmp_path_factory.mktemp("odd")
    (folder / "empty").mkdir()
    (folder / "notes.mp4").write_text("not a video")
    cv2.imwrite(str(folder / "tiny.png"), np.zeros((8, 8), np.uint8))
    save_file({"conv.weight": np.zeros(3, np.float32)}, folder / "resnet.safetensors")
    with av.open(str(folder / "sound.wav"), "w") as container:
        stream = container.add_stream("pcm_s16le", rate=8000)
        sound = av.AudioFrame.from_ndarray(np.zeros((1, 8000), np.int16), format="s16", layout="mono")
        sound.sample_rate = 8000
        container.mux(stream.encode(sound))
    return folder


BAD = {
    "missing file": ("/nowhere/x.mp4", 2, "/nowhere/x.mp4: no such file"),
    "folder without images": ("ODD/empty", 2, "no images"),
    "not a video": ("ODD/notes.mp4", 1, "notes.mp4"),
    "no video stream": ("ODD/sound.wav", 1, "sound.wav"),
    "frames too small": ("ODD/tiny.png", 1, "16x16"),
    "unknown device": ("CLIP --device tpu", 2, "device tpu: expected auto, cpu, cuda or cuda:N"),
    "cuda where there is none": ("CLIP --device cuda:7", 2, "device cuda:7"),
    "unknown model": ("CLIP --model lsnet-huge", 2, "lsnet-huge: no such model"),
    "other weights": ("CLIP --model ODD/resnet.safetensors", 2, "resnet.safetensors: not LSNet"),
    "unknown key": ("CLIP --set tracker.confirm=3", 2, "unknown key `tracker.confirm`"),
    "wrong type": ("CLIP --set tracker.start_score=x", 2, "key `tracker.start_score`"),
    "infinity": (
        "CLIP --set tracker.velocity_walk=.inf",
        2,
        "key `tracker.velocity_walk`: expected a finite number, found inf",
    ),
    "too long a name": (f"/tmp/{'x' * 300}.mp4", 1, "File name too long"),
    "no YAML": ("CLIP --set device=2020-13-45", 2, "--set device=2020-13-45: not valid YAML"),
    "missing config": ("CLIP --config ODD/c.yaml", 2, "c.yaml: cannot read it"),
    "unknown scheme": ("gopher://host/x", 2, "gopher://"),
    "unwritable folder": ("CLIP --out /proc/irst", 1, "/proc/irst: cannot write there"),
    "a file for a folder": ("CLIP --out ODD/tiny.png", 2, "tiny.png: is a file"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input_is_told_in_one_line(
    case: str, odd: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    line, code, expected = BAD[case]
    # An --out of the case's own comes later and wins.
    arguments = ["--out", str(tmp_path / "out"), *line.replace("CLIP", str(CLOUDS)).replace("ODD", str(odd)).split()]
    found, error = refused(capsys, "run", *arguments)
    assert found == code, error
    last = error.strip().splitlines()[-1]
    assert last.startswith("irst: error: ")
    assert expected in last
    assert "Traceback" not in error


def test_a_failure_is_told_while_the_other_source_goes_on(odd: Path, tmp_path: Path) -> None:
    os.mkfifo(silent := tmp_path / "silent.nut")
    command = [sys.executable, "-m", "irst_pipeline.cli", "run", f"fifo://{silent}", str(odd / "tiny.png")]
    with subprocess.Popen(
        [*command, "--no-video", "--out", str(tmp_path / "out")], cwd=ROOT, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stderr
        said = next(line for line in process.stderr if "error" in line)
        assert said.startswith("irst: error: tiny.png: 8x8 px")
        assert process.poll() is None
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == 1


def test_a_failure_is_in_the_report(odd: Path, tmp_path: Path) -> None:
    assert main(["run", str(odd / "tiny.png"), "--out", str(tmp_path / "out")]) == 1
    assert report(tmp_path / "out")["outcome"].startswith("failed: ")


def test_a_truncated_video_gives_what_it_has(tmp_path: Path) -> None:
    whole = write_video(tmp_path / "whole.mkv", 60)
    cut = tmp_path / "cut.mkv"
    cut.write_bytes(whole.read_bytes()[: whole.stat().st_size // 2])
    code, _, error = irst("run", cut, "--out", tmp_path / "out")
    assert code == 0, error
    assert 10 < report(tmp_path / "out")["frames_read"] < 60
    assert "missing" in error


def test_bad_images_are_counted_and_skipped(tmp_path: Path) -> None:
    images = tmp_path / "images"
    images.mkdir()
    rng = np.random.default_rng(0)
    for i in range(12):
        cv2.imwrite(str(images / f"{i}.tiff"), rng.normal(290, 1, (64, 80)).astype(np.float32))
    spoilt = rng.normal(290, 1, (64, 80)).astype(np.float32)
    spoilt[3] = np.nan
    cv2.imwrite(str(images / "5.tiff"), spoilt)
    cv2.imwrite(str(images / "7.tiff"), rng.normal(290, 1, (40, 40)).astype(np.float32))
    (images / "9.tiff").write_bytes(b"II*\0 nothing")
    code, _, error = irst("run", images, "--out", tmp_path / "out")
    assert code == 0, error
    assert report(tmp_path / "out")["frames_read"] == 9
    assert report(tmp_path / "out")["frames_failed"] == 3
    assert all(name in error for name in ("5.tiff", "9.tiff", "40x40"))


def test_help() -> None:
    for arguments in (["--help"], ["run", "--help"], ["train", "--help"], ["simulate", "--help"]):
        code, out, _ = irst(*arguments)
        assert code == 0
        assert "usage: irst" in out


def test_what_is_refused_for_one_of_several_sources_costs_the_others_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    clip, out = write_video(tmp_path / "clip.mp4", 1), tmp_path / "out"
    (out / "clip").mkdir(parents=True)
    (out / "clip" / "mot.txt").write_text("earlier results")
    (out / "recorded").mkdir()
    recording = write_video(out / "recorded" / "recorded.mp4", 1)
    code, error = refused(capsys, "run", clip, recording, "--out", out, "--overwrite", "--device", "cpu")
    assert (code, error.count("\n")) == (2, 1)
    assert f"{recording}: would be replaced by the results" in error
    assert (out / "clip" / "mot.txt").read_text() == "earlier results"
