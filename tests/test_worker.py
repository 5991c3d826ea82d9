"""Runs in processes of their own: real processes, signals and sockets."""

import json
import logging
import os
import signal
import subprocess
import sys
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from socket import socketpair
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from irst_pipeline.checkpoint import read_checkpoint
from irst_pipeline.config import RunSettings
from irst_pipeline.engine import load_model, open_engine
from irst_pipeline.errors import IrstError
from irst_pipeline.run import Run, run_header
from irst_pipeline.runs import RECORDINGS_AT_ONCE, run_recordings
from irst_pipeline.sources import open_source
from irst_pipeline.worker import RunProcess
from irst_pipeline.worker.wire import Wire
from tests.running import HORIZON, ROOT, opened_by, read_jsonl, report, wait_until, write_images
from tools.streaming import free_port


@contextmanager
def running(*arguments: object, **streams: Any) -> Iterator[subprocess.Popen[bytes]]:
    """`irst run` as a terminal has it: in a process group of its own; nothing of it is left behind."""
    command = [sys.executable, "-m", "irst_pipeline.cli", "run", *map(str, arguments), "--no-video"]
    process = subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE, start_new_session=True, **streams)
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def workers(process: subprocess.Popen[bytes]) -> list[int]:
    """Processes that a run has started."""
    found: list[int] = []
    for task in Path(f"/proc/{process.pid}/task").iterdir():
        with suppress(FileNotFoundError, ProcessLookupError):  # a thread may end while the others are asked
            found += map(int, (task / "children").read_text().split())
    return found


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def begun(folder: Path) -> bool:
    return (folder / "checkpoint.safetensors").exists()


def worker_of(folder: Path, process: subprocess.Popen[bytes]) -> int:
    """The process of a run whose results are open."""
    (found,) = (pid for pid in workers(process) if any(folder in file.parents for file in opened_by(pid)))
    return found


@pytest.mark.parametrize(("number", "how"), [(signal.SIGKILL, "SIGKILL"), (signal.SIGTERM, "told to stop")])
def test_a_process_that_hangs_is_told_and_one_that_is_ended_costs_no_other_run(
    number: signal.Signals, how: str, tmp_path: Path
) -> None:
    port, out = free_port(), tmp_path / "out"
    recordings = [write_images(tmp_path / name, 20_000) for name in ("a", "b")]

    def health() -> dict[str, str]:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/healthz", timeout=10) as answer:
                body = answer.read()
        except urllib.error.HTTPError as error:
            body = error.read()
        return dict(json.loads(body)["sources"])

    watched = ["--realtime", "--metrics", port, "--set", "metrics.stale_seconds=1"]
    with running(*recordings, "--out", out, *watched) as process:
        wait_until(lambda: begun(out / "a") and begun(out / "b"))
        worker = worker_of(out / "a", process)
        wait_until(lambda: health() == {"a": "ok", "b": "ok"})
        os.kill(worker, signal.SIGSTOP)
        wait_until(lambda: "its process has said nothing for" in health()["a"])
        os.kill(worker, signal.SIGCONT)
        wait_until(lambda: health() == {"a": "ok", "b": "ok"})
        os.kill(worker, number)
        why = f"a: the process that worked on it was ended from outside ({how}); --resume goes on where it was"
        wait_until(lambda: health() == {"a": f"failed: {why}", "b": "ok"})
        lost, checkpoint = report(out / "a"), out / "a" / "checkpoint.safetensors"
        stored = checkpoint.stat().st_mtime_ns
        with running(recordings[0], "--out", out / "a", "--realtime", "--resume") as again:  # while the other goes on
            wait_until(lambda: checkpoint.stat().st_mtime_ns > stored)
            again.send_signal(signal.SIGTERM)
            again.communicate(timeout=30)
        assert again.returncode == 0
        assert (report(out / "a")["outcome"], report(out / "a")["resumed"]) == ("interrupted", 1)
        process.send_signal(signal.SIGTERM)
        _, said = process.communicate(timeout=30)
    assert process.returncode == 1
    assert f"irst: error: {why}" in said.decode().splitlines()
    assert lost["outcome"] == f"failed: {why}"
    assert lost["frames_read"] == lost["frames_processed"] + lost["frames_dropped"] > 0
    assert report(out / "b")["outcome"] == "interrupted"


def test_a_process_that_hangs_does_not_keep_the_others_from_a_stop(tmp_path: Path) -> None:
    out = tmp_path / "out"
    with running(
        *(write_images(tmp_path / name, 20_000) for name in ("a", "b")), "--out", out, "--realtime"
    ) as process:
        wait_until(lambda: begun(out / "a") and begun(out / "b"))
        os.kill(worker_of(out / "a", process), signal.SIGSTOP)
        process.send_signal(signal.SIGTERM)
        _, said = process.communicate(timeout=30)
    assert process.returncode == 1
    assert "Traceback" not in said.decode()
    assert report(out / "a")["outcome"].startswith(
        "failed: a: the process that worked on it did not stop and was ended (SIGKILL)"
    )
    assert report(out / "b")["outcome"] == "interrupted"


def test_a_run_in_a_process_of_its_own_sees_the_stop_that_its_results_were_asked_for_with(tmp_path: Path) -> None:
    recording, out, stop = write_images(tmp_path / "a", 2000), tmp_path / "out", threading.Event()
    out.mkdir()
    settings, weights = RunSettings(device="cpu", sinks=("mot",)), load_model("lsnet-nano")
    engine = open_engine(weights.network, "cpu", settings.detection.lowest)
    with closing(open_source(str(recording))) as source:
        run = Run(source, out, run_header(str(recording), source, weights, engine, settings))
        for _ in RunProcess(run, realtime=False).results(engine, stop):
            stop.set()
    assert report(out)["outcome"] == "interrupted"
    assert 0 < report(out)["frames_processed"] < 2000


def test_a_process_that_is_still_at_work_after_a_stop_is_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("irst_pipeline.worker.BEGIN_MAX", 0.1)  # s; it takes longer to smooth, and still speaks
    caplog.set_level(logging.INFO, "irst")
    stop = threading.Event()
    settings, weights = RunSettings(device="cpu", sinks=("smoothed",)), load_model("lsnet-nano")
    engine = open_engine(weights.network, "cpu", settings.detection.lowest)
    with closing(open_source(str(HORIZON))) as source:
        run = Run(source, tmp_path, run_header(str(HORIZON), source, weights, engine, settings))
        for count, _ in enumerate(RunProcess(run, realtime=False).results(engine, stop)):
            if count == 100:
                stop.set()
    assert report(tmp_path)["outcome"] == "interrupted"
    smoothed = tmp_path / "smoothed.jsonl"
    assert any(record["record"] == "track" for record in read_jsonl(smoothed))
    assert f"{smoothed}: smoothing track 1 of " in caplog.text


def test_a_process_that_cannot_be_started_is_told_of(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    recordings = [str(write_images(tmp_path / name, 3)) for name in ("a", "b")]
    monkeypatch.setattr(sys, "executable", str(tmp_path / "none"))
    settings = RunSettings().model_copy(update={"sinks": ("mot",)})
    with pytest.raises(IrstError, match="2 of 2 sources could not go on"):
        run_recordings(recordings, settings, tmp_path / "out", False, False, threading.Event())
    why = "failed: a: its process cannot be started (No such file or directory); run fewer sources"
    assert report(tmp_path / "out" / "a")["outcome"] == why
    assert signal.SIGTERM not in signal.pthread_sigmask(signal.SIG_BLOCK, [])


def test_no_camera_waits_for_recordings(tmp_path: Path) -> None:
    out, camera = tmp_path / "out", "stdin://?format=gray&size=64x48&fps=25"
    recordings = [write_images(tmp_path / f"{number}", 20_000) for number in range(RECORDINGS_AT_ONCE + 1)]
    with running(*recordings, camera, "--out", out, stdin=subprocess.PIPE) as process:
        assert process.stdin
        process.stdin.write(bytes(20 * 64 * 48))  # which a pipe has room for, so that nobody waits if nobody reads
        process.stdin.close()
        process.stdin = None
        wait_until(lambda: (out / "stdin" / "run.json").exists())
        assert not (out / recordings[-1].name / "tracks.jsonl").exists(), "it is yet to have its turn"
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=30)
    assert report(out / "stdin")["frames_read"] == 20


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_all_runs_end_with_the_process_that_started_them_and_go_on(number: signal.Signals, tmp_path: Path) -> None:
    folders = [tmp_path / "out" / name for name in ("a", "b")]
    recordings = [write_images(tmp_path / folder.name, 20_000) for folder in folders]
    command = [*recordings, "--out", tmp_path / "out"]
    with running(*command) as process:
        wait_until(lambda: all(map(begun, folders)))
        started = workers(process)
        assert len(started) == 2
        os.killpg(process.pid, number)  # as Ctrl-C does
        _, said = process.communicate(timeout=30)
        wait_until(lambda: not any(map(alive, started)))
    assert process.returncode == (0 if number == signal.SIGINT else -signal.SIGKILL)
    assert "Traceback" not in said.decode(), said.decode()
    assert all(map(begun, folders))
    if number == signal.SIGINT:
        assert [report(folder)["outcome"] for folder in folders] == ["interrupted"] * 2
    reached = [checkpoint.position.frame for folder in folders if (checkpoint := read_checkpoint(folder))]
    frames = [frame + 100 for frame in reached]
    for recording, left in zip(recordings, frames, strict=True):  # so that the rest does not take minutes
        for frame in range(left, 20_000):
            (recording / f"{frame}.png").unlink()
    with running(*command, "--resume") as process:
        process.communicate(timeout=60)
    for folder, left in zip(folders, frames, strict=True):
        counted = report(folder)
        assert (counted["outcome"], counted["frames_processed"], counted["resumed"]) == ("complete", left, 1)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGKILL])
def test_processes_that_are_yet_to_begin_end_as_they_are_told(number: signal.Signals, tmp_path: Path) -> None:
    folders = [tmp_path / "out" / name for name in ("a", "b")]
    command = [*(write_images(tmp_path / folder.name, 600) for folder in folders), "--out", tmp_path / "out"]
    with running(*command) as process:
        wait_until(lambda: len(workers(process)) == 2)
        started = workers(process)
        if number != signal.SIGKILL:  # all of them, as a service manager does
            for pid in started:
                os.kill(pid, number)
        process.send_signal(number)
        _, said = process.communicate(timeout=30)
        wait_until(lambda: not any(map(alive, started)))
    assert process.returncode == (0 if number != signal.SIGKILL else -signal.SIGKILL)
    assert "Traceback" not in said.decode()
    if number != signal.SIGKILL:
        assert [report(folder)["outcome"] for folder in folders] == ["interrupted"] * 2


def test_standard_input_may_be_one_of_several_sources(tmp_path: Path) -> None:
    out, frames = tmp_path / "out", np.random.default_rng(0).integers(90, 110, (20, 48, 64)).astype(np.uint8)
    uri = "stdin://?format=gray&size=64x48&fps=25"
    with running(uri, write_images(tmp_path / "short", 20), "--out", out, stdin=subprocess.PIPE) as process:
        _, said = process.communicate(frames.tobytes(), timeout=60)
    assert process.returncode == 0, said.decode()
    for folder in (out / "stdin", out / "short"):
        assert (report(folder)["outcome"], report(folder)["frames_read"]) == ("complete", 20)


def test_nobody_waits_for_a_terminal_to_send_frames(tmp_path: Path) -> None:
    ours, theirs = os.openpty()
    with running("stdin://?format=gray&size=64x48", "--out", tmp_path / "out", stdin=theirs) as process:
        _, said = process.communicate(timeout=30)
    os.close(ours)
    os.close(theirs)
    assert process.returncode == 2
    assert "standard input is a terminal; pipe frames into it" in said.decode()


@pytest.mark.parametrize(
    "array",
    [
        np.arange(12, dtype=np.uint16).reshape(3, 4)[:, ::2],
        np.zeros((1024, 1280), np.uint16),
        np.empty((0, 0), bool),
        np.array(3.5),
    ],
    ids=["strided", "larger than any buffer", "empty", "a number"],
)
def test_what_one_process_says_the_other_hears(array: NDArray[Any]) -> None:
    ours, theirs = (Wire(end) for end in socketpair())
    with closing(ours):
        with closing(theirs):
            saying = threading.Thread(target=theirs.say, args=["that", {"a": [1, None, "\udce9"]}, [array, array]])
            saying.start()
            what, words, arrays = ours.hear()
            saying.join()
        assert (what, words) == ("that", {"a": [1, None, "\udce9"]})
        for heard in arrays:
            np.testing.assert_array_equal(heard, array)
            assert heard.dtype == array.dtype
        assert len(arrays) == 2
        with pytest.raises(EOFError):
            ours.hear()
