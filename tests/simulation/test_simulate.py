"""Simulated sequences: truth, noise and files."""

import math
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
import yaml
from numpy.typing import NDArray

from irst_pipeline.errors import IrstError, UsageError
from irst_pipeline.settings import read_settings
from irst_pipeline.simulation import SceneSettings, simulate
from irst_pipeline.simulation.sensor import Sensor, SensorSettings
from irst_pipeline.simulation.simulate import render
from tests.running import ROOT, short_of_memory
from tests.simulation.small_scenes import centroid, frames_of, images, rows, scene, target

SAMPLES = {"clouds": ("sequence16.mkv", 7), "horizon": ("sequence8.mp4", 3)}


def decode(path: Path) -> list[NDArray[Any]]:
    """The stored samples, all planes, without any conversion."""
    with av.open(str(path)) as file:
        return [frame.to_ndarray() for frame in file.decode(video=0)]


def test_truth_is_the_intensity_centroid() -> None:
    flight = target(x_px=14.3, y_px=12.6, vx_px_s=63.7, vy_px_s=31.1, snr=8000)
    for frame in frames_of(targets=[flight], sensor={"read_noise": 0.5}):
        assert centroid(frame) == pytest.approx((frame.targets[0].x, frame.targets[0].y), abs=0.05)


@pytest.mark.parametrize("sigma", [0.3, 0.8, 2.5])
def test_a_point_keeps_its_signal_wherever_it_falls(sigma: float) -> None:
    rng = np.random.default_rng(0)
    sensor = Sensor(SensorSettings(psf_sigma_px=sigma), (64, 64), rng, rng)
    for shift in np.linspace(0, 1, 11):
        image = np.zeros((64, 64))
        sensor.add_point(image, 30 + shift, 31 - shift / 3, 1000.0)
        assert image.sum() == pytest.approx(1000.0, abs=1e-4)
    centred = np.zeros((64, 64))
    sensor.add_point(centred, 30, 31, 1000.0)
    assert centred[31, 30] == pytest.approx(1000 * sensor.peak) == centred.max()


def test_noise_has_the_set_standard_deviation() -> None:
    frames = images(frames_of(sensor={"read_noise": 4.0}))
    assert np.sqrt(frames.var(axis=0, ddof=1).mean()) == pytest.approx(4.0, rel=0.02)
    assert frames.mean() == pytest.approx(7300, abs=0.1)
    pairs = np.corrcoef(frames.reshape(len(frames), -1))
    assert np.abs(pairs - np.eye(len(frames))).max() < 0.1, "noise of different frames is independent"


def test_shot_noise_grows_with_the_level() -> None:
    sensor = {"read_noise": 3.0, "electrons_per_level": 100.0}
    frames = images(frames_of(sensor=sensor))
    assert (frames - frames.mean()).std() == pytest.approx(np.sqrt(9 + 73), rel=0.03)


@pytest.mark.parametrize("snr", [5, 15])
def test_peak_snr_is_the_set_one(snr: float) -> None:
    sensor = {"read_noise": 3.0}
    frames = frames_of(frames=400, width_px=32, height_px=32, targets=[target(snr=snr)], sensor=sensor)
    levels = images(frames)
    peak, sky = levels[:, 20, 20], levels[:, :10, :10]
    assert (peak.mean() - sky.mean()) / sky.std() == pytest.approx(snr, rel=0.05)
    assert {frame.targets[0].snr for frame in frames} == {snr}


@pytest.mark.parametrize("sensor", [{"read_noise": 0, "electrons_per_level": 10}, {"read_noise": 1e-9}])
def test_a_scene_without_noise_is_a_scene(sensor: dict[str, float]) -> None:
    """A sky of level 0 has no shot noise."""
    dark: dict[str, Any] = {"sky": {"level": 0, "glow": 0}}
    frames = frames_of(frames=2, targets=[target(snr=10)], sensor=sensor, **dark)
    assert all(math.isfinite(state.snr) for frame in frames for state in frame.targets)


def test_truth_snr_is_over_the_noise_where_the_target_is() -> None:
    """Shot noise is stronger before a bright cloud, so the same target stands out less."""
    clouds, sensor = {"coverage": 1, "contrast": 6000}, {"read_noise": 1.0, "electrons_per_level": 50}
    frames = frames_of(clouds=clouds, sensor=sensor, targets=[target(snr=10)])
    assert all(6 < frame.targets[0].snr < 10 for frame in frames)


def test_a_seed_makes_one_sequence() -> None:
    tree: dict[str, Any] = {"clouds": {}, "terrain": {"height_px": 8, "trees_px": 5}, "random": {"count": 3}}
    one, again, other = (frames_of(seed, **tree) for seed in (5, 5, 6))
    assert np.array_equal(images(one), images(again))
    assert [frame.targets for frame in one] == [frame.targets for frame in again]
    assert not np.array_equal(images(one), images(other))
    assert one[0].targets != other[0].targets


def test_random_targets_keep_their_ranges_and_the_sky() -> None:
    settings = scene(terrain={"height_px": 8}, random={"count": 50, "snr": [6, 7], "speed_px_s": [20, 30]})
    frames = list(render(settings, 1))
    for state in frames[6].targets:
        assert 6 <= state.snr <= 7
        assert 20 <= np.hypot(state.vx, state.vy) <= 30 + 1e-9
        assert state.visible
    assert all(0 <= state.y <= settings.sky_px for frame in frames for state in frame.targets)


def test_clouds_drift() -> None:
    clouds = {"coverage": 0.5, "contrast": 500, "drift_px_s": [5, 2]}
    first, *_, last = images(frames_of(frames=26, clouds=clouds, sensor={"read_noise": 0.5}))
    assert np.abs(last[2:, 5:] - first[:-2, :-5]).max() < 6, "one second later the clouds are 5 px right and 2 px down"


def test_targets_enter_leave_and_end(tmp_path: Path) -> None:
    flights = [
        target(x_px=-4.0, vx_px_s=50),
        target(x_px=60.0, y_px=30.0, vx_px_s=50),
        target(first_frame=3, last_frame=7),
    ]
    simulate(scene(targets=flights), tmp_path / "out", 1)
    truth = rows(tmp_path / "out" / "truth.csv")
    lives = {n: [(row["frame"], row["visible"]) for row in truth if row["id"] == n] for n in (1, 2, 3)}
    assert lives[1] == [(frame, float(-4 + 2 * frame >= -0.5)) for frame in range(12)]
    assert lives[2] == [(frame, float(60 + 2 * frame < 63.5)) for frame in range(12)]
    assert lives[3] == [(frame, 1.0) for frame in range(3, 8)]


def test_files_hold_the_rendered_frames_and_truth(tmp_path: Path) -> None:
    settings = scene(clouds={}, random={"count": 3}, view_levels=[7250, 7400])
    simulate(settings, tmp_path, 9)
    frames = list(render(settings, 9))
    for frame, deep, shown in zip(
        frames, decode(tmp_path / "sequence16.mkv"), decode(tmp_path / "sequence8.mp4"), strict=True
    ):
        assert deep.dtype == np.uint16
        assert np.array_equal(deep, frame.image)
        luma = np.clip(np.rint(16 + (frame.image - 7250.0) * 219 / 150), 16, 235)
        assert np.array_equal(shown[:48], luma)
        assert (shown[48:] == 128).all()
    with av.open(str(tmp_path / "sequence8.mp4")) as file:
        assert [packet.time for packet in file.decode(video=0)] == pytest.approx([frame.time for frame in frames])
    truth = [row for row in rows(tmp_path / "truth.csv") if row["visible"]]
    boxes = [[float(cell) for cell in line.split(",")] for line in (tmp_path / "truth.mot.txt").open()]
    assert len(truth) == len(boxes) > 0
    for row, (frame_number, number, left, top, width, height, *_) in zip(truth, boxes, strict=True):
        assert (frame_number, number) == (row["frame"] + 1, row["id"])
        assert left + width / 2 == pytest.approx(row["x_px"], abs=1e-9)
        assert top + height / 2 == pytest.approx(row["y_px"], abs=1e-9)


def test_the_written_scene_makes_the_same_files(tmp_path: Path) -> None:
    simulate(scene(clouds={}, terrain={"height_px": 8}, random={"count": 2}), tmp_path / "one", 4)
    written = tmp_path / "one" / "scene.yaml"
    assert "--seed 4" in written.read_text().splitlines()[0]
    simulate(read_settings(SceneSettings, written), tmp_path / "two", 4)
    names = sorted(path.name for path in (tmp_path / "one").iterdir())
    assert names == ["scene.yaml", "sequence16.mkv", "sequence8.mp4", "truth.csv", "truth.mot.txt"]
    for name in names:
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes(), name


@pytest.mark.parametrize("name", SAMPLES)
def test_samples_are_made_again_bit_for_bit(name: str, tmp_path: Path) -> None:
    video, seed = SAMPLES[name]
    path = Path("videos") / name / "scene.yaml"
    assert f"irst simulate {path} --out DIR --seed {seed}`" in (ROOT / "videos/README.md").read_text()
    simulate(read_settings(SceneSettings, ROOT / path), tmp_path, seed)
    shipped, made = decode(ROOT / "videos" / name / video), decode(tmp_path / video)
    assert all(np.array_equal(a, b) for a, b in zip(shipped, made, strict=True))
    for truth in ("truth.csv", "truth.mot.txt"):
        assert (ROOT / "videos" / name / truth).read_bytes() == (tmp_path / truth).read_bytes()


def test_samples_are_small() -> None:
    assert sum(path.stat().st_size for path in (ROOT / "videos").rglob("*") if path.is_file()) < 5e6


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"cloud": {}}, "unknown key `cloud`; did you mean `clouds`?"),
        ({"sensor": {"read_nose": 3}}, "unknown key `sensor.read_nose`; did you mean `sensor.read_noise`?"),
        ({"random": {"count": 1, "snr": [9, 5]}}, "key `random.snr`: expected [low, high] with low <= high"),
        ({"width_px": 63}, "key `width_px`: expected a multiple of 2"),
        ({"frames": 0}, "key `frames`"),
        ({"frames": 10**9}, "key `frames`: expected less than or equal to 1000000"),
        ({"random": {"turn_deg_s": [10, 4000]}}, "key `random.turn_deg_s.1`: expected less than or equal to 3600"),
        ({"urban": {"height_px": 16, "block_px": 1e8}}, "key `urban.block_px`: expected less than or equal to 4096"),
        ({"urban": {"height_px": 16, "hot_spots": 1e8}}, "key `urban.hot_spots`: expected less than or equal to 1000"),
        ({"sensor": {"electrons_per_level": 1e-300}}, "key `sensor.electrons_per_level`"),
        ({"frame_rate_hz": 1e-4}, "key `frame_rate_hz`: expected greater than or equal to 0.01, found 0.0001"),
        ({"clouds": {"coverage": 1.5}}, "key `clouds.coverage`"),
        ({"sensor": {"read_noise": 0}}, "key `sensor`: expected read_noise above 0"),
        ({"view_levels": [7300, 7300]}, "view_levels"),
        ({"terrain": {"height_px": 40}}, "terrain.height_px + trees_px to leave 8 rows of sky"),
        ({"targets": [{"x_px": 1}]}, "key `targets.0.y_px` is missing"),
        ({"targets": [target(first_frame=5, last_frame=4)]}, "last_frame at or after first_frame (5)"),
        ({"targets": [target(last_frame=12)]}, "targets.0 to lie within the 12 frames (0 to 11)"),
        ({"targets": [target(), target()]}, "targets.1 to differ from targets.0"),
        ({"targets": [target(x_px=-50, vx_px_s=-1)]}, "targets.0 to enter the 64x48 px frame"),
        ({"targets": [target(manoeuvres=[{"first_frame": 3, "last_frame": 3}])]}, "last_frame after first_frame (3)"),
        (
            {
                "targets": [
                    target(manoeuvres=[{"first_frame": 1, "last_frame": 5}, {"first_frame": 4, "last_frame": 6}])
                ]
            },
            "key `targets.0`: expected manoeuvres.1 to begin at or after frame 5",
        ),
        ({"targets": [target(dimming=[{"first_frame": 1, "last_frame": 5, "share": 2}])]}, "targets.0.dimming.0.share"),
        ({"sea": {"height_px": 45}}, "sea.height_px to leave 8 rows of sky in 48"),
        ({"urban": {"height_px": 45}}, "urban.height_px to leave 8 rows of sky in 48"),
        ({"random": {"manoeuvres": 7}}, "random.manoeuvres with 2 frames or more for each of them in 12"),
        ({"sensor": {"dead_pixels": 4000}}, "sensor to have no more defective pixels than 64x48"),
        ({"camera": {"pan_px_s": [1e7, 0]}}, "camera.pan_px_s to sweep 34 Mpx of scene or less"),
        ({"targets": [{"x": 1}]}, "unknown key `targets.0.x`; did you mean `targets.0.x_px`?"),
        ({"camera": {"jitter": 1}}, "unknown key `camera.jitter`; did you mean `camera.jitter_px`?"),
    ],
)
def test_a_bad_scene_file_is_named_with_its_key(change: dict[str, Any], words: str, tmp_path: Path) -> None:
    path = tmp_path / "scene.yaml"
    path.write_text(yaml.safe_dump({"width_px": 64, "height_px": 48, "frames": 12, **change}))
    with pytest.raises(UsageError, match=re.escape(words)) as caught:
        read_settings(SceneSettings, path)
    assert str(caught.value).startswith(f"{path}: ")
    assert "\n" not in str(caught.value)


def a_file(out: Path) -> None:
    out.write_text("")


def a_full_folder(out: Path) -> None:
    out.mkdir()
    (out / "notes.txt").write_text("mine")


@pytest.mark.parametrize(
    ("prepare", "words"), [(a_file, "out: is a file"), (a_full_folder, "add --overwrite to replace the results in it")]
)
def test_an_output_in_use_is_left_alone(prepare: Callable[[Path], None], words: str, tmp_path: Path) -> None:
    out = tmp_path / "out"
    prepare(out)
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(UsageError, match=words):
        simulate(scene(), out, 1)
    assert sorted(tmp_path.rglob("*")) == before


def test_a_sequence_is_replaced_where_that_is_asked_for(tmp_path: Path) -> None:
    out = tmp_path / "out"
    simulate(scene(camera={"pan_px_s": [5, 0]}), out, 1)
    (out / "notes.txt").write_text("mine")
    simulate(scene(), out, 2, overwrite=True)
    assert "--seed 2" in (out / "scene.yaml").read_text()
    assert (out / "notes.txt").exists()
    assert not (out / "truth_camera.csv").exists()  # of a camera at rest nothing is said
    with pytest.raises(UsageError, match=re.escape("scene.yaml: would be replaced")):
        simulate(scene(), out, 3, overwrite=True, inputs=[out / "scene.yaml"])
    assert "--seed 2" in (out / "scene.yaml").read_text()


def test_a_negative_seed_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="--seed -1: expected a whole number from 0"):
        simulate(scene(), tmp_path / "out", -1)


def test_a_scene_too_large_for_the_memory_is_one_line(tmp_path: Path) -> None:
    large = tmp_path / "large.yaml"
    large.write_text("{width_px: 4096, height_px: 4096, frames: 2}\n")
    ran = short_of_memory("simulate", large, "--out", tmp_path / "out")
    assert ran.returncode == 1
    last = ran.stderr.splitlines()[-1]
    assert last.startswith(f"irst: error: {tmp_path / 'out'}: out of memory with frames of 4096x4096")
    assert "Traceback" not in ran.stderr


def test_an_unwritable_folder_is_one_line() -> None:
    with pytest.raises(IrstError, match="/proc/irst-out: cannot"):
        simulate(scene(), Path("/proc/irst-out"), 1)


FILLED = """
import resource, sys
from pathlib import Path
from irst_pipeline.errors import IrstError
from irst_pipeline.simulation import SceneSettings, simulate
resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, 50_000))
try:
    simulate(SceneSettings(width_px=64, height_px=48, frames=60), Path(sys.argv[1]), 1)
except IrstError as error:
    print(error)
"""


def test_a_disk_without_room_is_one_line(tmp_path: Path) -> None:
    """A limit on file sizes makes the writes fail as a full disk does."""
    run = subprocess.run([sys.executable, "-c", FILLED, str(tmp_path)], capture_output=True, text=True, check=False)
    assert run.stdout == f"{tmp_path}: cannot write the sequence (File too large); it is incomplete\n"
    assert run.stderr == ""
