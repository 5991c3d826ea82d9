"""What is on disk when a run is killed or the disk is full can be read."""

import json
import resource
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterable
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from irst_pipeline.config import RotateSettings, SinkName, VideoSettings
from irst_pipeline.disk import parts_set_aside, rewrite_file
from irst_pipeline.errors import IrstError
from irst_pipeline.sinks import Sink, open_recorders, open_sinks
from irst_pipeline.sources import open_source
from irst_pipeline.types import FrameResult
from tests.running import read_jsonl, shown
from tests.sinks import sink_streams
from tests.sinks.sink_streams import ALL, detections, header, result, tracks


def write_until_full(sink: Sink[FrameResult], stream: Iterable[FrameResult]) -> tuple[int, str]:
    """How many results the sink took, and what it said to the next one."""
    written = 0
    try:
        for item in stream:
            sink.write(item)
            written += 1
    except IrstError as error:
        return written, str(error)
    pytest.fail("the disk did not fill up")


def test_a_killed_run_loses_no_line_and_at_most_a_quarter_second_of_its_videos(tmp_path: Path) -> None:
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
    for name in ("annotated.mp4", "recorded.mp4"):
        assert shown(tmp_path / name) >= 100 - sink_streams.RATE / 4


@pytest.mark.parametrize(("name", "file"), [("tracks_jsonl", "tracks.jsonl"), ("detections", "detections.csv")])
def test_a_full_disk_leaves_whole_lines(name: SinkName, file: str, small_disk: Path) -> None:
    (sink,) = open_sinks([name], small_disk, header()).values()
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


def noisy(frames: int) -> list[FrameResult]:
    """Frames at 5 a second that do not compress."""
    rng = np.random.default_rng(1)
    images = [rng.integers(0, 255, (64, 80), np.uint8) for _ in range(4)]
    return [result(index, image=images[index % 4], time=index / 5) for index in range(frames)]


def video(folder: Path, min_free_megabytes: float = 1e-3, name: SinkName = "video") -> Sink[Any]:
    settings = VideoSettings(min_height=64, min_free_megabytes=min_free_megabytes)
    given = [name], folder, header(frame_rate=5.0, video=settings)
    opened: list[Sink[Any]] = [*open_sinks(*given).values(), *open_recorders(*given).values()]
    return opened[0]


def taken(name: SinkName, item: FrameResult) -> Any:
    """What such a video takes of a result."""
    return item.frame if name == "recorded" else item


VIDEOS: list[tuple[SinkName, str]] = [("video", "annotated.mp4"), ("recorded", "recorded.mp4")]


@pytest.mark.parametrize(("name", "file"), VIDEOS)
def test_on_a_full_disk_the_video_stops_and_plays_and_the_run_goes_on(
    name: SinkName, file: str, small_disk: Path, caplog: pytest.LogCaptureFixture
) -> None:
    sink = video(small_disk, name=name)
    for item in noisy(500):
        sink.write(taken(name, item))
    sink.close()
    (message,) = caplog.messages
    assert f"{file}: the video stops, the logs go on" in message
    assert "cannot write it (No space left" in message
    assert shown(small_disk / file) == 500 - sink.missed
    assert 10 < sink.missed < 490


@pytest.mark.parametrize(("name", "file"), VIDEOS)
def test_a_disk_that_is_full_at_the_end_leaves_a_video_that_plays(
    name: SinkName, file: str, small_disk: Path, caplog: pytest.LogCaptureFixture
) -> None:
    sink = video(small_disk, name=name)
    for item in noisy(15):
        sink.write(taken(name, item))
    with pytest.raises(OSError, match="No space"):
        (small_disk / "other").write_bytes(bytes(1_000_000))
    sink.close()
    assert f"{file}: cannot write it (No space left" in caplog.text
    assert shown(small_disk / file) == 15 - sink.missed
    assert sink.missed <= 1


def test_where_files_may_not_grow_so_large_all_frames_of_a_high_rate_that_count_as_stored_play(tmp_path: Path) -> None:
    """A quarter second of these is 18 MB."""
    images = np.random.default_rng(0).integers(0, 1 << 16, (2, 512, 640), np.uint16)
    sink = video(tmp_path, name="recorded")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (12_000_000, hard))
    try:
        for index in range(40):
            sink.write(result(index, image=images[index % 2], time=index / 100).frame)
        sink.close()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    with closing(open_source(str(tmp_path / "recorded.mp4"))) as source:
        assert len(list(source)) == 40 - sink.missed > 5
        assert source.frames_failed == 0


def test_what_a_full_disk_takes_of_a_part_is_counted_once(small_disk: Path) -> None:
    settings = VideoSettings(min_height=64, min_free_megabytes=1e-3)
    rotate = RotateSettings(hours=10 / 3600)
    (sink,) = open_sinks(["video"], small_disk, header(frame_rate=30.0, video=settings, rotate=rotate)).values()
    flat = np.zeros((64, 80), np.uint8)
    for index in range(302):  # the part is full after 10 s
        if index == 300:
            with pytest.raises(OSError, match="No space"):
                (small_disk / "other").write_bytes(bytes(1_000_000))
        sink.write(result(index, image=flat, time=index / 30))
    sink.close()
    (video,) = small_disk.glob("annotated*.mp4")
    assert shown(video) == 302 - sink.missed
    assert 2 <= sink.missed <= 2 + 30 / 4


def test_the_video_leaves_the_logs_their_space_and_goes_on_when_there_is_more(
    small_disk: Path, caplog: pytest.LogCaptureFixture
) -> None:
    sink = video(small_disk, min_free_megabytes=0.05)
    stream = iter(noisy(12))
    for _ in range(2):
        sink.write(next(stream))
    (small_disk / "other").write_bytes(bytes(360_000))
    for _ in range(2):
        time.sleep(1.1)
        for _ in range(5):
            sink.write(next(stream))
        (small_disk / "other").unlink(missing_ok=True)
    sink.close()
    assert sink.missed == 5
    assert "the video stops, the logs go on (0 MB left on that disk" in caplog.messages[0]
    assert "the video goes on; 5 frames are missing in it" in caplog.messages[1]
    assert [shown(small_disk / name) for name in ("annotated-000001.mp4", "annotated.mp4")] == [2, 5]


def test_the_video_goes_on_also_where_the_disk_filled_up_at_once(small_disk: Path) -> None:
    sink = video(small_disk, min_free_megabytes=0.05)
    stream = iter(noisy(30))
    for _ in range(2):
        sink.write(next(stream))
    with pytest.raises(OSError, match="No space"):
        (small_disk / "other").write_bytes(bytes(1_000_000))
    for _ in range(20):
        sink.write(next(stream))
    missed = sink.missed
    (small_disk / "other").unlink()
    time.sleep(1.1)  # it looks once a second
    for _ in range(5):
        sink.write(next(stream))
    sink.close()
    assert missed > 0
    assert sink.missed == missed
    assert [shown(small_disk / name) for name in ("annotated-000001.mp4", "annotated.mp4")] == [22 - missed, 5]


def test_a_live_run_counts_what_its_logs_cannot_take_and_says_where_they_go_on(
    small_disk: Path, caplog: pytest.LogCaptureFixture
) -> None:
    sinks = open_sinks(["tracks_jsonl", "tracks_csv"], small_disk, header(live=True)).values()
    places = list(range(20))

    def write(first: int, last: int) -> None:
        for index in range(first, last):
            for sink in sinks:
                sink.write(result(index, tracks(places, places)))

    write(0, 10)
    with pytest.raises(OSError, match="No space"):
        (small_disk / "other").write_bytes(bytes(1_000_000))
    write(10, 40)
    missing = [sink.missed for sink in sinks]
    (small_disk / "other").unlink()
    write(40, 45)
    for sink in sinks:
        sink.close()
    assert [sink.missed for sink in sinks] == missing
    assert 20 < missing[0] <= 30
    records = read_jsonl(small_disk / "tracks.jsonl")
    (gap,) = (record for record in records if record["record"] == "gap")
    assert gap["frame"] + gap["frames"] == 40
    assert gap["frames"] == missing[0]
    frames = sorted({record["frame"] for record in records if record["record"] == "track"})
    assert frames == [*range(gap["frame"]), *range(40, 45)]
    assert len((small_disk / "tracks.csv").read_text().splitlines()) == 1 + 20 * (45 - missing[1])
    assert len(caplog.messages) == 4  # for each log, that it stops and that it goes on


def test_what_is_written_again_and_again_has_its_place_on_a_full_disk(small_disk: Path) -> None:
    path = small_disk / "checkpoint.safetensors"
    for number in range(2):
        rewrite_file(path, bytes([number]) * 30_000)
    with pytest.raises(OSError, match="No space"):
        (small_disk / "other").write_bytes(bytes(1_000_000))
    for number in range(2, 5):
        rewrite_file(path, bytes([number]) * (30_000 - number))
        assert path.read_bytes() == bytes([number]) * (30_000 - number)
    with pytest.raises(IrstError, match="No space left on device"):
        rewrite_file(path, bytes(60_000))
    assert path.read_bytes() == bytes([4]) * 29_996


def test_a_video_whose_folder_is_taken_away_ends_alone(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    folder = tmp_path / "out"
    folder.mkdir()
    sink = video(folder)
    stream = iter(noisy(4))
    for _ in range(2):
        sink.write(next(stream))
    shutil.rmtree(folder)
    time.sleep(1.1)  # it looks once a second
    for _ in range(2):
        sink.write(next(stream))
    sink.close()
    assert sink.missed == 2
    assert [f"{folder / 'annotated.mp4'}: the video stops" in message for message in caplog.messages] == [True]


@pytest.mark.parametrize("rotate", [RotateSettings(megabytes=0.02), RotateSettings(hours=1 / 3600)])
def test_every_part_can_be_read_by_itself_and_together_they_are_all(rotate: RotateSettings, tmp_path: Path) -> None:
    sinks = open_sinks(ALL, tmp_path, header(rotate=rotate)).values()
    for index in range(100):
        for sink in sinks:
            sink.write(result(index, tracks([10, 20], [20, 30]), seen=detections([10], [20])))
    for sink in sinks:
        sink.close()
    for name, own in (("tracks.jsonl", 1), ("tracks.csv", 1), ("mot.txt", 0), ("detections.csv", 1)):
        files = sorted(tmp_path.glob(f"{Path(name).stem}*{Path(name).suffix}"))
        assert files == [*parts_set_aside(tmp_path / name), tmp_path / name]
        parts = [file.read_text().splitlines() for file in files]
        assert len({tuple(lines[:own]) for lines in parts}) == 1
        assert sum(len(lines) - own for lines in parts) == 100 * (1 if name == "detections.csv" else 2)
        if rotate.hours:
            assert len(parts) == 4  # of 31, 31, 31 and 7 frames: one that begins after a second begins a part
        else:
            assert all(file.stat().st_size >= 20_000 for file in files[:-1])
    videos = [*parts_set_aside(tmp_path / "annotated.mp4"), tmp_path / "annotated.mp4"]
    assert len(videos) > 1
    assert sum(map(shown, videos)) == 100


def test_a_video_of_very_many_frames_is_in_parts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("irst_pipeline.sinks.video.FRAMES_MAX", 30)
    (sink,) = open_sinks(["video"], tmp_path, header()).values()
    for index in range(70):
        sink.write(result(index, tracks([10], [20])))
    sink.close()
    path = tmp_path / "annotated.mp4"
    assert [shown(part) for part in (*parts_set_aside(path), path)] == [30, 30, 10]


@pytest.mark.parametrize("name", [name for name in ALL if name not in ("mot", "video")])
def test_a_file_that_cannot_take_its_header_is_one_line(name: SinkName, tmp_path: Path) -> None:
    path = tmp_path / {"tracks_jsonl": "tracks.jsonl", "tracks_csv": "tracks.csv", "detections": "detections.csv"}[name]
    path.symlink_to("/dev/full")
    with pytest.raises(IrstError, match="No space left") as caught:
        open_sinks(["mot", name], tmp_path, header())
    assert str(path) in str(caught.value)
