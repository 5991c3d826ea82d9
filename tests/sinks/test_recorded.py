"""The recorded frames are the source's own, to the last bit, and can be run again."""

from contextlib import closing
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

from irst_pipeline.cli import main
from irst_pipeline.sinks import open_sinks
from irst_pipeline.sources import open_source
from irst_pipeline.types import Frame, Image
from tests.running import CLOUDS
from tests.sinks.sink_streams import header, result

TICK = 1 / 90_000  # s, of the file's clock


def record(folder: Path, images: list[Image], times: list[float]) -> Path:
    (sink,) = open_sinks(["recorded"], folder, header())
    for index, (image, time) in enumerate(zip(images, times, strict=True)):
        sink.write(result(index, image=image, time=time))
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
    (sink,) = open_sinks(["recorded"], tmp_path, header())
    for index, image in enumerate(images):
        sink.write(result(index, image=image, time=index))
    whole = (tmp_path / "recorded.mp4").read_bytes()  # with the first two
    sink.close()
    killed = tmp_path / "killed.mp4"
    for share in np.linspace(0.52, 0.98, 24):
        killed.write_bytes(whole[: int(share * len(whole))])
        with closing(open_source(str(killed))) as source:
            (frame,) = source
            assert source.frames_failed == 1
        np.testing.assert_array_equal(frame.image, images[0])


def test_where_size_or_depth_changes_a_new_part_begins(tmp_path: Path) -> None:
    changes = [(np.uint8, (40, 60)), (np.uint16, (40, 60)), (np.uint16, (60, 40))]
    parts = [noise(kind, shape, 3) for kind, shape in changes]
    images = [image for part in parts for image in part]
    last = record(tmp_path, images, [index / 30 for index in range(9)])
    files = [tmp_path / "recorded-000001.mp4", tmp_path / "recorded-000002.mp4", last]
    assert sorted(tmp_path.iterdir()) == files
    for file, part, begins in zip(files, parts, ("0.000000", "0.100000", "0.200000"), strict=True):
        np.testing.assert_array_equal([frame.image for frame in frames(file)], part)
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
