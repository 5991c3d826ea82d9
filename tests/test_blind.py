"""Frames that show what the one before them showed, bit for bit or nearly so, and frames of a closed shutter."""

from contextlib import closing
from itertools import islice
from pathlib import Path
from threading import Event
from typing import Any

import numpy as np
import pytest

from irst_pipeline.blind import BlindFrames
from irst_pipeline.cli import main
from irst_pipeline.config import RunSettings
from irst_pipeline.engine import load_model, open_engine
from irst_pipeline.evaluation.logs import read_sequence
from irst_pipeline.evaluation.tracking import TrackingScores, evaluate
from irst_pipeline.pipeline import run_pipeline
from irst_pipeline.run import Run, carry_out, run_header
from irst_pipeline.sources import open_source
from irst_pipeline.statistics import RunStatistics
from irst_pipeline.types import Frame, Image
from tests.running import CLOUDS, HORIZON, read_csv, read_jsonl, report
from tests.sinks.sink_streams import detections
from tools.benchmark_cameras import WAYS, write_coded, write_exact

NEW = 30  # frames
COMMON = ["--no-video", "--device", "cpu", "--set", "tracker.false_tracks_per_hour=100"]


def pictures() -> list[Image]:
    with closing(open_source(str(CLOUDS))) as source:
        return [frame.image for frame in islice(source, NEW)]


def run(recording: Path, rate: int, out: Path, *more: str) -> Path:
    assert main(["run", str(recording), *COMMON, "--set", f"image_rate={rate}", "--out", str(out), *more]) == 0
    return out


def tracks(out: Path, name: str = "tracks.jsonl") -> list[dict[str, Any]]:
    return [record for record in read_jsonl(out / name) if record["record"] == "track"]


@pytest.fixture(scope="module")
def thrice(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A recording of 30 frames/s, of a camera that gives 10."""
    folder = tmp_path_factory.mktemp("film") / "film"
    return write_exact(folder, [image for image in pictures() for _ in range(3)])


@pytest.fixture(scope="module")
def repeated(thrice: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Results of its run."""
    return run(thrice, 30, tmp_path_factory.mktemp("run") / "out", "--smooth")


def test_tracks_are_those_of_a_recording_without_repeats(repeated: Path, tmp_path: Path) -> None:
    once = run(write_exact(tmp_path / "film", pictures()), 10, tmp_path / "once", "--smooth")
    new = [record | {"frame": record["frame"] // 3} for record in tracks(repeated) if record["frame"] % 3 == 0]
    assert new == tracks(once)
    assert len({record["id"] for record in new if record["status"] == "confirmed"}) >= 3
    assert {r["status"] for r in tracks(repeated) if r["frame"] % 3} == {"tentative", "coasting"}
    events = [[r["id"] for r in read_jsonl(out / "tracks.jsonl") if r["record"] == "event"] for out in (repeated, once)]
    assert events[0] == events[1]
    ages = [
        {(r["id"], r["frame"] // by): r["age"] for r in tracks(out, "smoothed.jsonl") if r["frame"] % by == 0}
        for out, by in ((repeated, 3), (once, 1))
    ]
    assert ages[0] == ages[1]


def test_tracks_fly_on_through_repeats(repeated: Path) -> None:
    """By a third of a step in each."""
    by_track = {(r["id"], r["frame"]): r for r in tracks(repeated)}
    moved = 0
    for (id_, frame), record in by_track.items():
        before = by_track.get((id_, frame - frame % 3))
        if frame % 3 and before and record["status"] == "coasting":
            later = (frame % 3) / 30
            assert record["x"] == pytest.approx(before["x"] + later * before["vx"], abs=0.2)
            assert record["y"] == pytest.approx(before["y"] + later * before["vy"], abs=0.2)
            moved += 1
    assert moved > NEW


def test_repeats_are_counted_and_have_detections_as_any_frame(repeated: Path) -> None:
    assert report(repeated)["frames_processed"] == 3 * NEW
    in_frame: dict[int, list[tuple[str, str]]] = {}
    for row in read_csv(repeated / "detections.csv"):
        if float(row["score"]) >= RunSettings().detection.threshold:
            in_frame.setdefault(int(row["frame"]), []).append((row["x_px"], row["y_px"]))
    assert all(in_frame[frame] == in_frame[frame - frame % 3] for frame in in_frame)


@pytest.mark.parametrize("written", [10, 11, 12])
def test_a_run_that_is_resumed_knows_what_the_last_frame_showed(
    written: int, thrice: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("irst_pipeline.run.CHECKPOINT_SECONDS", 0.0)
    whole, left, weights = run(thrice, 30, tmp_path / "whole"), tmp_path / "left", load_model("lsnet-nano")
    settings = RunSettings.model_validate(
        {
            "device": "cpu",
            "image_rate": 30,
            "tracker": {"false_tracks_per_hour": 100},
            "sinks": [sink for sink in RunSettings().sinks if sink != "video"],
        }
    )
    left.mkdir()
    engine = open_engine(weights.network, "cpu", settings.detection.lowest)
    with closing(open_source(str(thrice), settings.image_rate)) as source:
        begun = Run(source, left, run_header(str(thrice), source, weights, engine, settings))
        with closing(carry_out(begun, engine, Event(), RunStatistics())) as results:
            assert len(list(islice(results, written))) == written
    run(thrice, 30, left, "--resume")
    assert report(left)["resumed"] == 1
    assert read_jsonl(left / "tracks.jsonl")[1:] == read_jsonl(whole / "tracks.jsonl")[1:]
    for name in ("tracks.csv", "mot.txt", "detections.csv"):
        assert (left / name).read_bytes() == (whole / name).read_bytes()


def test_a_target_that_hovers_in_a_picture_that_stays_keeps_its_track(tmp_path: Path) -> None:
    """As in video in which what stands still is not coded again; for twice as long as tracks coast. It is seen again
    before it would be lost."""
    rng, image = np.random.default_rng(0), pictures()[0]
    noisy = [image + rng.integers(0, 3, image.shape, np.uint16) for _ in range(15)]
    out = run(write_exact(tmp_path / "film", noisy + [noisy[-1]] * 60), 30, tmp_path / "out")
    status: dict[int, dict[int, str]] = {}
    for record in tracks(out):
        status.setdefault(record["frame"], {})[record["id"]] = record["status"]
    seen = {id_ for id_, what in status[14].items() if what == "confirmed"}
    assert len(seen) >= 2
    for frame in range(15, 75):
        what = "coasting" if (frame - 14) % 25 else "confirmed"
        assert {id_: status[frame].get(id_) for id_ in seen} == dict.fromkeys(seen, what), frame


def blind(images: list[Image], rate: float = 30, coast_seconds: float = 1.0) -> list[bool]:
    frames, found = BlindFrames(coast_seconds), []
    for index, image in enumerate(images):
        found.append(frames.marked(Frame(image, index, index / rate, "camera"), detections()).blind)
    return found


def test_a_picture_of_another_size_or_depth_is_new() -> None:
    black = np.zeros(5120, np.uint8)
    shapes: list[Image] = [black.reshape(64, 80), black.reshape(80, 64), black.view(np.uint16).reshape(64, 40)]
    assert blind([image for image in shapes for _ in range(2)]) == [False, True] * 3


def test_a_picture_that_stays_is_blind_for_most_of_the_time_for_which_tracks_coast() -> None:
    images: list[Image] = [np.full((64, 80), level, np.uint8) for level in (1, 2) for _ in range(80)]
    assert blind(images, rate=32, coast_seconds=1.25) == [index % 33 > 0 for index in range(80)] * 2


@pytest.fixture(scope="module")
def film() -> list[Image]:
    """The sample `horizon`, of 200 frames at 25 frames/s."""
    with closing(open_source(str(HORIZON))) as source:
        return [frame.image for frame in source]


def noise(like: Image, seed: int, spread: float = 2) -> Image:
    return np.asarray(np.rint(np.random.default_rng(seed).normal(100, spread, like.shape)).clip(0, 255), np.uint8)


def with_shutter(images: list[Image], first: int, last: int) -> list[Image]:
    return [noise(image, i) if first <= i <= last else image for i, image in enumerate(images)]


def test_a_shutter_is_blind_while_it_is_closed(film: list[Image]) -> None:
    assert [index for index, found in enumerate(blind(with_shutter(film, 90, 104), 25)) if found] == [*range(90, 105)]


def test_neither_a_cut_nor_a_flash_nor_a_clear_sky_is_taken_for_a_shutter(film: list[Image]) -> None:
    other: list[Image] = [np.asarray(image[:, ::-1] // 2, np.uint8) for image in film]
    assert not any(blind(film[:20] + other[:20] + film[:20]))
    sky = [noise(film[0], seed) for seed in range(40)]
    flash = [np.minimum(sky[0] + image, 255).astype(np.uint8) for image in film[:2]]
    assert not any(blind((sky[:10] + flash) * 4))


def test_snow_of_the_scenes_own_contrast_is_no_shutter(film: list[Image]) -> None:
    scene, spread = film[:20], float(film[0].std())
    assert not any(blind(scene + [noise(film[0], seed, spread) for seed in range(5)] + scene))
    assert any(blind(scene + [noise(film[0], seed, spread / 2) for seed in range(5)] + scene))


def blind_in_a_run(recording: Path) -> list[int]:
    settings = RunSettings(device="cpu")
    engine = open_engine(load_model(settings.model).network, "cpu", settings.detection.lowest)
    with closing(open_source(str(recording), image_rate=25)) as source:
        results = run_pipeline(source, engine, settings, [], Event(), RunStatistics())
        return [result.frame.index for result in results if result.frame.blind]


def scores(out: Path) -> TrackingScores:
    return evaluate(read_sequence(HORIZON.parent / "truth.mot.txt", out / "tracks.jsonl")).scores


@pytest.mark.parametrize("lossy", [True, False])
@pytest.mark.parametrize("event", ["freezes", "shows the shutter"])
def test_targets_fly_on_under_their_ids_while_a_camera_corrects_itself(
    event: str, lossy: bool, film: list[Image], tmp_path: Path
) -> None:
    """For 0.6 s."""
    frozen = [film[89] if 90 <= index <= 104 else image for index, image in enumerate(film)]
    images = frozen if event == "freezes" else with_shutter(film, 90, 104)
    recording = write_coded(tmp_path / "film.mp4", images, 25) if lossy else write_exact(tmp_path / "film", images)
    found = scores(run(recording, 25, tmp_path / "out"))
    assert (found.id_switches, found.false_tracks, found.targets_missed) == (0, 0, 0)
    assert found.hota > 0.9


def test_repeats_in_lossy_video_are_found_by_the_targets_that_stand_still(film: list[Image], tmp_path: Path) -> None:
    """Of a camera whose every picture is coded thrice."""
    recording = write_coded(tmp_path / "film.mp4", WAYS["thrice"](film, 25), 25)
    found, blind = scores(run(recording, 25, tmp_path / "out")), blind_in_a_run(recording)
    assert found.velocity_rmse_px_s < 10
    assert sum(index % 3 > 0 for index in blind) > 0.8 * len(film) * 2 / 3
    assert sum(index % 3 == 0 for index in blind) < 0.05 * len(film) / 3


def test_a_target_that_stops_in_a_scene_that_goes_on_is_seen(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    rows, columns = np.mgrid[:96, :128]

    def picture(index: int) -> Image:
        x = 20 + 1.5 * min(index, 40)
        point = 40 * np.exp(-((columns - x) ** 2 + (rows - 50) ** 2) / 2)
        return np.asarray(np.rint(100 + 0.2 * rows + point + rng.normal(0, 2, rows.shape)), np.uint8)

    assert not blind_in_a_run(write_exact(tmp_path / "film", [picture(index) for index in range(70)]))
