"""Where a platform points, from files of all kinds."""

import tracemalloc
from pathlib import Path

import numpy as np
import pytest

from irst_pipeline.bearings.pointing import orientation, read_pointing
from irst_pipeline.errors import UsageError
from irst_pipeline.types import Floats, Frame

IMAGE = np.zeros((4, 4), np.uint8)


def write(folder: Path, text: str) -> Path:
    path = folder / "p.csv"
    path.write_bytes(text.encode())
    return path


def angles(turn: Floats) -> tuple[float, float]:
    """Azimuth and elevation of the line of sight, which is the camera's z."""
    x, y, z = turn[:, 2]
    return float(np.rad2deg(np.arctan2(x, z)) % 360), float(np.rad2deg(np.arcsin(-y)))


@pytest.mark.parametrize("key", ["frame", "time_s"])
def test_between_rows_it_turns_evenly_and_the_short_way_round(key: str, tmp_path: Path) -> None:
    path = write(tmp_path, f"{key},azimuth_deg,elevation_deg\n0,358,0\n10,4,0\n20,4,30\n")
    pointing = read_pointing(path)

    def at(when: float) -> tuple[float, float]:
        by_frame = key == "frame"
        frame = Frame(IMAGE, round(when) if by_frame else 7, 99.0 if by_frame else when, "clip")
        return angles(pointing.at(frame))

    assert at(0) == pytest.approx((358, 0))
    assert at(3) == pytest.approx((359.8, 0))
    assert at(5) == pytest.approx((1, 0))
    assert at(16) == pytest.approx((4, 18))
    assert at(20) == pytest.approx((4, 30))
    assert np.isnan(at(-1)).all()
    assert np.isnan(at(21)).all()


def test_times_that_are_rounded_as_in_the_logs_reach_to_the_first_and_the_last_frame(tmp_path: Path) -> None:
    path = write(tmp_path, "time_s,azimuth_deg,elevation_deg\n0.066667,7,0\n0.133333,9,0\n")
    pointing = read_pointing(path)
    for index, azimuth in ((2, 7), (3, 8), (4, 9)):
        assert angles(pointing.at(Frame(IMAGE, index, index / 30, "clip")))[0] == pytest.approx(azimuth, abs=1e-4)
    for index in (1, 5):
        assert np.isnan(pointing.at(Frame(IMAGE, index, index / 30, "clip"))).all()


def test_columns_may_be_named_in_capitals(tmp_path: Path) -> None:
    pointing = read_pointing(write(tmp_path, "Frame,Azimuth_deg,ELEVATION_DEG,Roll_deg\n5,7,1,30\n6,7,1,30\n"))
    upright = read_pointing(write(tmp_path, "frame,azimuth_deg,elevation_deg\n5,7,1\n6,7,1\n"))
    frame = Frame(IMAGE, 5, 0.0, "clip")
    roll = upright.at(frame).T @ pointing.at(frame)
    assert np.rad2deg(np.arctan2(roll[1, 0], roll[0, 0])) == pytest.approx(30)


def test_over_the_zenith_there_is_no_jump(tmp_path: Path) -> None:
    path = write(tmp_path, "time_s,azimuth_deg,elevation_deg,roll_deg\n0,10,80,0\n1,190,80,180\n")
    pointing = read_pointing(path)
    sights = np.array([pointing.at(Frame(IMAGE, 0, time, "clip"))[:, 2] for time in np.linspace(0, 1, 21)])
    steps = np.rad2deg(np.arccos((sights[1:] * sights[:-1]).sum(1)))
    np.testing.assert_allclose(steps, 1, atol=1e-6)
    assert sights[10, 1] == pytest.approx(-1)


def test_the_order_of_turns() -> None:
    """Yaw to the right, then pitch up, then roll with the right side down, each of the camera as it is by then."""
    turns = orientation(np.array([[90.0, 0, 0], [90, 30, 0], [90, 30, 90]]))
    right, down, forward = np.moveaxis(turns.as_matrix(), 2, 0)
    sine, cosine = 0.5, np.sqrt(0.75)
    np.testing.assert_allclose(forward, [[1, 0, 0], [cosine, -sine, 0], [cosine, -sine, 0]], atol=1e-12)
    np.testing.assert_allclose(right, [[0, 0, -1], [0, 0, -1], [sine, cosine, 0]], atol=1e-12)
    np.testing.assert_allclose(down, [[0, 1, 0], [sine, cosine, 0], [0, 0, 1]], atol=1e-12)


def test_files_as_spreadsheets_write_them(tmp_path: Path) -> None:
    text = "\ufefftime_s, frame, elevation_deg, controller, azimuth_deg\r\n100, 0, 5, a, 7\r\n\r\n200, 9, 5, b, 7\r\n"
    pointing = read_pointing(write(tmp_path, text))
    assert angles(pointing.at(Frame(IMAGE, 4, 1e9, "clip"))) == pytest.approx((7, 5))  # by the frame, if both are there


@pytest.mark.parametrize("separator", [";", "\t"])
@pytest.mark.parametrize("decimal", [".", ","])
def test_files_as_spreadsheets_write_them_elsewhere(separator: str, decimal: str, tmp_path: Path) -> None:
    rows = ["frame", "azimuth_deg", "elevation_deg"], ["0", f"7{decimal}25", "5"], ["9", f"7{decimal}25", "5"]
    pointing = read_pointing(write(tmp_path, "".join(separator.join(row) + "\r\n" for row in rows)))
    assert angles(pointing.at(Frame(IMAGE, 4, 1e9, "clip"))) == pytest.approx((7.25, 5))


HEAD = "frame,azimuth_deg,elevation_deg\n"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("frame,azimuth_deg\n0,1\n1,2\n", " line 1: no column elevation_deg"),
        ("azimuth_deg,elevation_deg\n0,1\n1,2\n", " line 1: no column frame or time_s"),
        ("frame azimuth_deg elevation_deg\n0 1 2\n", " line 1: no column azimuth_deg; .*commas, semicolons or tabs"),
        ("frame;azimuth_deg;elevation_deg\n0;1.000,5;2\n", " line 2: azimuth_deg is '1.000,5'; expected a number"),
        ("", " line 1: no column"),
        ("frame , azimuth_deg , azimuth_deg, elevation_deg\n0,1,1,2\n", " line 1: column azimuth_deg is there 2 times"),
        ("frame,azimuth_deg,elevation_deg,roll_rad\n", " line 1: column roll_rad is none of .*, roll_deg; rename it"),
        ("frame,azimuth_deg,elevation_deg, Roll\n", " line 1: column roll is none of .*, roll_deg; rename it"),
        (HEAD + "0,1,2\n1,1e300,2\n", r" line 3: azimuth_deg or roll_deg beyond \+-3600; give degrees"),
        (HEAD + "0,1,2\n1,nan,2\n", " line 3: azimuth_deg is 'nan'; expected a number, or strike the row out"),
        (HEAD + "0,1,2\n1,,2\n", " line 3: azimuth_deg is missing"),
        (HEAD + "0,1,2\n\n1,3\n", " line 4: elevation_deg is missing"),
        (HEAD + "0,310,5,4,0\n1,311,5,4,0\n", " line 2: more cells than columns; if decimals have commas, columns"),
        (HEAD + "0,1,2\n1,west,2\n", " line 3: azimuth_deg is 'west'"),
        (HEAD + "0,1,2\n1,inf,2\n", " line 3: azimuth_deg is 'inf'"),
        (HEAD + "0,1,2\n1,3,90.5\n", r" line 3: elevation_deg beyond \+-90"),
        (HEAD + "0,1,2\n5,1,2\n5,1,2\n", " line 4: frame does not increase; sort"),
        (HEAD + "0,1,2\n", ": fewer than two rows"),
        (HEAD + "0,10,0\n5,20,0\n9,200,0\n", " line 4: half a turn from the row before"),
    ],
)
def test_a_bad_file_is_told_in_one_line(text: str, expected: str, tmp_path: Path) -> None:
    path = write(tmp_path, text)
    with pytest.raises(UsageError, match=f"^{path}{expected}") as caught:
        read_pointing(path)
    assert "\n" not in str(caught.value)


def test_a_long_file_is_read_without_keeping_its_text_and_rows(tmp_path: Path) -> None:
    rows = "".join(f"{row / 100:.2f},{row * 0.01 % 360:.2f},4.5,0\n" for row in range(20_000))
    path = write(tmp_path, f"time_s,azimuth_deg,elevation_deg,roll_deg\n{rows}")
    tracemalloc.start()
    try:
        pointing = read_pointing(path)
        _, most = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert pointing.span == "time_s 0 to 199.99"
    assert most / 20_000 < 250, "bytes a row"


def test_what_is_no_text_is_told(tmp_path: Path) -> None:
    (tmp_path / "p.csv").write_bytes(b"\xff\xfe\x00\x81")
    for path, said in ((tmp_path / "p.csv", "not text"), (tmp_path / "none.csv", "cannot"), (tmp_path, "cannot")):
        with pytest.raises(UsageError, match=f"^{path}: {said}"):
            read_pointing(path)
