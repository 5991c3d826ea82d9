"""Grey levels of any depth become pictures of 8 bits that can be watched."""

from collections.abc import Callable

import numpy as np
import pytest
from numpy.typing import NDArray

from irst_pipeline.config import Agc, VideoSettings
from irst_pipeline.sinks.agc import AutomaticGain, Picture
from irst_pipeline.types import Image

RATE = 30.0
STYLES: list[tuple[Agc, float]] = [("percentile", 0.0), ("plateau", 0.0), ("percentile", 3.0), ("plateau", 3.0)]
EVERY_STYLE = pytest.mark.parametrize(("agc", "clahe"), STYLES)


def gain(agc: Agc = "percentile", clahe: float = 0.0, black: float = 0.5, white: float = 99.7) -> AutomaticGain:
    return AutomaticGain(VideoSettings(agc=agc, clahe=clahe, percentiles=(black, white)))


def ramp(low: int, high: int) -> NDArray[np.uint16]:
    return np.linspace(low, high, 60 * 80).reshape(60, 80).astype(np.uint16)


def sky_and_ground(rng: np.random.Generator) -> NDArray[np.uint16]:
    """14 bits: an even sky over ground that is 150 levels warmer, and noise of 3 levels."""
    levels = np.full((96, 128), 7300.0)
    levels[64:] += 150 + 20 * np.sin(np.arange(128) / 3)
    return np.rint(levels + rng.normal(0, 3, levels.shape)).astype(np.uint16)


@pytest.mark.parametrize("low", [0, 3000, 60_000])
@pytest.mark.parametrize("agc", ["percentile", "plateau"])
def test_a_few_levels_of_16_bits_fill_the_picture(agc: Agc, low: int) -> None:
    shown = gain(agc)(ramp(low, low + 545), 0.0)
    assert shown.dtype == np.uint8
    assert (int(shown.min()), int(shown.max())) == (0, 255)
    assert (np.diff(shown.ravel().astype(int)) >= 0).all()
    assert len(np.unique(shown)) == 256


def test_8_bits_are_shown_in_the_same_way() -> None:
    shown = gain(black=0, white=100)(ramp(100, 150).astype(np.uint8), 0.0)
    assert (int(shown.min()), int(shown.max())) == (0, 255)
    equalised = gain("plateau")(ramp(100, 150).astype(np.uint8), 0.0)
    assert equalised.min() < 5
    assert equalised.max() > 250


@EVERY_STYLE
@pytest.mark.parametrize("size", [(60, 80), (16, 16), (17, 33)])
def test_a_flat_frame_is_shown(agc: Agc, clahe: float, size: tuple[int, int]) -> None:
    shown = gain(agc, clahe)(np.full(size, 65_535, np.uint16), 0.0)
    assert shown.shape == size
    assert np.ptp(shown) == 0


def test_brightness_follows_the_scene_slowly() -> None:
    levels = gain(black=0, white=100)
    scene = ramp(1000, 2000)
    before = levels(scene, 0.0)
    flash = scene.copy()
    flash[::4, ::4] = 60_000  # for one frame at 30 frames/s
    assert abs(levels(flash, 1 / RATE)[1::4].astype(int) - before[1::4]).mean() < 255 * 0.7
    for frame in range(2, 300):
        after = levels(scene, frame / RATE)
    np.testing.assert_allclose(after.astype(int), before, atol=3)


def hot_target(image: Image) -> Image:
    image[20:30, 40:50] += 3000
    return image


def hot_pixel(image: Image) -> Image:
    image[30, 40] = 65_535
    return image


def higher_gain(image: Image) -> Image:
    return (image * 1.4).astype(np.uint16)


def higher_gain_above_black(image: Image) -> Image:
    return (7290 + (np.maximum(image, 7290) - 7290) * 5).astype(np.uint16)


def lower_offset(image: Image) -> Image:
    return (image - 90).astype(np.uint16)


@EVERY_STYLE
@pytest.mark.parametrize("change", [hot_target, hot_pixel, higher_gain, higher_gain_above_black, lower_offset])
def test_nothing_makes_the_picture_flash(change: Callable[[Image], Image], agc: Agc, clahe: float) -> None:
    """For a second the scene changes in every other of 5 frames; its mean brightness must not jump."""
    shows, rng = gain(agc, clahe), np.random.default_rng(0)
    means = []
    for frame in range(90):
        image = sky_and_ground(rng)
        changed = 30 <= frame < 60 and frame // 5 % 2 == 0
        means.append(shows(change(image) if changed else image, frame / RATE).mean())
    assert np.abs(np.diff(means[:30])).max() < 2, "noise alone"
    assert np.abs(np.diff(means)).max() < 36


@EVERY_STYLE
@pytest.mark.parametrize("away", [-1000, 1000])
def test_a_shutter_leaves_the_picture_as_it_was(away: int, agc: Agc, clahe: float) -> None:
    """It is closed for half a second, and is even and without noise."""
    shows, rng = gain(agc, clahe), np.random.default_rng(0)
    closed = np.full((96, 128), 7300 + away, np.uint16)
    shown = [shows(closed if 30 <= frame < 45 else sky_and_ground(rng), frame / RATE) for frame in range(60)]
    for after in (45, 46, 59):
        assert abs(shown[after].mean() - shown[29].mean()) < 20
        assert contrast(shown[after]) > 50


@EVERY_STYLE
@pytest.mark.parametrize("drift", [-40, 7, 40])
def test_a_drift_neither_hides_the_scene_nor_makes_the_picture_flash(drift: int, agc: Agc, clahe: float) -> None:
    """In levels a frame, for two seconds; the scene has some 180."""
    shows, rng = gain(agc, clahe), np.random.default_rng(0)
    shown = []
    for frame in range(90):
        image = (sky_and_ground(rng).astype(int) + drift * min(frame, 60)).astype(np.uint16)
        shown.append(shows(image, frame / RATE))
    means = np.array([picture.mean() for picture in shown])
    assert np.abs(means - means[0]).max() < 64
    assert np.abs(np.diff(means)).max() < 36
    assert min(map(contrast, shown)) > 50


def contrast(picture: Picture) -> float:
    """Between sky and ground."""
    return float(np.median(picture[70:])) - float(np.median(picture[:60]))


@EVERY_STYLE
def test_a_hot_pixel_does_not_cost_contrast(agc: Agc, clahe: float) -> None:
    without = gain(agc, clahe)(sky_and_ground(np.random.default_rng(0)), 0.0)
    beside = gain(agc, clahe)(hot_pixel(sky_and_ground(np.random.default_rng(0))), 0.0)
    assert contrast(beside) == pytest.approx(contrast(without), abs=4)
    assert contrast(without) > 90


def test_plateaus_show_detail_beside_a_wide_range() -> None:
    """Ground detail of 40 levels stays visible beside a fire of 5,000 levels on 3 % of the frame."""
    image = sky_and_ground(np.random.default_rng(0))
    image[80:92, 60:92] = np.linspace(9000, 14_000, 12 * 32).reshape(12, 32).astype(np.uint16)
    detail = {agc: float(np.ptp(np.median(gain(agc)(image, 0.0)[64:78], axis=0))) for agc in ("percentile", "plateau")}
    assert detail["percentile"] < 5
    assert detail["plateau"] > 8 * max(detail["percentile"], 1)


def test_clahe_shows_detail_within_an_even_part() -> None:
    image = sky_and_ground(np.random.default_rng(0))
    image[20:40, 20:40] += 8  # a faint cloud
    shown = {clahe: gain("percentile", clahe)(image, 0.0).astype(float) for clahe in (0.0, 3.0)}
    faint = {clahe: p[20:40, 20:40].mean() - p[20:40, 60:80].mean() for clahe, p in shown.items()}
    assert faint[3.0] > 1.5 * faint[0.0]


@pytest.mark.parametrize("agc", ["percentile", "plateau"])
def test_frames_of_another_depth_are_shown_at_once(agc: Agc) -> None:
    levels = gain(agc, black=0, white=100)
    images: list[Image] = [ramp(8000, 9000), ramp(80, 90).astype(np.uint8), ramp(8000, 9000)]
    for time, image in enumerate(images):
        shown = levels(image, time / RATE)
        assert shown.min() < 20
        assert shown.max() > 230
