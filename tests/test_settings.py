"""Settings: what is accepted, and the one line that says why something is not."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from irst_pipeline.config import RunSettings
from irst_pipeline.errors import UsageError
from irst_pipeline.lsnet.model import LSNetConfig
from irst_pipeline.settings import read_settings
from irst_pipeline.training.settings import TrainSettings
from tests.running import ROOT


def test_the_documented_defaults_are_the_defaults() -> None:
    path = ROOT / "configs" / "default.yaml"
    assert read_settings(RunSettings, path) == RunSettings()
    assert yaml.safe_load(path.read_text()).keys() == RunSettings.model_fields.keys()


def test_configs_of_models_and_training_are_valid() -> None:
    for name in ("lsnet-nano", "lsnet-base"):
        read_settings(LSNetConfig, ROOT / f"configs/models/{name}.yaml")
        training = read_settings(TrainSettings, ROOT / f"configs/train/{name}.yaml")
        assert training.model == Path(f"configs/models/{name}.yaml")


def test_overrides_win_over_the_file(tmp_path: Path) -> None:
    path = tmp_path / "c.yaml"
    path.write_text("tracker: {coast_seconds: 3, velocity_walk: 80}\n")
    found = read_settings(RunSettings, path, ["tracker.coast_seconds=5", "device=cpu"])
    assert (found.tracker.coast_seconds, found.tracker.velocity_walk, found.device) == (5, 80.0, "cpu")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("trackr: {}", "unknown key `trackr`; did you mean `tracker`?"),
        ("tracker: {coast_second: 3}", "unknown key `tracker.coast_second`; did you mean `tracker.coast_seconds`?"),
        ("tracker: {coast: 3}", "unknown key `tracker.coast`; did you mean `tracker.coast_seconds`?"),
        (
            "detection: {sensitivity: 3}",
            "unknown key `detection.sensitivity`; known: detection.threshold, .*max_detections$",
        ),
        ("detection: {min_area: many}", "key `detection.min_area`: expected a valid integer, .* found 'many'"),
        ("metrics: {port: true}", "key `metrics.port`: expected a number, found True"),
        ("video: {percentiles: [true, 99]}", "key `video.percentiles`: expected a number"),
        ("detection: {min_area: true}", "key `detection.min_area`: expected a number, found True"),
        ("tracker: {coast_seconds: true}", "key `tracker.coast_seconds`: expected a number, found True"),
        (
            "detection: {threshold: 0.2, weak_threshold: 0.4}",
            r"key `detection`: expected a weak_threshold of at most the threshold \(0.2\), or null for none",
        ),
        ("detection: {threshold: 1.5}", "key `detection.threshold`: expected less than 1, found 1.5"),
        ("tracker: {target_score: [0.9, 0.4]}", "key `tracker`: expected scores of mean 0.9 with a spread below 0.300"),
        ("tracker: {speed_sd: 1.0e-300}", "key `tracker.speed_sd`: expected at least 1e-9, found 1e-300"),
        ("tracker: {target_score: [0.5, 1.0e-300]}", "key `tracker.target_score.1`: expected at least 1e-9"),
        ("video: {percentiles: [90, 10]}", "key `video`: expected percentiles with the first below"),
        ("tracker: 7", "key `tracker`: expected a section of keys, found 7"),
        ("device: 3", "key `device`: expected text, found 3"),
        ("compile: maybe", "key `compile`: expected true or false, found 'maybe'"),
        ("tracker: {target_score: [0.9]}", r"key `tracker.target_score`: expected 2 numbers, as \[1, 2\]$"),
        ("tracker: {target_score: []}", r"key `tracker.target_score`: expected 2 numbers, as \[1, 2\]$"),
        ("sinks: mot", "key `sinks`: expected a list, found 'mot'"),
        ("sinks: [mot, mot]", "key `sinks`: expected each name once"),
        ("sinks: [video, vide]", "key `sinks.1`: expected 'tracks_jsonl'.* found 'vide'"),
        ("- a\n- b", "expected `key: value` lines, found list"),
        ("a: [1", "not valid YAML"),
        ("camera: {pointing: {}.csv}", "not valid YAML: .* a name that begins with {} needs quotes that YAML sees"),
        ("tracker:\n coast_seconds: 2\n  x: 3", "mapping values are not allowed here in line 3, column 4"),
        ("video: {clahe: 2}\ndevice: cpu\nvideo: {agc: plateau}", "key `video` is there twice in line 3"),
        ("queue_frames: !!int ''", "not valid YAML"),
        ("#" + (1 << 20) * "#", "more than 1048576 letters; is it the file that was meant?"),
        ("device: !!bool maybe", "not valid YAML"),
        ("device: !!timestamp today", "not valid YAML"),
        ('"dev\\nice": cpu', "unknown key `dev ice`"),
        ("detection: {1: 3}", "unknown key `detection.1`; known: detection.threshold, .*max_detections$"),
        ("null: 3", "unknown key `None`; known: model, .*rotate$"),
    ],
)
def test_a_bad_file_is_told_in_one_line(text: str, expected: str, tmp_path: Path) -> None:
    path = tmp_path / "c.yaml"
    path.write_text(text)
    with pytest.raises(UsageError, match=f"^{path}: .*{expected}") as caught:
        read_settings(RunSettings, path)
    assert "\n" not in str(caught.value)


def test_a_file_is_utf_8_whatever_the_locale(tmp_path: Path) -> None:
    path = tmp_path / "c.yaml"
    path.write_text("model: Kühlturm\n", "utf-8")
    program = (
        "import sys; from pathlib import Path; from irst_pipeline.config import RunSettings;"
        "from irst_pipeline.settings import read_settings;"
        "print(ascii(read_settings(RunSettings, Path(sys.argv[1])).model))"
    )
    plain = os.environ | {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0", "PYTHONPATH": str(ROOT)}
    ran = subprocess.run([sys.executable, "-c", program, path], env=plain, capture_output=True, text=True, check=True)
    assert ran.stdout == ascii("Kühlturm") + "\n"


def test_an_error_names_where_it_comes_from(tmp_path: Path) -> None:
    path = tmp_path / "good.yaml"
    path.write_text("device: cpu\n")
    with pytest.raises(UsageError, match=r"^--set: unknown key `tracker\.confirm`"):
        read_settings(RunSettings, path, ["tracker.confirm=3"])


@pytest.mark.parametrize(
    ("flags", "expected"),
    [
        ({"--metrics": ("metrics.port", 99999)}, "--metrics: key `metrics.port`: .* found 99999"),
        ({"--pointing": ("camera.pointing", "p.csv")}, r"--pointing: key `camera`: expected a model \(--camera\)"),
        ({"--device": ("device", "cpu")}, "--set: key `metrics.port`"),
    ],
)
def test_an_error_names_the_flag_that_it_is_of(flags: dict[str, tuple[str, Any]], expected: str) -> None:
    overrides = ["metrics.port=0"] if "--device" in flags else []
    with pytest.raises(UsageError, match=f"^{expected}"):
        read_settings(RunSettings, None, overrides, flags)


def test_other_bad_input(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="expected KEY=VALUE"):
        read_settings(RunSettings, None, ["device"])
    with pytest.raises(UsageError, match="No such file"):
        read_settings(RunSettings, tmp_path / "none.yaml")
    with pytest.raises(UsageError, match=r"unknown key `coast_seconds`; did you mean `tracker\.coast_seconds`"):
        read_settings(RunSettings, None, ["coast_seconds=3"])
    (tmp_path / "m.yaml").write_text("stages: 3\n")
    with pytest.raises(UsageError, match="key `stride` is missing"):
        read_settings(LSNetConfig, tmp_path / "m.yaml")
    (tmp_path / "m.yaml").write_text((ROOT / "configs/models/lsnet-nano.yaml").read_text() + "stage: 3\n")
    with pytest.raises(UsageError, match="unknown key `stage`; did you mean `stages`"):
        read_settings(LSNetConfig, tmp_path / "m.yaml")


@pytest.mark.parametrize(
    ("sources", "expected"),
    [
        ("[]", "key `sources`: expected at least one entry"),
        ("[{folder: a, layout: backgrounds}]", "key `sources.0.weight` is missing"),
    ],
)
def test_only_a_list_without_entries_is_told_to_be_too_short(tmp_path: Path, sources: str, expected: str) -> None:
    path = tmp_path / "train.yaml"
    path.write_text(f"model: net.yaml\nsteps: 1\nsources: {sources}")
    with pytest.raises(UsageError) as caught:
        read_settings(TrainSettings, path)
    assert str(caught.value) == f"{path}: {expected}"


def test_a_file_need_not_be_whole_without_what_completes_it(tmp_path: Path) -> None:
    path = tmp_path / "own.yaml"
    path.write_text("detection: {weak_threshold: 0.4}\ncamera: {pointing: pointing.csv}\n")
    camera = {"--camera": ("camera.model", "camera.yaml")}
    settings = read_settings(RunSettings, path, ["detection.threshold=0.5"], camera)
    assert (settings.detection.weak_threshold, settings.camera.pointing) == (0.4, "pointing.csv")
    for overrides, flags, told in (([], camera, path), (["detection.threshold=0.5"], {}, path)):
        with pytest.raises(UsageError, match=f"^{told}: key `(detection|camera)`"):
            read_settings(RunSettings, path, overrides, flags)
    path.write_text("tracker: 5\n")
    with pytest.raises(UsageError, match=r"key `tracker`: expected .*, found 5"):
        read_settings(RunSettings, path, ["tracker.coast_seconds=1"])
