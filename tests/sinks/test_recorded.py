"""The recorded frames are the source's own, to the last bit, and can be run again."""

import shutil
from collections.abc import Sequence
from contextlib import closing
from itertools import islice
from pathlib import Path
from threading import Event
from time import sleep
from typing import Any

import av
import numpy as np
import pytest

from irst_pipeline.cli import main
from irst_pipeline.config import RotateSettings, RunSettings
from irst_pipeline.engine.cpu import CpuEngine
from irst_pipeline.errors import IrstError
from irst_pipeline.lsnet.weights import load_weights
from irst_pipeline.run import Run, carry_out, run_header
from irst_pipeline.sinks import open_recorders
from irst_pipeline.sinks.recorded import WAITING_MAX, Recorded
from irst_pipeline.sinks.video import RecordedFrames
from irst_pipeline.sources import open_source
from irst_pipeline.sources.realtime import RealTime
from irst_pipeline.statistics import RunStatistics
from irst_pipeline.types import Frame, Image
from tests.running import CLOUDS
from tests.sinks.sink_streams import header, result

TICK = 1 / 90_000  # s, of the file's clock


def record(folder: Path, images: list[Image], times: list[float]) -> Path:
    (sink,) = open_recorders(["recorded"], folder, header()).values()
    for index, (image, time) in enumerate(zip(images, times, strict=True)):
        sink.write(result(index, image=image, time=time).frame)
    sink.close()
    return folder / "recorded.mp4"


def frames(path: Path) -> list[Frame]:
    with closing(open_source(str(path))) as source:
        return list(source)


def noise(kind: Any, shape: tuple[int, int], count: int) -> list[Image]:
    rng = np.random.default_rng(0)
    return [rng.integers(0, np.iinfo(kind).max, shape, kind, endpoint=True) for _ in range(count)]


@pytest.mark.parametrize("shape", [(16, 16), (61, 83), (512, 640)])
@pytest.mark.parametrize("kind", [np.uint8, np.uint16])
def test_levels_and_times_come_back_as_they_were(kind: Any, shape: tuple[int, int], tmp_path: Path) -> None:
    images = noise(kind, shape, 20)
    images[7] = images[6]  # one that repeats the one before is kept, too
    times = np.cumsum(np.random.default_rng(1).uniform(0.01, 2, 20)).tolist()
    found = frames(record(tmp_path, images, times))
    for frame, image in zip(found, images, strict=True):
        assert frame.image.dtype == image.dtype
        np.testing.assert_array_equal(frame.image, image)
    np.testing.assert_allclose([frame.time for frame in found], np.array(times) - times[0], atol=TICK)


@pytest.mark.parametrize(("kind", "side"), [(np.uint8, 2048), (np.uint16, 1500)])
def test_large_frames_are_kept_while_packets_of_strangers_are_small(kind: Any, side: int, tmp_path: Path) -> None:
    """What FFV1 sets aside for such a frame is more than a packet of a live source may have."""
    images = noise(kind, (side, side), 2)
    np.testing.assert_array_equal([frame.image for frame in frames(record(tmp_path, images, [0, 1]))], images)


def test_many_frames_in_a_quarter_second_take_no_block_of_memory_for_all(tmp_path: Path) -> None:
    images = noise(np.uint16, (1024, 1280), 3)
    found = frames(record(tmp_path, [images[index % 3] for index in range(24)], [index / 100 for index in range(24)]))
    np.testing.assert_array_equal([frame.image[0] for frame in found], [images[index % 3][0] for index in range(24)])


def test_a_frame_that_a_kill_cut_off_is_not_made_up(tmp_path: Path) -> None:
    """By chance one in seven of these looks whole to FFmpeg's decoder."""
    images = noise(np.uint16, (1024, 1280), 3)
    (sink,) = open_recorders(["recorded"], tmp_path, header()).values()
    for index, image in enumerate(images):
        sink.write(result(index, image=image, time=index).frame)
    whole = (tmp_path / "recorded.mp4").read_bytes()  # with the first two
    sink.close()
    killed = tmp_path / "killed.mp4"
    for share in np.linspace(0.52, 0.98, 24):
        killed.write_bytes(whole[: int(share * len(whole))])
        with closing(open_source(str(killed))) as source:
            (frame,) = source
            assert source.frames_failed == 1
        np.testing.assert_array_equal(frame.image, images[0])


def in_parts(folder: Path, counts: list[int]) -> tuple[list[Image], list[float]]:
    """Record parts of so many frames, half a second apart; images and times (s) of all."""
    images, times = noise(np.uint16, (40, 60), sum(counts)), []
    for part, count in enumerate(counts):
        times += [sum(counts[:part]) / 30 + part / 2 + index / 30 for index in range(count)]
    (sink,) = open_recorders(["recorded"], folder, header(rotate=RotateSettings(hours=0.4 / 3600))).values()
    for index, (image, time) in enumerate(zip(images, times, strict=True)):
        sink.write(result(index, image=image, time=time).frame)
    sink.close()
    return images, times


def test_parts_are_read_as_one_with_the_time_between_them(tmp_path: Path) -> None:
    images, times = in_parts(tmp_path, [3, 5, 4])
    assert len(list(tmp_path.iterdir())) == 3
    with closing(open_source(str(tmp_path / "recorded.mp4"))) as source:
        assert source.frame_count == 12
        found = list(source)
    np.testing.assert_array_equal([frame.image for frame in found], images)
    np.testing.assert_allclose([frame.time for frame in found], times, atol=1e-4)
    assert [frame.index for frame in found] == [*range(12)]
    assert {frame.source for frame in found} == {"recorded.mp4"}


def test_a_part_that_is_set_aside_is_read_by_itself(tmp_path: Path) -> None:
    images, _ = in_parts(tmp_path, [3, 5, 4])
    found = frames(tmp_path / "recorded-000002.mp4")
    np.testing.assert_array_equal([frame.image for frame in found], images[3:8])
    assert found[0].time == 0


def test_a_part_without_a_frame_is_left_out_and_one_that_lacks_some_is_told(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    images, times = in_parts(tmp_path, [3, 5, 4])
    empty, spoilt = (tmp_path / f"recorded-00000{number}.mp4" for number in (1, 2))
    empty.write_bytes(empty.read_bytes()[:40])
    with av.open(str(spoilt)) as container:
        first = bytes(next(container.demux()))
    content = spoilt.read_bytes().replace(first, bytes(len(first)))
    spoilt.write_bytes(content)
    with closing(open_source(str(tmp_path / "recorded.mp4"))) as source:
        found = list(source)
        assert source.frames_failed == 1
    assert "recorded-000001.mp4" in caplog.text
    assert "left out" in caplog.text
    assert "recorded-000002.mp4" in caplog.text
    np.testing.assert_array_equal([frame.image for frame in found], images[4:])
    np.testing.assert_allclose([frame.time for frame in found], np.array(times[4:]) - times[3], atol=1e-4)
    assert [frame.index for frame in found] == [*range(1, 9)]


def test_videos_that_are_only_named_like_parts_are_read_by_themselves(tmp_path: Path) -> None:
    for name in ("clouds-000001.mp4", "clouds.mp4"):
        shutil.copy(CLOUDS, tmp_path / name)
    assert len(frames(tmp_path / "clouds.mp4")) == len(frames(CLOUDS))


def test_where_size_or_depth_changes_a_new_part_begins(tmp_path: Path) -> None:
    changes = [(np.uint8, (40, 60)), (np.uint16, (40, 60)), (np.uint16, (60, 40))]
    parts = [noise(kind, shape, 3) for kind, shape in changes]
    images = [image for part in parts for image in part]
    last = record(tmp_path, images, [index / 30 for index in range(9)])
    files = [tmp_path / "recorded-000001.mp4", tmp_path / "recorded-000002.mp4", last]
    assert sorted(tmp_path.iterdir()) == files
    with closing(open_source(str(last))) as source:
        np.testing.assert_array_equal([frame.image for frame in source], parts[0])  # what is unlike the first is told
        assert source.frames_failed == 6
    for file, part, begins in zip(files, parts, ("0.000000", "0.100000", "0.200000"), strict=True):
        alone = tmp_path / "alone.mp4"
        shutil.copy(file, alone)
        np.testing.assert_array_equal([frame.image for frame in frames(alone)], part)
        with av.open(str(file)) as container:
            assert container.metadata["comment"] == f"begins at {begins} s of its source"


@pytest.mark.parametrize("calibrated", [[], ["--set", "calibration.destripe=columns"]])
def test_a_run_of_what_a_run_recorded_finds_the_same(calibrated: list[str], tmp_path: Path) -> None:
    """Before calibration, for another one may be wanted then."""
    first, again = tmp_path / "first", tmp_path / "again"
    run = ["run", "--device", "cpu", "--no-video", *calibrated]
    assert main([*run, str(CLOUDS), "--record", "--out", str(first)]) == 0
    assert main([*run, str(first / "recorded.mp4"), "--out", str(again)]) == 0
    assert (first / "mot.txt").read_bytes() == (again / "mot.txt").read_bytes()
    assert (first / "detections.csv").read_bytes() == (again / "detections.csv").read_bytes()
    assert len((first / "mot.txt").read_text().splitlines()) > 100
    for before, after in zip(frames(CLOUDS), frames(first / "recorded.mp4"), strict=True):
        np.testing.assert_array_equal(before.image, after.image)


class Recorder:
    """Takes frames when it is let, so many seconds each."""

    def __init__(self, seconds: float = 0.0) -> None:
        self.missed, self.taken, self.let = 0, list[int](), Event()
        self._seconds = seconds
        self.let.set()

    def write(self, item: Frame, /) -> None:
        self.let.wait()
        sleep(self._seconds)
        if item.index == 30:
            raise IrstError("the disk is gone")
        self.taken.append(item.index)

    def state(self) -> dict[str, Any]:
        return {}

    def close(self) -> None:
        pass


def test_a_recording_waits_for_its_recorder() -> None:
    recorder = Recorder(0.005)
    with closing(open_source(str(CLOUDS))) as source:
        read = [frame.index for frame in islice(Recorded(source, recorder), 25)]
    assert read == recorder.taken == [*range(25)]
    assert recorder.missed == 0


def test_a_live_source_does_not_wait_for_a_recorder_and_what_that_lacks_is_counted() -> None:
    recorder = Recorder()
    recorder.let.clear()
    with closing(RealTime(open_source(str(CLOUDS)), Event())) as source:
        frames = iter(Recorded(source, recorder))
        for _ in range(20):
            next(frames)
        recorder.let.set()
        frames.close()  # type: ignore[attr-defined]
    assert recorder.taken == [*range(WAITING_MAX)]
    assert recorder.missed == 20 - WAITING_MAX


def test_what_a_recorder_raises_is_raised() -> None:
    with closing(open_source(str(CLOUDS))) as source, pytest.raises(IrstError, match="the disk is gone"):
        list(Recorded(source, Recorder()))


def test_what_a_recorder_raises_while_it_is_left_is_told_and_counted(caplog: pytest.LogCaptureFixture) -> None:
    recorder = Recorder()
    with closing(open_source(str(CLOUDS))) as source:
        frames = iter(Recorded(source, recorder))
        for _ in range(30):
            next(frames)
        recorder.let.clear()
        next(frames)
        recorder.let.set()
        frames.close()  # type: ignore[attr-defined]
    assert recorder.missed == 1
    assert caplog.messages == ["the disk is gone"]


class SlowEngine(CpuEngine):
    """A network that is too slow for the frames."""

    def submit(self, images: Sequence[Image]) -> Any:
        sleep(0.15)
        return super().submit(images)


def test_frames_that_the_network_is_too_late_for_are_recorded(tmp_path: Path) -> None:
    weights, settings = load_weights("lsnet-nano"), RunSettings(sinks=("mot", "recorded"))
    engine, stop, statistics = SlowEngine(weights.network, 0.3, newest=True), Event(), RunStatistics()
    with closing(open_source(str(CLOUDS), realtime=True, stop=stop)) as source:
        run = Run(source, tmp_path, run_header(str(CLOUDS), source, weights, engine, settings))
        for count, _ in enumerate(carry_out(run, engine, stop, statistics)):
            if count == 5:
                stop.set()
    counts = statistics.counts()
    assert sum(counts.frames_dropped) > counts.frames_processed
    found = frames(tmp_path / "recorded.mp4")
    assert len(found) == counts.frames_read
    for frame, recorded in zip(frames(CLOUDS), found, strict=False):
        np.testing.assert_array_equal(frame.image, recorded.image)
        assert recorded.time == pytest.approx(frame.time, abs=1e-4)


class BrokenEngine(CpuEngine):
    """A device that is gone before the second frame."""

    taken = 0
    gone = Event()

    def submit(self, images: Sequence[Image]) -> Any:
        self.taken += 1
        if self.taken > 1:
            self.gone.set()
            raise IrstError("the device is gone")
        return super().submit(images)


def test_what_waits_to_be_recorded_when_a_run_fails_is_in_the_one_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shown = RecordedFrames._picture

    def late(self: RecordedFrames, item: Frame) -> tuple[Image, float]:
        assert BrokenEngine.gone.wait(60)
        sleep(0.1)
        return shown(self, item)

    monkeypatch.setattr(RecordedFrames, "_picture", late)
    weights, settings = load_weights("lsnet-nano"), RunSettings(sinks=("mot", "recorded"))
    engine, statistics = BrokenEngine(weights.network, 0.3, newest=False), RunStatistics()
    with closing(open_source(str(CLOUDS))) as source:
        run = Run(source, tmp_path, run_header(str(CLOUDS), source, weights, engine, settings))
        with pytest.raises(IrstError, match="the device is gone"):
            list(carry_out(run, engine, Event(), statistics))
    assert {path.name for path in tmp_path.glob("recorded*")} == {"recorded.mp4"}
    assert len(frames(tmp_path / "recorded.mp4")) >= statistics.counts().frames_read > 1
