"""Measure what a camera's own ways cost the tracks: simulated scenes whose frames are changed, run and scored.

usage: benchmark_cameras.py [--seeds 400 401 402] [--only frozen ...] [--coded [crf=23 preset=medium]]
                            [--set tracker.coast_seconds=2]

- untouched: the frames as they are.
- frozen: the camera corrects itself in the middle and gives one picture for 0.6 s.
- shutter: it shows its shutter for 0.5 s instead.
- thrice: every third picture, three times each, as of a camera of 9 Hz.
- striped: every row of every picture is off by an amount of its own, with a spread of 4 levels.

With --coded the frames are of 8 bits and go through H.264: of 2 Mbit/s, as live streams are coded, or as the options of
x264 that follow say. Without, they have 14 bits and stay as they are.
"""

import argparse
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from tempfile import TemporaryDirectory
from threading import Event

import av
import cv2
import numpy as np
from tqdm import tqdm

from irst_pipeline.config import RunSettings
from irst_pipeline.errors import told_in_one_line
from irst_pipeline.evaluation.logs import find_log, find_truth, read_sequence
from irst_pipeline.evaluation.tracking import TrackingScores, evaluate
from irst_pipeline.runs import run_recordings
from irst_pipeline.settings import read_settings
from irst_pipeline.simulation import SceneSettings, simulate
from irst_pipeline.simulation.simulate import DEEP_FILE, SHOWN_FILE
from irst_pipeline.sources import open_source
from irst_pipeline.types import Floats, Image

ROOT = Path(__file__).parents[1]
SCENES = [ROOT / f"configs/scenes/{name}.yaml" for name in ("crossings", "manoeuvres", "sea", "jitter")]
SCENES += [ROOT / f"videos/{name}/scene.yaml" for name in ("horizon", "clouds")]
FROZEN_SECONDS, SHUTTER_SECONDS = 0.6, 0.5
SHUTTER_NOISE, STRIPES = 2, 4  # grey levels
LIVE = {"b": "2000000", "preset": "veryfast", "tune": "zerolatency"}


def untouched(images: list[Image], _rate: float) -> list[Image]:
    return images


def frozen(images: list[Image], rate: float) -> list[Image]:
    first = len(images) // 2
    stays = range(first, first + round(FROZEN_SECONDS * rate))
    return [images[first - 1] if index in stays else image for index, image in enumerate(images)]


def shutter(images: list[Image], rate: float) -> list[Image]:
    first, rng = len(images) // 2, np.random.default_rng(0)
    closed = range(first, first + round(SHUTTER_SECONDS * rate))
    level = float(np.median(images[first]))

    def picture(like: Image) -> Image:
        return levels_like(like, rng.normal(level, SHUTTER_NOISE, like.shape))

    return [picture(image) if index in closed else image for index, image in enumerate(images)]


def thrice(images: list[Image], _rate: float) -> list[Image]:
    return [images[index - index % 3] for index in range(len(images))]


def striped(images: list[Image], _rate: float) -> list[Image]:
    rng = np.random.default_rng(0)
    return [levels_like(image, image + rng.normal(0, STRIPES, (len(image), 1))) for image in images]


def levels_like(image: Image, values: Floats) -> Image:
    """Rounded and clipped to what an image of this depth holds."""
    levels = np.rint(values).clip(0, np.iinfo(image.dtype).max)
    return levels.astype(np.uint8) if image.dtype == np.uint8 else levels.astype(np.uint16)


WAYS: dict[str, Callable[[list[Image], float], list[Image]]] = {
    way.__name__: way for way in (untouched, frozen, shutter, thrice, striped)
}


def write_coded(path: Path, images: list[Image], rate: float, options: dict[str, str] = LIVE) -> Path:
    """In H.264, by default as a camera sends it that has no time to look ahead: what stays is coded better from frame
    to frame."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=round(rate), options=options)
        stream.height, stream.width = images[0].shape
        stream.pix_fmt = "yuv420p"
        for image in images:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="gray")))
        container.mux(stream.encode(None))
    return path


def write_exact(folder: Path, images: list[Image]) -> Path:
    folder.mkdir()
    for index, image in enumerate(images):
        cv2.imwrite(str(folder / f"{index:05}.png"), image)
    return folder


def scored(
    folder: Path, way: str, coded: dict[str, str] | None, results: Path, settings: RunSettings
) -> TrackingScores:
    """Of the simulated sequence in a folder, changed in one way, and `coded` as x264 is told or not at all.

    `results` is to be a new folder.
    """
    with closing(open_source(str(folder / (SHOWN_FILE if coded else DEEP_FILE)))) as source:
        rate, images = source.frame_rate, [frame.image for frame in source]
    images = WAYS[way](images, rate)
    with TemporaryDirectory() as temporary:
        path = Path(temporary) / "film.mkv"
        film = write_coded(path, images, rate, coded) if coded else write_exact(path.with_suffix(""), images)
        run_recordings([str(film)], settings.model_copy(update={"image_rate": rate}), results, False, False, Event())
    return evaluate(read_sequence(find_truth(folder), find_log(results))).scores


def report(way: str, scores: list[TrackingScores]) -> str:
    return (
        f"{way:10} HOTA {100 * np.mean([s.hota for s in scores]):5.1f} %   IDF1"
        f" {100 * np.mean([s.idf1 for s in scores]):5.1f} %   id switches {sum(s.id_switches for s in scores)}"
        f"   false tracks {sum(s.false_tracks for s in scores)}"
        f"   velocity {np.mean([s.velocity_rmse_px_s for s in scores]):.1f} px/s off"
    )


def option(text: str) -> tuple[str, str]:
    key, equals, value = text.partition("=")
    if not equals:
        raise argparse.ArgumentTypeError(f"{text}: expected KEY=VALUE, as crf=23")
    return key, value


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, nargs="+", default=[400, 401, 402])
    parser.add_argument("--only", nargs="+", choices=[*WAYS], default=[*WAYS], metavar="WAY")
    parser.add_argument("--coded", nargs="*", type=option, metavar="KEY=VALUE")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE")
    options = parser.parse_args()
    coded = None if options.coded is None else dict(options.coded) or LIVE
    settings = read_settings(RunSettings, None, ["sinks=[tracks_jsonl]", *options.set])
    scores: dict[str, list[TrackingScores]] = {way: [] for way in options.only}
    for scene in tqdm(SCENES, desc="scenes", disable=None):
        for seed in options.seeds:
            with TemporaryDirectory() as temporary:
                folder = Path(temporary) / "scene"
                simulate(read_settings(SceneSettings, scene), folder, seed)
                for way, found in scores.items():
                    found.append(scored(folder, way, coded, Path(temporary) / way, settings))
    print("\n".join(report(way, found) for way, found in scores.items()))


if __name__ == "__main__":
    with told_in_one_line("benchmark_cameras"):
        main()
