"""What is on disk when a run is killed or the disk is full can be read."""

import json
import signal
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

import av
import numpy as np
import pytest

from irst_pipeline.config import SinkName, VideoSettings
from irst_pipeline.errors import IrstError
from irst_pipeline.sinks import Sink, open_sinks
from irst_pipeline.types import FrameResult
from tests.sinks import sink_streams
from tests.sinks.sink_streams import ALL, RATE, detections, header, result, tracks


def decoded(path: Path) -> int:
    with av.open(str(path)) as container:
        return sum(1 for _ in container.decode(video=0))


def write_until_full(sink: Sink, stream: Iterable[FrameResult]) -> tuple[int, str]:
    """How many results the sink took, and what it said to the next one."""
    written = 0
    try:
        for item in stream:
            sink.write(item)
            written += 1
    except IrstError as error:
        return written, str(error)
    pytest.fail("the disk did not fill up")


def test_a_killed_run_loses_at_most_a_second(tmp_path: Path) -> None:
    command = [sys.executable, sink_streams.__file__, str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as run:
        assert run.stdout is not None
        for line in run.stdout:
            if int(line) == 100:
                break
        run.send_signal(signal.SIGKILL)
    assert run.returncode == -signal.SIGKILL

    text = (tmp_path / "tracks.jsonl").read_text()
    whole = text[: text.rfind("\n") + 1].splitlines()
    assert json.loads(whole[0])["record"] == "header"
    frames = [json.loads(line)["frame"] for line in whole[1:]]
    assert max(frames) >= 100
    assert sorted(set(frames)) == list(range(max(frames) + 1))
    assert len((tmp_path / "mot.txt").read_text().splitlines()) >= 2 * 100
    assert decoded(tmp_path / "annotated.mp4") >= 101 - RATE


@pytest.mark.parametrize(("name", "file"), [("tracks_jsonl", "tracks.jsonl"), ("detections", "detections.csv")])
def test_a_full_disk_leaves_whole_lines(name: SinkName, file: str, small_disk: Path) -> None:
    (sink,) = open_sinks([name], small_disk, header())
    places = list(range(20))
    stream = (result(index, tracks(places, places), seen=detections(places, places)) for index in range(1000))
    written, message = write_until_full(sink, stream)
    assert message.startswith(f"{small_disk / file}: ")
    assert "No space left" in message
    assert "free some space" in message
    assert "\n" not in message
    sink.close()
    text = (small_disk / file).read_text()
    assert len(text) > 150_000
    assert text.endswith("\n")
    assert text.count("\n") == 1 + 20 * written  # every frame that was taken, and nothing of the one that was not
    if name == "tracks_jsonl":
        assert {json.loads(line)["record"] for line in text.splitlines()} == {"header", "track"}


def test_a_full_disk_leaves_a_video_that_plays(small_disk: Path) -> None:
    rng = np.random.default_rng(1)
    noise = [rng.integers(0, 255, (64, 80), np.uint8) for _ in range(4)]
    (sink,) = open_sinks(["video"], small_disk, header(frame_rate=5.0, video=VideoSettings(min_height=64)))
    stream = (result(index, image=noise[index % 4], time=index / 5) for index in range(500))
    written, message = write_until_full(sink, stream)
    assert message.startswith(f"{small_disk / 'annotated.mp4'}: cannot write it (No space left")
    sink.close()
    assert written > 10
    assert written - 2 * 5 <= decoded(small_disk / "annotated.mp4") <= written


def test_a_disk_that_is_full_at_the_end_leaves_a_video_that_plays(small_disk: Path) -> None:
    (sink,) = open_sinks(["video"], small_disk, header())
    for index in range(45):
        sink.write(result(index))
    with pytest.raises(OSError, match="No space"):
        (small_disk / "other").write_bytes(bytes(1_000_000))
    with pytest.raises(IrstError, match=r"annotated\.mp4: cannot write it \(No space left"):
        sink.close()
    sink.close()
    assert decoded(small_disk / "annotated.mp4") == 30  # the second that was on disk


@pytest.mark.parametrize("name", [name for name in ALL if name not in ("mot", "video")])
def test_a_file_that_cannot_take_its_header_is_one_line(name: SinkName, tmp_path: Path) -> None:
    path = tmp_path / {"tracks_jsonl": "tracks.jsonl", "tracks_csv": "tracks.csv", "detections": "detections.csv"}[name]
    path.symlink_to("/dev/full")
    with pytest.raises(IrstError, match="No space left") as caught:
        open_sinks(["mot", name], tmp_path, header())
    assert str(path) in str(caught.value)
