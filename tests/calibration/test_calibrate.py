"""`irst calibrate`, and runs with what it wrote."""

import json
import os
import threading
import time
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import yaml

from irst_pipeline.calibrate import calibrate_camera
from irst_pipeline.calibration import open_calibrator
from irst_pipeline.calibration.file import read_calibration
from irst_pipeline.cli import main
from irst_pipeline.config import CalibrationSettings, DetectionSettings
from irst_pipeline.errors import UsageError
from irst_pipeline.settings import validate
from irst_pipeline.simulation import simulate
from irst_pipeline.sources import open_source
from tests.simulation.small_scenes import rows, scene, target
from tests.sources.cameras import recorded

SIZE: dict[str, Any] = {"width_px": 128, "height_px": 96, "frame_rate_hz": 30}
PATTERN = {"psf_sigma_px": 0.8, "read_noise": 2, "offset_sd": 1, "column_sd": 0.5, "gain_sd": 0.01}
BRIGHT = {"hot_pixels": 6, "hot_level": 7450, "blinking_pixels": 12, "blink_levels": 40}
CAMERAS = {"bright": {**PATTERN, **BRIGHT}, "dead": {**PATTERN, **BRIGHT, "dead_pixels": 6}}
TARGETS = [
    target(x_px=20, y_px=30, vx_px_s=25, vy_px_s=4, snr=12),
    target(x_px=100, y_px=70, vx_px_s=-20, vy_px_s=-6, snr=12),
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """For each camera a recording of targets, a flat field and the calibration made from it: CAMERA/scene, ..."""
    root = tmp_path_factory.mktemp("cameras")
    for name, sensor in CAMERAS.items():
        clouds = {"coverage": 0.3, "contrast": 20}
        recorded: dict[str, dict[str, Any]] = {"scene": {"clouds": clouds, "targets": TARGETS}, "flat": {}}
        for what, tree in recorded.items():
            simulate(scene(**SIZE, frames=60, sensor=sensor, **tree), root / name / what, seed=5)
        arguments = [str(root / name / "flat/sequence16.mkv"), "--out"]
        assert main(["calibrate", *arguments, str(root / name / "scene/sequence16.safetensors")]) == 0
    return root


@pytest.fixture(scope="module")
def runs(folder: Path) -> Path:
    """Results of both cameras, raw and calibrated: raw/CAMERA, calibrated/CAMERA."""
    recordings = [str(folder / name / "scene/sequence16.mkv") for name in CAMERAS]
    common = ["--no-video", "--device", "cpu", "--out"]
    assert main(["run", *recordings, *common, str(folder / "raw")]) == 0
    assert main(["run", *recordings, "--calibration", "{}.safetensors", *common, str(folder / "calibrated")]) == 0
    return folder


def place_of(name: str) -> str:
    return "sequence16" if name == "bright" else "sequence16-2"


def false_detections(runs: Path, kind: str, name: str, lowest: float = 0.0) -> tuple[int, int]:
    """Detections of at least the score `lowest` farther than 3 px from every target, and those that are not."""
    detections = rows(runs / kind / place_of(name) / "detections.csv")
    truth = [(r["frame"], r["x_px"], r["y_px"]) for r in rows(runs / name / "scene/truth.csv")]
    found = [(r["frame"], r["x_px"], r["y_px"]) for r in detections if r["score"] >= lowest]
    right = sum(any(f == frame and np.hypot(x - u, y - v) < 3 for f, u, v in truth) for frame, x, y in found)
    return len(found) - right, right


def scores(runs: Path, kind: str, name: str) -> dict[str, Any]:
    out = runs / "scores" / kind / name
    results = str(runs / kind / place_of(name))
    if not out.exists():
        assert main(["evaluate", "tracking", str(runs / name / "scene"), results, "--out", str(out)]) == 0
    found: dict[str, Any] = json.loads((out / "tracking.json").read_text())
    return found


def test_hot_and_blinking_pixels_are_taken_for_targets_and_calibrated_ones_never(runs: Path) -> None:
    assert false_detections(runs, "raw", "bright")[0] > 30
    assert false_detections(runs, "calibrated", "bright")[0] == 0
    assert scores(runs, "calibrated", "bright")["false_tracks"] == 0


def test_defective_pixels_hide_targets_now_and_then_and_calibrated_ones_never(runs: Path) -> None:
    sure = DetectionSettings().threshold
    assert 60 < false_detections(runs, "raw", "dead", sure)[1] < 115, "they do not blind the network"
    assert false_detections(runs, "calibrated", "dead") == (0, 120), "each target in each frame, and nothing else"


@pytest.mark.parametrize("name", CAMERAS)
def test_targets_are_tracked_through_calibrated_frames(name: str, runs: Path) -> None:
    found = scores(runs, "calibrated", name)
    assert (found["tracks"], found["false_tracks"], found["id_switches"]) == (2, 0, 0)
    assert found["hota"] > 0.8


def test_what_was_found_is_said_and_drawn(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    flat, out = str(folder / "dead/flat/sequence16.mkv"), tmp_path / "new" / "c.safetensors"
    assert main(["calibrate", flat, "--out", str(out)]) == 0
    said = capsys.readouterr().out
    assert "offset-only, of 60 frames of 128x96 uint16" in said
    assert "24 of 12288: 6 dead, 6 hot, 12 blinking, 0 gain" in said
    assert cv2.imread(str(out.with_suffix(".png"))) is not None
    assert main(["calibrate", flat, "--out", str(out)]) == 2
    assert f"{out}: is there already; add --overwrite" in capsys.readouterr().err
    assert main(["calibrate", flat, "--out", str(out), "--overwrite"]) == 0


@pytest.mark.parametrize("source", ["", "*.png", "a.png"])
def test_no_frame_is_replaced_by_what_is_made_of_it(
    source: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in "ab":
        cv2.imwrite(str(tmp_path / f"{name}.png"), np.full((48, 64), 100, np.uint8))
    out = str(tmp_path / "a.safetensors")
    assert main(["calibrate", str(tmp_path / source), "--out", out, "--overwrite"]) == 2
    assert f"{tmp_path / 'a.png'}: is among the inputs" in capsys.readouterr().err


def test_names_may_be_of_any_bytes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    frames = tmp_path / os.fsdecode(b"flat\xff")
    frames.mkdir()
    for index in range(16):
        image = np.random.default_rng(index).normal(7000, 3, (48, 64)).astype(np.uint16)
        (frames / f"{index}.png").write_bytes(cv2.imencode(".png", image)[1].tobytes())
    out = frames / "c.safetensors"
    assert main(["calibrate", str(frames), "--out", str(out)]) == 0
    assert "flat\\udcff/c.safetensors" in capsys.readouterr().out
    assert read_calibration(out).depth == "uint16"


def test_a_scene_that_stands_still_is_warned_of(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    simulate(scene(**SIZE, frames=64, clouds={}, urban={"height_px": 40}), tmp_path / "still", seed=1)
    recording = str(tmp_path / "still/sequence16.mkv")
    assert main(["calibrate", recording, "--scene", "--out", str(tmp_path / "c.safetensors")]) == 0
    assert "the scene hardly moves" in caplog.text
    assert (read_calibration(tmp_path / "c.safetensors").gain == 1).all()


def test_a_scene_that_is_taken_for_a_flat_field_is_warned_of(
    folder: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for what, moves in (("flat", False), ("scene", True)):
        recording = str(folder / "dead" / what / "sequence16.mkv")
        assert main(["calibrate", recording, "--out", str(tmp_path / f"{what}.safetensors")]) == 0
        assert ("something moves in it" in caplog.text) == moves


def small_images(folder: Path, count: int, size: tuple[int, int] = (30, 40)) -> None:
    folder.mkdir()
    for index in range(count):
        cv2.imwrite(str(folder / f"{index}.png"), np.full(size, 7000 + index, np.uint16))


BAD = {
    "two levels too near": ("FLAT FLAT", 1, "clearly different temperatures"),
    "three fields": ("FLAT FLAT FLAT", 2, "3 sources; give one or two flat fields"),
    "a live source and another": ("tcp://me:pw@127.0.0.1:1 FLAT", 2, "tcp://***@127.0.0.1:1: the signal that ends"),
    "two scenes": ("--scene FLAT FLAT", 2, "2 sources"),
    "too few frames": ("SMALL/0.png", 1, "0.png: 1 frames, which are too few; give 16 or more"),
    "no noise": (
        "SMALL",
        1,
        "100% of the pixels stay at one level: black, saturated, or with noise that its levels hide",
    ),
    "tiny frames": ("TINY", 1, "tiny: frames are 8x4 uint16; give 16x16 px or more"),
    "frames of two sizes": ("FLAT SMALL", 2, "frames of 40x30 uint16, but FLAT has 128x96 uint16; record both"),
    "another suffix": ("FLAT --out x.npz", 2, "--out x.npz: expected a name that ends in .safetensors"),
    "no place for it, before anything is read": ("nowhere.mkv --out /proc/irst/c.safetensors", 1, "/proc/irst: cannot"),
    "nothing there": ("nowhere.mkv", 2, "nowhere.mkv: no such file"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input_is_told_in_one_line(
    case: str, folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    small_images(tmp_path / "small", 20)
    small_images(tmp_path / "tiny", 20, (4, 8))
    line, code, expected = BAD[case]
    flat, small, tiny = str(folder / "bright/flat/sequence16.mkv"), str(tmp_path / "small"), str(tmp_path / "tiny")
    arguments = line.replace("FLAT", flat).replace("SMALL", small).replace("TINY", tiny).split()
    assert main(["calibrate", "--out", str(tmp_path / "c.safetensors"), *arguments]) == code
    assert expected.replace("FLAT", flat) in capsys.readouterr().err.strip().splitlines()[-1]
    assert not (tmp_path / "c.safetensors").exists()


@pytest.mark.parametrize("file", ["sequence8.mp4", "small"])
def test_frames_unlike_the_calibration_end_the_run_before_it_writes_anything(
    file: str, folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    small_images(tmp_path / "small", 1)
    recording = tmp_path / "small" if file == "small" else folder / "dead/scene" / file
    calibration = folder / "dead/scene/sequence16.safetensors"
    arguments = ["--calibration", str(calibration), "--device", "cpu", "--out", str(tmp_path / "out")]
    assert main(["run", str(recording), *arguments]) == 2
    found = "40x30 uint16" if file == "small" else "128x96 uint8"
    expected = f"frames of {found}, but {calibration} is for 128x96 uint16; make a calibration"
    assert expected in capsys.readouterr().err.strip().splitlines()[-1]
    assert not (tmp_path / "out").exists()


def test_a_calibration_that_is_not_there_is_told_before_anything_is_written(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    recording = str(folder / "dead/scene/sequence16.mkv")
    arguments = ["--calibration", str(tmp_path / "none"), "--out", str(tmp_path / "out")]
    assert main(["run", recording, *arguments]) == 2
    assert f"{tmp_path}/none: no such calibration; `irst calibrate` makes one" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_the_door_opens_what_the_settings_say(folder: Path) -> None:
    recording = str(folder / "dead/scene/sequence16.mkv")
    assert open_calibrator(CalibrationSettings(), recording) is None
    frame = next(iter(open_source(recording)))
    words = yaml.safe_load("{file: '{}.safetensors', destripe: columns}")
    both = open_calibrator(validate(CalibrationSettings, words, "test"), recording)
    alone = open_calibrator(CalibrationSettings(file="{}.safetensors"), recording)
    assert both is not None
    assert alone is not None
    assert (alone(frame).index, alone(frame).time) == (frame.index, frame.time)
    assert (frame.image == 0).sum() == 6
    assert (alone(frame).image > 7000).all()
    assert not np.array_equal(both(frame).image, alone(frame).image)
    with pytest.raises(UsageError, match="no such calibration"):
        open_calibrator(CalibrationSettings(file="{}.safetensors"), "elsewhere.mkv")


@pytest.mark.parametrize("depth", ["uint8", "uint16"])
def test_a_black_hot_recording_gives_the_tracks_of_its_negative(folder: Path, tmp_path: Path, depth: str) -> None:
    for frame in open_source(str(folder / "dead/scene/sequence16.mkv")):
        image = frame.image if depth == "uint16" else np.clip(frame.image.astype(int) - 7200, 0, 255).astype(np.uint8)
        for name, shown in (("white", image), ("black", ~image)):
            (tmp_path / name).mkdir(exist_ok=True)
            cv2.imwrite(str(tmp_path / name / f"{frame.index:03}.png"), shown)
    logs = {}
    for name in ("white", "black"):
        polarity = f"calibration.polarity={name}_hot"
        arguments = ["--set", polarity, "--no-video", "--device", "cpu", "--out", str(tmp_path / "out" / name)]
        assert main(["run", str(tmp_path / name), *arguments]) == 0
        logs[name] = [(tmp_path / "out" / name / log).read_text() for log in ("tracks.csv", "detections.csv")]
    assert len(logs["white"][0].splitlines()) > 60
    assert logs["black"] == logs["white"]


@pytest.mark.alone  # a live source has FFmpeg log, in this process
def test_a_live_camera_whose_frames_change_costs_no_calibration(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    fifo, stop = tmp_path / "camera", threading.Event()
    os.mkfifo(fifo)

    def film() -> None:
        for size, count in (((48, 64), 20), ((64, 80), 5)):
            images = [np.random.default_rng(i).integers(900, 1100, size).astype(np.uint16) for i in range(count)]
            fifo.write_bytes(recorded(images))
            time.sleep(0.5)
        with fifo.open("wb"):  # once all before it is read
            stop.set()

    threading.Thread(target=film, daemon=True).start()
    calibrate_camera([f"fifo://{fifo}"], False, tmp_path / "camera.safetensors", False, stop)
    assert "of 20 frames of 64x48 uint16" in capsys.readouterr().out
    assert "frame 20 is 80x64 uint16, the first was 64x48 uint16; it is left out" in caplog.text
    assert (tmp_path / "camera.safetensors").exists()
