"""A run that was killed or stopped goes on as if nothing had happened, or says why it cannot."""

import json
import shutil
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing
from itertools import islice
from pathlib import Path
from threading import Barrier, Event

import numpy as np
import pytest
from safetensors import safe_open
from safetensors.numpy import save

from irst_pipeline.calibration.calibrator import Calibrator
from irst_pipeline.checkpoint import CHECKPOINT_FILE, read_checkpoint
from irst_pipeline.cli import main
from irst_pipeline.config import CalibrationSettings, RunSettings, SinkName
from irst_pipeline.engine import load_model, open_engine
from irst_pipeline.errors import UsageError
from irst_pipeline.run import Run, carry_out, run_header
from irst_pipeline.runs import run_recordings, take_folders
from irst_pipeline.sources import Position, Source, checksum, open_source, resume_source
from irst_pipeline.statistics import RunStatistics
from irst_pipeline.worker import RunProcess
from tests.running import ROOT, read_jsonl, report, shown, start, wait_for, wait_until, write_images, write_video
from tests.sinks.sink_streams import header
from tests.sources.cameras import recorded, thermal
from tests.sources.servers import serving


def test_a_run_that_is_killed_at_random_moments_writes_the_logs_of_one_that_is_not(tmp_path: Path) -> None:
    """With parts, so that parts begun after the last checkpoint are taken back as well."""
    command = [sys.executable, "tools/soak_kill.py", "--kills", "2", "--frames", "100", "--out", str(tmp_path / "out")]
    changes = ["--set", "rotate.megabytes=0.1"]
    done = subprocess.run([*command, *changes], cwd=ROOT, capture_output=True, text=True, timeout=600, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "100 frames, killed 2 times" in done.stdout


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_video(tmp_path_factory.mktemp("clips") / "clip.mp4", 40)


def break_off(clip: Path, out: Path, *more: SinkName, calibration: CalibrationSettings | None = None) -> Path:
    """Results of a run that was left after 10 of 40 frames."""
    out.mkdir()
    calibration, sinks = calibration or CalibrationSettings(), (*RunSettings().sinks, *more)
    settings, weights = RunSettings(device="cpu", sinks=sinks, calibration=calibration), load_model("lsnet-nano")
    engine = open_engine(weights.network, "cpu", settings.detection.lowest)
    with closing(open_source(str(clip))) as source:
        header, calibrate = run_header(str(clip), source, weights, engine, settings), Calibrator(calibration, str(clip))
        run = Run(source, out, header, calibrate=calibrate)
        with closing(carry_out(run, engine, Event(), RunStatistics())) as results:
            assert len(list(islice(results, 10))) == 10
    return out


@pytest.fixture(scope="module")
def after_ten(clip: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return break_off(clip, tmp_path_factory.mktemp("runs") / "out")


@pytest.fixture
def broken_off(after_ten: Path, tmp_path: Path) -> Path:
    """A copy of what `break_off` leaves."""
    return shutil.copytree(after_ten, tmp_path / "out")


def resume(recording: Path, out: Path, *more: str) -> int:
    return main(["run", str(recording), "--out", str(out), "--device", "cpu", "--resume", *more])


def test_a_run_goes_on_to_its_end_and_is_then_complete(
    clip: Path, broken_off: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    checkpoint = read_checkpoint(broken_off)
    assert checkpoint is not None
    started = checkpoint.header["started"]
    assert resume(clip, broken_off) == 0
    found = report(broken_off)
    assert (found["outcome"], found["frames_read"], found["resumed"]) == ("complete", 40, 1)
    assert found["started"] == started
    assert not (broken_off / CHECKPOINT_FILE).exists()
    assert sum(shown(broken_off / name) for name in ("annotated-000001.mp4", "annotated.mp4")) >= 40
    before = {path: path.stat().st_mtime_ns for path in broken_off.iterdir()}
    capsys.readouterr()
    assert resume(clip, broken_off) == 0
    assert capsys.readouterr().out.startswith("complete already: 40 frames")
    assert before == {path: path.stat().st_mtime_ns for path in broken_off.iterdir()}


def test_what_is_recorded_has_every_frame_once_whatever_parts_it_is_in(clip: Path, tmp_path: Path) -> None:
    out = break_off(clip, tmp_path / "out", "recorded")
    assert resume(clip, out, "--record") == 0
    assert (out / "recorded-000001.mp4").is_file()
    with closing(open_source(str(clip))) as source, closing(open_source(str(out / "recorded.mp4"))) as again:
        for before, after in zip(source, again, strict=True):
            assert after.index == before.index
            assert after.time == pytest.approx(before.time, abs=1e-4)
            np.testing.assert_array_equal(after.image, before.image)
        assert before.index == 39


def test_it_is_said_how_far_a_long_recording_is_decoded_again(
    clip: Path, broken_off: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("irst_pipeline.sources.resumed.TOLD_EVERY", 0.0)
    assert resume(clip, broken_off) == 0
    assert "clip.mp4: decoding frame 1 of the " in caplog.text


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["--set", "tracker.coast_seconds=2"], "its config.tracker.coast_seconds was 1.0, now it is 2.0"),
        (["--no-video"], "its config.sinks was"),
        (["--overwrite"], "--resume goes on with what --overwrite would remove"),
    ],
)
def test_another_run_is_refused_in_one_line(
    arguments: list[str], expected: str, clip: Path, broken_off: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = {path: path.read_bytes() for path in broken_off.iterdir()}
    assert resume(clip, broken_off, *arguments) == 2
    (line,) = (line for line in capsys.readouterr().err.splitlines() if "error" in line)
    assert expected in line
    assert before == {path: path.read_bytes() for path in broken_off.iterdir()}


def test_what_is_sent_may_be_other_than_before(clip: Path, broken_off: Path) -> None:
    assert resume(clip, broken_off, "--set", "send.tracks=udp://127.0.0.1:9") == 0
    assert report(broken_off)["frames_read"] == 40


def test_another_recording_is_refused(
    clip: Path, broken_off: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = tmp_path / "other.mp4"
    other.write_bytes(clip.read_bytes())
    assert resume(other, broken_off) == 2
    assert f'its uri was "{clip}", now it is "{other}"' in capsys.readouterr().err


def test_another_recordings_results_stay_also_without_a_checkpoint(
    clip: Path, broken_off: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """As a run leaves them that failed, and was copied without what it takes to go on."""
    checkpoint = read_checkpoint(broken_off)
    assert checkpoint is not None
    (broken_off / "run.json").write_text(json.dumps({"outcome": "interrupted", **checkpoint.header}))
    (broken_off / CHECKPOINT_FILE).unlink()
    before = {path: path.read_bytes() for path in broken_off.iterdir()}
    other = tmp_path / "other.mp4"
    other.write_bytes(clip.read_bytes())
    assert resume(other, broken_off) == 2
    assert f'its uri was "{clip}", now it is "{other}"' in capsys.readouterr().err
    assert before == {path: path.read_bytes() for path in broken_off.iterdir()}


@pytest.mark.parametrize(
    "lost", ["pipeline.tracker._interval", "statistics.counts.", "statistics.resumed", "sinks.video."]
)
def test_a_checkpoint_that_lacks_what_is_remembered_today_is_told(
    lost: str, clip: Path, broken_off: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = broken_off / CHECKPOINT_FILE
    with safe_open(path, framework="numpy") as file:
        metadata, state = file.metadata(), {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    left = {name: value for name, value in state.items() if not name.startswith(lost)}
    assert len(left) < len(state)
    path.write_bytes(save(left, metadata))
    assert resume(clip, broken_off) == 2
    (line,) = (line for line in capsys.readouterr().err.splitlines() if "error" in line)
    assert f"{path}: of another version of irst (it lacks " in line
    assert line.endswith("begin again with --overwrite")


def test_logs_that_are_gone_are_told(clip: Path, broken_off: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (broken_off / "tracks.jsonl").write_text("")
    assert resume(clip, broken_off) == 2
    assert "tracks.jsonl: is gone, or shorter than it was; begin again with --overwrite" in capsys.readouterr().err


def test_what_was_killed_before_its_first_frame_begins_again(clip: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    (out / "tracks.jsonl").write_text('{"record":"head')
    assert resume(clip, out) == 0
    assert (report(out)["frames_read"], report(out)["resumed"]) == (40, 0)
    assert json.loads((out / "tracks.jsonl").read_text().splitlines()[0])["record"] == "header"


def test_what_was_stopped_before_its_first_frame_leaves_nothing_to_keep(clip: Path, tmp_path: Path) -> None:
    stopped = Event()
    stopped.set()
    for _ in range(2):
        run_recordings([str(clip)], RunSettings(device="cpu"), tmp_path / "out", False, False, stopped, resume=True)
        assert [path.name for path in (tmp_path / "out").iterdir()] == ["run.json"]
    assert resume(clip, tmp_path / "out") == 0
    assert report(tmp_path / "out")["frames_read"] == 40
    assert not (tmp_path / "out" / "before-1").exists()


def test_a_camera_that_was_stopped_before_the_engine_was_ready_leaves_nothing_to_keep(tmp_path: Path) -> None:
    """Though frames came, and were dropped while the network was compiled."""
    out = tmp_path / "out"
    with serving([recorded([thermal(number, (1024, 1280)) for number in range(4)])], hold=True) as uri:
        for _ in range(2):
            with start("run", uri, "--model", "lsnet-base", "--device", "cpu", "--resume", "--out", out) as process:
                wait_until(lambda: not (out / "run.json").exists())
                wait_for(out / "tracks.jsonl", 0)
                time.sleep(1)
                process.send_signal(signal.SIGTERM)
                _, error = process.communicate(timeout=60)
            assert process.returncode == 0, error
            found = report(out)
            assert found["frames_read"] == found["frames_dropped"] > 0
            assert not (out / "before-1").exists()


@pytest.mark.parametrize("live", [True, False])
def test_what_was_recorded_of_a_camera_before_the_engine_was_ready_is_kept(
    clip: Path, tmp_path: Path, live: bool
) -> None:
    """Its frames, which are recorded while the network is compiled, do not come again; those of a recording do."""
    uri, out, stopped = "tcp://127.0.0.1:9" if live else str(clip), tmp_path / "out", Event()
    stopped.set()
    settings = RunSettings(device="cpu", sinks=("mot", "recorded"))
    run_recordings([uri], settings, out, False, False, stopped, resume=True)
    frames = write_video(out / "recorded.mp4", 5).read_bytes()
    run_recordings([uri], settings, out, False, False, stopped, resume=True)
    assert not (out / "recorded.mp4").exists()
    assert [path.read_bytes() for path in out.glob("before-1/recorded.mp4")] == [frames] * live


def test_what_was_counted_before_is_told_also_while_a_run_waits_for_its_turn(clip: Path, broken_off: Path) -> None:
    weights, checkpoint = load_model("lsnet-nano"), read_checkpoint(broken_off)
    assert checkpoint is not None
    engine = open_engine(weights.network, "cpu", RunSettings().detection.lowest)
    with closing(open_source(str(clip))) as source:
        header = run_header(str(clip), source, weights, engine, RunSettings(device="cpu"))
        waiting = RunProcess(Run(source, broken_off, header, checkpoint=checkpoint), realtime=False)
        assert waiting.account().counts.frames_processed == checkpoint.position.frame + 1


def test_results_without_a_checkpoint_are_kept(clip: Path, broken_off: Path, caplog: pytest.LogCaptureFixture) -> None:
    """As where there was no space for one, or a folder is another one than was meant."""
    (broken_off / CHECKPOINT_FILE).unlink()
    before = {path.name: path.read_bytes() for path in broken_off.iterdir()}
    assert resume(clip, broken_off) == 0
    assert {path.name: path.read_bytes() for path in (broken_off / "before-1").iterdir()} == before
    assert "they are kept in before-1" in caplog.text
    assert (report(broken_off)["frames_read"], report(broken_off)["resumed"]) == (40, 0)


def test_no_two_processes_write_into_one_folder(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    clip, out = write_video(tmp_path / "clip.mp4", 250), tmp_path / "out"
    with start("run", clip, "--out", out, "--realtime", "--no-video") as process:
        wait_for(out / "tracks.jsonl", 1)
        process.send_signal(signal.SIGSTOP)  # so that it does not come to an end meanwhile
        for flag in ("--resume", "--overwrite"):
            assert main(["run", str(clip), "--out", str(out), "--device", "cpu", flag]) == 2
            assert (
                f"{out}: another run is writing there; wait for its end, or choose another" in capsys.readouterr().err
            )
        process.send_signal(signal.SIGCONT)
        process.communicate(timeout=60)
        assert process.returncode == 0
    records = read_jsonl(out / "tracks.jsonl")
    assert [record["record"] for record in records].count("header") == 1
    assert report(out)["outcome"] == "complete"


def test_of_two_that_come_to_a_new_folder_at_once_one_is_refused_and_removes_nothing(tmp_path: Path) -> None:
    clip, both = write_video(tmp_path / "clip.mp4", 1), Barrier(2)
    with ThreadPoolExecutor(2) as two, closing(open_source(str(clip))) as source:

        def is_there_to_stay(folder: Path) -> bool | None:
            """Whether what is written into the folder is still there when both have come; None for who is refused."""
            with ExitStack() as opened:
                both.wait()
                try:
                    take_folders([Run(source, folder, header(uri=str(clip)))], [], False, False, Event(), opened)
                except UsageError:
                    both.wait()
                    return None
                (folder / "tracks.jsonl").touch()
                both.wait()
                return (folder / "tracks.jsonl").exists()

        for number in range(500):
            assert set(two.map(is_there_to_stay, [tmp_path / f"out{number}"] * 2)) == {True, None}


@pytest.mark.parametrize(
    ("frames", "seed", "said"),
    [(5, 0, "its end, at frame 4 and not after 9, is not what the run"), (60, 1, "its frame 9 is not what the run")],
)
def test_a_recording_that_has_changed_is_told(
    frames: int,
    seed: int,
    said: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr("irst_pipeline.run.CHECKPOINT_SECONDS", 0.0)
    recording = write_video(tmp_path / "clip.mp4", 40)
    out = break_off(recording, tmp_path / "out")
    write_video(recording, frames, seed=seed)
    assert resume(recording, out) == 2
    assert f"clip.mp4: {said} had come to" in capsys.readouterr().err
    write_video(recording, 40)
    assert resume(recording, out) == 0
    assert report(out)["frames_read"] == 40


def test_a_list_of_times_that_has_changed_is_told(tmp_path: Path) -> None:
    images, times = write_images(tmp_path / "images", 6), tmp_path / "times.csv"

    def opened(first: float) -> Source:
        times.write_text("time_s\n" + "".join(f"{first + index}\n" for index in range(6)))
        return open_source(str(images), frame_times=str(times))

    with closing(opened(0)) as source:
        last = [*source][3]
    position = Position(3, last.time, 0.0, 0, 0, checksum(last))
    with closing(opened(0)) as source:
        assert [frame.index for frame in resume_source(source, position, Event(), None)] == [4, 5]
    with closing(opened(1)) as source, pytest.raises(UsageError, match="images: its frame 3 is not what the run had"):
        list(resume_source(source, position, Event(), None))


def test_a_recording_whose_last_frame_is_gone_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    images = write_images(tmp_path / "images", 40)
    out = break_off(images, tmp_path / "out")
    checkpoint = read_checkpoint(out)
    assert checkpoint is not None
    last = checkpoint.position.frame
    (images / f"{last}.png").unlink()
    (images / f"{last}.png").write_bytes(b"damaged")
    assert resume(images, out) == 2
    assert f"images: its frame {last} is not what the run had come to" in capsys.readouterr().err


DEEP = 100_000 * "[" + 100_000 * "]"


@pytest.mark.parametrize(
    "damage", [{"position": "[1]"}, {"header": "{"}, {"header": "[1]"}, {"header": DEEP}, {"position": None}]
)
def test_a_damaged_checkpoint_is_told(
    damage: dict[str, str | None], clip: Path, broken_off: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = broken_off / CHECKPOINT_FILE
    with safe_open(path, framework="numpy") as file:
        metadata, state = file.metadata(), {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    changed = {key: value for key, value in (metadata | damage).items() if value is not None}
    path.write_bytes(save(state, changed))
    assert resume(clip, broken_off) == 2
    assert f"{path}: is damaged (" in capsys.readouterr().err


def test_smoothed_tracks_cannot_go_on(clip: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = break_off(clip, tmp_path / "out", "smoothed")
    assert resume(clip, out, "--smooth") == 2
    assert "smoothed tracks need all of a recording in one go" in capsys.readouterr().err


def test_a_frozen_camera_is_left_at_once_and_gone_on_with_by_the_wall_clock(tmp_path: Path) -> None:
    """The server gives every connection 20 frames and is silent then."""
    out = tmp_path / "out"

    def run(uri: str) -> Position:
        arguments = ["--device", "cpu", "--resume", "--set", "live.read_seconds=60"]
        with start("run", uri, "--out", out, *arguments) as process:
            deadline, before = time.monotonic() + 300, read_checkpoint(out)
            while (now := read_checkpoint(out)) is None or (before and now.position == before.position):
                if time.monotonic() > deadline:
                    process.kill()
                time.sleep(0.05)
                assert process.poll() is None
            time.sleep(1)
            (out / "run.json").unlink(missing_ok=True)
            process.send_signal(signal.SIGTERM)
            asked = time.monotonic()
            while not (out / "run.json").exists():  # the last of the files
                assert time.monotonic() - asked < 5
            _, error = process.communicate(timeout=60)
        assert process.returncode == 0, error
        checkpoint = read_checkpoint(out)
        assert checkpoint is not None
        return checkpoint.position

    with serving([recorded([thermal(number) for number in range(20)])], hold=True) as uri:
        first, second = run(uri), run(uri)
    assert first.frame < second.frame < 40
    assert 0 < second.time - first.time == pytest.approx(second.clock - first.clock, abs=1.5)
    found = report(out)
    assert (found["outcome"], found["resumed"]) == ("interrupted", 1)
    assert found["frames_read"] == second.frame + 1
    for name in ("annotated-000001.mp4", "annotated.mp4"):
        assert shown(out / name)


def test_a_run_whose_frames_are_corrected_goes_on_to_its_end(clip: Path, tmp_path: Path) -> None:
    out = break_off(clip, tmp_path / "out", calibration=CalibrationSettings(polarity="black_hot"))
    assert resume(clip, out, "--set", "calibration.polarity=black_hot") == 0
    assert (report(out)["outcome"], report(out)["frames_read"]) == ("complete", 40)


def test_a_recording_that_is_replayed_goes_on_with_its_next_frame(clip: Path, broken_off: Path) -> None:
    assert resume(clip, broken_off, "--realtime") == 0
    found = report(broken_off)
    assert (found["outcome"], found["frames_read"], found["resumed"]) == ("complete", 40, 1)
    assert found["frames_processed"] + found["frames_dropped"] == 40
