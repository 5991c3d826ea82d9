"""Recordings whose frames were taken when a list says."""

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from threading import Event

import cv2
import numpy as np
import pytest

from irst_pipeline.cli import main
from irst_pipeline.config import RunSettings
from irst_pipeline.errors import IrstError, UsageError
from irst_pipeline.runs import run_recordings
from irst_pipeline.sources import open_source
from irst_pipeline.sources.base import Recording
from irst_pipeline.sources.timed import Timed, read_times
from irst_pipeline.types import Frame

SPEED = np.array([30.0, -12.0])
"""px/s"""


def write(folder: Path, text: str) -> Path:
    path = folder / "clip.csv"
    path.write_text(text)
    return path


def write_flight(folder: Path, times: list[float]) -> None:
    """Images of a target that flies past, taken at these times, s, and beside them their list."""
    folder.mkdir()
    noise, (y, x) = np.random.default_rng(0), np.mgrid[:128, :192]
    for index, time in enumerate(times):
        at = [20.0, 90.0] + SPEED * (time - times[0])
        target = 400 * np.exp(-((x - at[0]) ** 2 + (y - at[1]) ** 2) / (2 * 1.2**2))
        image = np.rint(8000 + noise.normal(0, 20, x.shape) + target).astype(np.uint16)
        assert cv2.imwrite(str(folder / f"{index}.png"), image)
    write(folder.parent, "time_s\n" + "".join(f"{time:.6f}\n" for time in times))


class Uncounted(Recording):
    """One that does not declare how many frames it has."""

    def __init__(self, frames: int) -> None:
        super().__init__("uncounted", 30.0, None)
        self._frames = frames

    def read(self) -> Iterator[Frame]:
        for index in range(self._frames):
            yield Frame(np.full((32, 48), 100, np.uint8), index, index / 30, self.name)

    def close(self) -> None:
        """Nothing is open."""


def test_frames_that_come_unevenly_give_the_true_velocity(tmp_path: Path) -> None:
    """The clock's own seconds, as a camera's software writes them; a third of the frames are missing."""
    seconds = np.random.default_rng(1).choice(90, 60, replace=False) / 30
    write_flight(tmp_path / "clip", (1.7e9 + np.sort(seconds)).tolist())
    out, settings = tmp_path / "out", RunSettings(device="cpu", sinks=("tracks_csv",), frame_times="{}.csv")
    run_recordings([str(tmp_path / "clip")], settings, out, False, False, Event())
    rows = np.genfromtxt(out / "tracks.csv", delimiter=",", skip_header=1, usecols=(0, 2, 6, 7))
    assert len(np.unique(rows[:, 1])) == 1
    late = rows[rows[:, 0] > 1.7e9 + 1.5]
    assert len(late) > 20
    assert np.abs(late[:, 2:] - SPEED).mean() < 2


def test_a_list_counts_frames_or_names_them(tmp_path: Path) -> None:
    named = read_times(write(tmp_path, "Time_s, azimuth_deg, Frame\n5.5, 310, 2\n5.75, 311, 4\n"))
    assert named == {2: 5.5, 4: 5.75}
    for alone in ("time_s\n5.5\n5.75\n", "time_s\n5,5\n5,75\n"):
        assert read_times(write(tmp_path, alone)) == {0: 5.5, 1: 5.75}


def test_the_rate_is_that_of_most_frames(tmp_path: Path) -> None:
    source = Timed(Uncounted(6), write(tmp_path, "frame,time_s\n0,0\n1,0.1\n2,0.2\n4,0.4\n5,9\n"))
    assert source.frame_rate == pytest.approx(10)


def test_a_frame_that_the_list_lacks_is_failed(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = write(tmp_path, "frame,time_s\n0,1.5\n2,1.75\n")
    source = Timed(Uncounted(3), path)
    assert [(frame.index, frame.time) for frame in source] == [(0, 1.5), (2, 1.75)]
    assert source.frames_failed == 1
    assert f"uncounted: {path}: no row for frame 1" in caplog.text


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("frame,when\n0,1\n", "line 1: no column time_s; name the columns there, apart by commas, semicolons or tabs"),
        ("0.0\n0.1\n", "line 1: no column time_s; name the columns there, apart by commas, semicolons or tabs"),
        ("time_s,time_s\n0,1\n", "line 1: column time_s is there 2 times; keep one"),
        ("time_s\n0\n0.5\n0.5\n", "line 4: time_s does not increase; sort the rows, one for each time_s"),
        ("frame,time_s\n1,0\n0,0.5\n", "line 3: frame does not increase; sort the rows, one for each frame"),
        ("frame,time_s\n0,0\n1.5,0.5\n", "line 3: frame is no index; count from 0"),
        ("frame,time_s\n-1,0\n0,0.5\n", "line 2: frame is no index; count from 0"),
        ("time_s\n0\nnoon\n", "line 3: time_s is 'noon'; expected a number, or strike the row out"),
        (
            "frame,time_s\n0,0,5\n1,1,0\n",
            "line 2: more cells than columns; if decimals have commas, columns need semicolons",
        ),
        ("time_s\n0.5,1\n", "line 2: time_s is '0.5,1'; expected a number, or strike the row out"),
        ("time_s\n0\n", ": fewer than two rows; give each frame one"),
    ],
)
def test_a_list_that_cannot_be_used_is_told_in_one_line(text: str, said: str, tmp_path: Path) -> None:
    path = write(tmp_path, text)
    with pytest.raises(UsageError) as told:
        read_times(path)
    assert str(told.value) == f"{path}{said if said.startswith(':') else f' {said}'}"


def test_a_list_of_another_recording_is_noticed(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    write_flight(tmp_path / "clip", [0.0, 0.1, 0.2])
    clip, times = str(tmp_path / "clip"), str(tmp_path / "clip.csv")
    with closing(open_source(clip, frame_times=times)) as source:
        assert [frame.time for frame in source] == [0.0, 0.1, 0.2]
    assert not caplog.text
    for rows, last in (("0\n0.1\n", 1), ("0\n0.1\n0.2\n0.3\n", 3)):
        write(tmp_path, f"time_s\n{rows}")
        with closing(open_source(clip, frame_times=times)) as source:
            assert len([*source]) == min(3, last + 1)
        said = f"the last row is of frame {last}, but clip has 3 frames, from 0; is it of this recording?"
        assert said in caplog.text


def test_a_list_without_a_row_for_any_frame_is_an_error(tmp_path: Path) -> None:
    source = Timed(Uncounted(6), write(tmp_path, "frame,time_s\n100,0\n101,0.1\n"))
    with pytest.raises(IrstError, match=r"uncounted: .* has a row for none of its frames; is it of this recording\?"):
        list(source)


def test_a_camera_tells_its_own_times(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = str(tmp_path / "out")
    assert main(["run", "tcp://127.0.0.1:9/", "--device", "cpu", "--frame-times", "times.csv", "--out", out]) == 2
    assert "gives its frames their times itself; leave --frame-times out" in capsys.readouterr().err
