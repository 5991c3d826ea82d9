"""Sea and skyline, by what can be measured of them; the shipped scenes."""

from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from irst_pipeline.settings import read_settings
from irst_pipeline.simulation import SceneSettings, render
from irst_pipeline.types import Floats
from tests.simulation.small_scenes import frames_of, images

SCENES = sorted((Path(__file__).parents[2] / "configs" / "scenes").glob("*.yaml"))
WIDE: dict[str, Any] = {"width_px": 256, "height_px": 192, "frames": 4, "sensor": {"read_noise": 0.1}}
HORIZON = 192 - 128  # row of the sea's


def sea(seed: int = 1, **settings: Any) -> Floats:
    """(frames, H, W) grey levels above the sky."""
    return images(frames_of(seed, **WIDE, sea={"height_px": 128, "glint": 0, "level": 20, **settings})) - 7300


def spacing(rows: Floats, axis: int) -> float:
    """Mean px between zero crossings along an axis: half of a typical wave."""
    signs = rows - rows.mean() > 0
    return rows.size / float(np.abs(np.diff(signs.astype(int), axis=axis)).sum())


def test_waves_are_finer_towards_the_horizon() -> None:
    (image, *_) = sea(waves=100)
    near, middle, far = (spacing(image[HORIZON + a : HORIZON + b], 0) for a, b in ((96, 128), (56, 80), (30, 44)))
    assert near > 1.2 * middle > 1.4 * far


def test_waves_are_rows() -> None:
    (image, *_) = sea(waves=100)
    assert spacing(image[HORIZON + 60 :], 1) > 2 * spacing(image[HORIZON + 60 :], 0)


def test_the_sea_has_its_level_and_waves_that_fade_at_the_horizon() -> None:
    seen = np.concatenate([sea(seed, waves=30, wave_px=32) for seed in range(8)])
    assert seen[:, HORIZON:].mean() == pytest.approx(20, abs=4)
    assert seen[:, HORIZON + 90 :].std() == pytest.approx(30, rel=0.15)
    assert seen[:, HORIZON + 4 : HORIZON + 10].std() < 2
    assert np.abs(seen[:, : HORIZON - 4]).max() <= 1, "above it is the clear sky"


def test_waves_come_nearer_and_change() -> None:
    first, second, *_, last = sea(waves=100, period_s=0.4)

    def likeness(image: Floats, down: int) -> float:
        here, there = first[HORIZON + 80 : -8], image[HORIZON + 80 + down : len(image) - 8 + down]
        return float(np.corrcoef(here.ravel(), there.ravel())[0, 1])

    assert max(range(-8, 9), key=lambda down: likeness(second, down)) > 0
    assert max(likeness(last, down) for down in range(-8, 9)) < 0.9


def test_glint_is_bright_and_rare() -> None:
    dull, bright = sea(waves=10), sea(waves=10, glint=80)
    added = bright - dull
    assert added.min() >= 0
    assert 0.002 < (added > 10).mean() < 0.1
    assert added.max() > 40


def test_walls_have_straight_edges() -> None:
    urban = {"height_px": 80, "block_px": 40, "level": 60, "walls": 30, "windows": 0, "hot_spots": 0}
    image = images(frames_of(**WIDE, urban=urban))[0]
    across, down = np.abs(np.diff(image, axis=1)), np.abs(np.diff(image, axis=0))
    edges = (across[:-1] > 6) | (down[:, :-1] > 6)
    assert 0.01 < edges.mean() < 0.2, "most is flat"
    in_columns, in_rows = (across > 6).sum(axis=0), (down > 6).sum(axis=1)
    sides = np.sort(in_columns)[-8:]
    assert sides.min() > 25, "the sides of buildings run down as straight columns ..."
    assert np.sort(in_columns)[: len(in_columns) // 2].max() <= 6, "... and between them is none"
    assert np.sort(in_rows)[-4:].min() > 15, "roofs run along rows"


def test_windows_and_hot_spots_are_small_and_as_strong_as_set() -> None:
    tree: dict[str, Any] = {"height_px": 80, "level": 60, "walls": 0, "windows": 0, "hot_spots": 0}
    plain, windows, hot = (
        images(frames_of(**WIDE, urban={**tree, **more}))[0] for more in ({}, {"windows": 10}, {"hot_spots": 3})
    )
    assert np.ptp(plain[-40:]) <= 2
    assert 2 < windows[-40:].std() < 10
    bright = hot[-40:] > plain[-40:] + 8
    assert 0.0005 < bright.mean() < 0.05
    assert 30 < (hot[-40:] - plain[-40:]).max() < 200


@pytest.mark.parametrize("path", SCENES, ids=lambda path: path.stem)
def test_shipped_scenes_are_valid_and_seeded(path: Path) -> None:
    settings = read_settings(SceneSettings, path)
    assert path.read_text().startswith("# ")
    one, again = (list(islice(render(settings, 1), 3)) for _ in range(2))
    assert np.array_equal(images(one), images(again))
    assert [frame.targets for frame in one] == [frame.targets for frame in again]
    assert not np.array_equal(images(one), images(list(islice(render(settings, 2), 3))))
    assert any(state.visible for frame in one for state in frame.targets) == (path.stem != "flat")
    assert 7000 < np.median(images(one)) < 7600


def test_scenes_are_shipped() -> None:
    names = {path.stem for path in SCENES}
    assert names == {"crossings", "flat", "jitter", "manoeuvres", "sea", "urban", "weak_in_clouds"}
