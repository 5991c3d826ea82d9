"""What the network gets to see of a frame, and what can be told of it afterwards."""

from itertools import islice

import cv2
import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from irst_pipeline.engine.exact import predict
from irst_pipeline.lsnet.normalise import normalise, normalise_image, target_units
from irst_pipeline.lsnet.weights import load_weights
from irst_pipeline.sources import open_source
from irst_pipeline.types import Image, Map
from tests.running import CLOUDS


@pytest.mark.parametrize(("gain", "offset"), [(1, 0), (3, 100), (17, 7000)])
def test_normalisation_ignores_gain_and_offset(gain: int, offset: int) -> None:
    raw = torch.randint(0, 200, (1, 1, 64, 80))
    torch.testing.assert_close(normalise(raw).frames, normalise(raw * gain + offset).frames)


@pytest.mark.parametrize("level", [0, 65535])
@pytest.mark.parametrize("from_border", [0, 1, 2, 3, 6])
def test_normalisation_does_not_feel_a_bad_pixel(level: int, from_border: int) -> None:
    raw = torch.randint(7000, 7100, (1, 1, 64, 80))
    bad = raw.clone()
    bad[..., from_border, 6] = level
    away = torch.ones(64, 80, dtype=torch.bool)
    away[from_border, 6] = False
    torch.testing.assert_close(normalise(bad).frames[0, 0][away], normalise(raw).frames[0, 0][away], rtol=0, atol=0.05)


def test_of_what_is_large_normalisation_leaves_little_and_a_point_on_it_stays() -> None:
    raw = torch.randint(7000, 7100, (1, 1, 128, 160))
    sun = raw.clone()
    sun[..., 60:66, 70:76] = 9000
    sun[..., 90:96, 20:26] = 5000
    sun[..., 61, 71] = 9000 + 100
    plain, found = normalise(raw).frames[0, 0], normalise(sun).frames[0, 0]
    assert found.max() < 20 + 100 / normalise(sun).scale.item() + 0.1
    assert found[63, 73] == pytest.approx(20, abs=0.1)
    assert found[93, 23] == pytest.approx(-20, abs=0.1)
    assert found[61, 71] - found[63, 73] == pytest.approx(100 / normalise(sun).scale.item(), abs=0.1)
    torch.testing.assert_close(found[:50], plain[:50], rtol=0, atol=0.2)


@pytest.mark.parametrize("level", [3000, 8000, 11000])
def test_of_what_glares_normalisation_leaves_less_and_feels_it_nowhere_else(level: int) -> None:
    raw = torch.randint(7000, 7100, (1, 1, 128, 160))
    sun = raw.clone()
    sun[..., 60:85, 70:95] += level - 7050
    sun[..., 70, 80] += 100
    plain, found = normalise(raw), normalise(sun)
    torch.testing.assert_close(found.scale, plain.scale, rtol=0.03, atol=0)
    inside = found.frames[0, 0, 62:83, 72:93]
    assert inside.abs().median() < 4, "1 and the noise on it"
    assert found.frames[0, 0, 70, 80] - inside.median() > 100 / plain.scale.item() - 3, "it stands out as it did"
    torch.testing.assert_close(found.frames[..., :50, :], plain.frames[..., :50, :], rtol=0, atol=0.1)


def test_each_frame_of_a_batch_is_normalised_as_it_is_alone() -> None:
    plain, glaring = torch.randint(7000, 7100, (2, 1, 1, 128, 160))
    glaring[..., 60:85, 70:95] += 8000
    together = normalise(torch.cat([plain, glaring])).frames
    torch.testing.assert_close(
        together, torch.cat([normalise(plain).frames, normalise(glaring).frames]), rtol=0, atol=0
    )


@pytest.mark.parametrize(("behind", "in_front", "width"), [(-11, 11, 32), (-24, 20, 3)])
def test_what_is_bright_before_what_is_dark_is_the_same_in_any_batch(behind: int, in_front: int, width: int) -> None:
    raw = 7000 + 20 * torch.randn(1, 1, 256, 320)
    raw[..., 20:40, 20:60] = 7000 + 20 * behind
    raw[..., 29:32, 24 : 24 + width] = 7000 + 20 * in_front
    brighter = raw.clone()
    brighter[..., 200:203, 200:203] += 2000
    alone, together = normalise(raw).frames, normalise(torch.cat([raw, brighter])).frames
    torch.testing.assert_close(together[:1], alone, rtol=0, atol=0)


@pytest.mark.parametrize("side", [3, 6])
def test_a_target_does_not_glare(side: int) -> None:
    raw = torch.randint(7000, 7100, (1, 1, 128, 160))
    for first in range(20, 60):  # wherever it is
        bright = raw.clone()
        bright[..., first : first + side, first : first + side] += 500
        assert normalise(bright).frames[..., first : first + side, first : first + side].min() > 12


@pytest.mark.parametrize("shape", [(4, 4), (4, 9), (9, 4), (6, 6)])
def test_a_target_at_the_border_does_not_glare(shape: tuple[int, int]) -> None:
    raw = torch.randint(7000, 7100, (1, 1, 128, 160))
    height, width = shape
    for row in (0, 60, 128 - height):
        for column in (0, 80, 160 - width):
            bright = raw.clone()
            bright[..., row : row + height, column : column + width] += 500
            assert normalise(bright).frames[..., row : row + height, column : column + width].min() > 12


@pytest.mark.parametrize("shape", [(3, 9), (9, 3)])
def test_a_target_is_no_stroke(shape: tuple[int, int]) -> None:
    raw = torch.randint(7000, 7100, (1, 1, 128, 160))
    height, width = shape
    for first in [*range(20, 40), 0, 1, 2, 127 - height, 128 - height]:  # wherever it is, also at the border
        bright = raw.clone()
        bright[..., first : first + height, first : first + width] += 500
        assert normalise(bright).frames[..., first : first + height, first : first + width].min() > 12


@pytest.mark.parametrize("units", [25, 50, 100])
@pytest.mark.parametrize("step", [5, 6, 8, 10])
@pytest.mark.parametrize("count", [2, 3])
def test_points_in_a_row_are_no_stroke(count: int, step: int, units: float) -> None:
    row = np.zeros((96, 128), np.uint8)
    row[40, 30 : 30 + count * step : step] = 1
    assert_kept(row, units, sigma=1.0)


@pytest.mark.parametrize("units", [25, 40, 60])
@pytest.mark.parametrize("shape", [(4, 15), (4, 20), (6, 20), (20, 4)])
def test_a_ship_is_no_stroke(shape: tuple[int, int], units: float) -> None:
    ship = np.zeros((96, 128), np.uint8)
    ship[40 : 40 + shape[0], 40 : 40 + shape[1]] = 1
    assert_kept(ship, units, sigma=0.7)


def assert_kept(shape: NDArray[np.uint8], units: float, sigma: float) -> None:
    """Such a target (H, W), blurred by a lens to so many units, stays bright to the network, wherever it is."""
    light = cv2.GaussianBlur(shape.astype(np.float32), (0, 0), sigma)
    light *= units / light.max()
    noise = np.random.default_rng(1).normal(0, 1, shape.shape).astype(np.float32)
    for move in np.ndindex(3, 3):
        frame = 7000 + 20 * (np.roll(light, move, (0, 1)) + noise)
        found = normalise(torch.from_numpy(frame)[None, None]).frames[0, 0].numpy()
        assert found[np.roll(light, move, (0, 1)) > units / 2].min() > 5


@pytest.fixture(scope="module")
def clouds() -> Image:
    return next(islice(open_source(str(CLOUDS)), 60, None)).image


@pytest.fixture(scope="module")
def targets(clouds: Image) -> NDArray[np.bool_]:
    """(H, W): what is surely of a target."""
    return probability(clouds) > 0.9


def probability(image: Image) -> Map:
    return predict(load_weights("lsnet-nano").network, image, torch.device("cpu")).probability


def all_found(targets: NDArray[np.bool_], found: Map) -> bool:
    """Whether near each pixel of the targets (H, W) one is found, and there are any."""
    return bool(targets.any() and (cv2.dilate(found, np.ones((3, 3), np.uint8))[targets] > 0.5).all())


@pytest.mark.parametrize("radius", [4, 6, 10, 15, 20, 25])
def test_the_sun_in_the_picture_blinds_the_network_to_nothing_else(
    clouds: Image, targets: NDArray[np.bool_], radius: int
) -> None:
    sunny = clouds.copy()
    cv2.circle(sunny, (200, 40), radius, 16383, -1)
    away = np.hypot(*(np.indices(clouds.shape) - np.array([40, 200])[:, None, None])) > 3 * radius
    assert all_found(targets & away, probability(sunny))


def with_point(image: Image, units: float, sigma: float) -> Image:
    """The image with a point of light at (40, 150), so many units bright."""
    scale = normalise_image(image).scale.item()
    rows, columns = np.indices(image.shape)
    light = units * scale * np.exp(-((rows - 150) ** 2 + (columns - 40) ** 2) / (2 * sigma**2))
    return np.clip(np.rint(image + light), 0, 65535).astype(np.uint16)


@pytest.mark.parametrize("sigma", [0.8, 1.5])
@pytest.mark.parametrize("units", [30, 110, 400, 1000])
def test_a_point_of_any_brightness_is_found_and_hides_no_target(
    clouds: Image, targets: NDArray[np.bool_], units: float, sigma: float
) -> None:
    found = probability(with_point(clouds, units, sigma))
    assert all_found(targets, found)
    assert found[150, 40] > 0.9


def test_two_hot_pixels_side_by_side_hide_no_target(clouds: Image, targets: NDArray[np.bool_]) -> None:
    hot = clouds.copy()
    hot[150, 40:42] = 16383
    assert all_found(targets, probability(hot))


@pytest.mark.parametrize("level", [7600, 16383])
def test_text_and_a_reticle_hide_no_target_and_are_none(clouds: Image, targets: NDArray[np.bool_], level: int) -> None:
    written = np.zeros(clouds.shape, np.uint8)
    cv2.putText(written, "12:30:07", (160, 20), cv2.FONT_HERSHEY_PLAIN, 0.8, 255)
    for start, end in (((40, 150), (60, 150)), ((70, 150), (90, 150)), ((65, 125), (65, 145)), ((65, 155), (65, 175))):
        cv2.line(written, start, end, 255)
    found = probability(np.where(written > 0, level, clouds).astype(np.uint16))
    assert all_found(targets, found)
    assert found[written > 0].max() < 0.5


@pytest.mark.parametrize("units", [15, 40, 100])
def test_the_target_component_keeps_the_levels_of_a_bright_point(clouds: Image, units: float) -> None:
    bright = with_point(clouds, units, sigma=1.5)
    target = predict(load_weights("lsnet-nano").network, bright, torch.device("cpu")).target
    assert target[150, 40] == pytest.approx(units * normalise_image(clouds).scale.item(), rel=0.1)


def test_what_is_squeezed_can_be_turned_back() -> None:
    raw = torch.randint(7000, 7100, (1, 1, 64, 80))
    raw[..., 30:32, 40:43] += torch.tensor([[900, 1100, 900], [1100, 1000, 900]])
    frames, centre, scale = normalise(raw)
    assert frames.max() < 50
    levels = target_units(torch.zeros_like(frames), frames) * scale + centre
    torch.testing.assert_close(levels, raw.float(), rtol=0, atol=0.01)


def test_normalisation_leaves_a_flat_frame_flat() -> None:
    assert normalise(torch.full((1, 1, 32, 32), 77, dtype=torch.uint8)).frames.abs().max() == 0
