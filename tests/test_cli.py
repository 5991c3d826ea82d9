"""The verbs beside `run`, from the command line."""

from pathlib import Path

import pytest

from irst_pipeline.cli import main

SMALL = """
width_px: 32
height_px: 24
frames: 5
terrain: {height_px: 0}
targets: [{x_px: 10, y_px: 10, vx_px_s: 20, vy_px_s: 0, snr: 10}]
"""


def test_simulate_writes_a_sequence_that_run_reads(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "scene.yaml").write_text(SMALL)
    assert main(["simulate", str(tmp_path / "scene.yaml"), "--out", str(tmp_path / "scene"), "--seed", "4"]) == 0
    for name in ("sequence16.mkv", "sequence8.mp4"):
        assert main(["run", str(tmp_path / "scene" / name), "--out", str(tmp_path / name), "--no-video"]) == 0
        assert "complete: 5 frames, 0 failed" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ("frames: 5", "framse: 5"),
        ("snr: 10", "snrr: 10"),
    ],
)
def test_a_misspelt_key_of_a_scene_is_named(
    change: str, expected: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "scene.yaml").write_text(SMALL.replace(change, expected))
    assert main(["simulate", str(tmp_path / "scene.yaml"), "--out", str(tmp_path / "scene")]) == 2
    error = capsys.readouterr().err
    right, wrong = change.partition(":")[0], expected.partition(":")[0]
    assert f"unknown key `{wrong}`" in error or f".{wrong}`" in error
    assert f"{right}`?" in error
    assert not (tmp_path / "scene").exists()


def test_a_flag_that_a_verb_does_not_know_is_told_with_those_that_it_knows(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["run", "a.mp4", "--novideo"])
    error = capsys.readouterr().err
    assert ended.value.code == 2
    assert "--no-video" in error
    assert error.endswith("irst run: error: unrecognized arguments: --novideo\n")


def test_train_tells_what_is_missing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = Path(__file__).parents[1] / "configs" / "train" / "lsnet-nano.yaml"
    arguments = ["train", "--config", str(config), "--data", str(tmp_path), "--out", str(tmp_path / "run")]
    assert main(arguments) == 2
    assert f"{tmp_path}/NUDT-SIRST: no such folder; give the data root with --data" in capsys.readouterr().err


@pytest.mark.parametrize(
    "arguments",
    [
        ["rtsp://user:s3cret@cam/live"],
        ["run", "--metrics", "rtsp://user:s3cret@cam/live"],
        [
            "run",
            "a.mp4",
            "--no-video",
            "fifo:///tmp/y16",
            "rtsp://user:s3 c@ret@cam/live",
            "http://cam/live?pwd=s3cret",
        ],
    ],
)
def test_an_address_in_the_wrong_place_shows_no_password(
    arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    assert ended.value.code == 2
    error = capsys.readouterr().err
    assert "cam/live" in error
    assert not any(part in error for part in ("user", "s3", "ret"))
