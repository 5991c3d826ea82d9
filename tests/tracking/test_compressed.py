"""Strongly compressed video keeps rests of its noise for a while, which look like targets."""

from contextlib import closing
from pathlib import Path

import numpy as np
import pytest

from irst_pipeline.blind import BlindFrames
from irst_pipeline.config import TrackerSettings
from irst_pipeline.sources import open_source
from irst_pipeline.tracking.existence import UNCHANGED_MIN
from irst_pipeline.types import Image
from tests.sinks.sink_streams import detections
from tests.tracking.scenes import IMAGE, RATE, Scene, every_kind, moving
from tools.benchmark_cameras import write_coded

FRAMES = 300


def watched(settings: TrackerSettings, unchanged: float) -> tuple[int, int]:
    """How many tracks were confirmed among rests of noise that stay for half a second in the mean, and the frame in
    which that of a target was that comes after two seconds."""
    rng, scene = np.random.default_rng(0), Scene(settings)
    height, width = IMAGE.shape
    begin = np.sort(rng.uniform(-30, FRAMES, 250))
    end, places = begin + rng.exponential(RATE / 2, len(begin)), rng.uniform((0, 0), (width, height), (len(begin), 2))
    target = -1
    for i in range(FRAMES):
        rests = places[(begin <= i) & (i < end)]
        seen = [(x, y) for x, y in (rests + rng.normal(0, 0.3, rests.shape)).tolist()]
        tracks = scene(*([moving(i - 60, x=20, vx=30)] if i >= 60 else []), *seen, unchanged=unchanged)
        if target < 0 and i >= 60 and (tracks.detection[tracks.confirmed] == 0).any():
            target = i
    return sum(event.kind == "confirmed" for event in scene.events), target


@every_kind
def test_what_lasts_among_much_that_lasts_is_less_evidence(settings: TrackerSettings) -> None:
    (many, soon), (few, later) = (watched(settings, unchanged) for unchanged in (0.0, 0.9))
    assert few < 0.6 * many
    assert 60 < soon <= later < 60 + 2 * RATE, "a target that comes is found, a little later"


@pytest.mark.parametrize(("quality", "strong"), [("0", False), ("10", False), ("23", True), ("30", True)])
def test_strong_compression_shows_in_what_is_unchanged(quality: str, strong: bool, tmp_path: Path) -> None:
    rng, blind = np.random.default_rng(0), BlindFrames(1.0)
    noisy: list[Image] = [rng.normal(100, 3, (128, 160)).round().astype(np.uint8) for _ in range(30)]
    film, nothing = write_coded(tmp_path / "film.mkv", noisy, 30.0, {"crf": quality}), detections()
    with closing(open_source(str(film))) as source:
        unchanged = [blind.marked(frame, nothing).unchanged for frame in source]
    assert unchanged[0] == 0, "before the first frame there is none"
    assert (np.median(unchanged) > UNCHANGED_MIN) == strong
