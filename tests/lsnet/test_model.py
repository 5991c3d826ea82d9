"""LSNet's shapes, sizes and mathematics."""

from itertools import islice
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from irst_pipeline.lsnet.model import Lattice, LSNet, LSNetConfig
from irst_pipeline.lsnet.modules import (
    Depthwise,
    FrameNorm,
    NoiseStep,
    SoftThreshold,
    by_moments,
    repeated,
    sum_of_taps,
)
from irst_pipeline.lsnet.normalise import normalise, normalise_image, target_units
from irst_pipeline.lsnet.weights import load_weights
from irst_pipeline.predict import predict
from irst_pipeline.settings import read_settings
from irst_pipeline.sources import open_source
from irst_pipeline.types import Image
from tests.running import CLOUDS

CONFIGS = Path(__file__).parents[2] / "configs" / "models"
SIZES_M = {"lsnet-nano": (0.15, 0.25), "lsnet-base": (2.0, 2.3)}


def network(name: str) -> LSNet:
    torch.manual_seed(0)
    return LSNet(read_settings(LSNetConfig, CONFIGS / f"{name}.yaml")).eval()


@pytest.mark.parametrize("name", SIZES_M)
def test_size(name: str) -> None:
    low, high = SIZES_M[name]
    assert low <= sum(p.numel() for p in network(name).parameters()) / 1e6 <= high


@pytest.mark.parametrize("name", SIZES_M)
def test_work_grows_linearly_with_the_pixels(name: str) -> None:
    def work_per_pixel(width: int, height: int) -> float:
        with FlopCounterMode(display=False) as counter:
            network(name).to("meta")(torch.zeros(1, 1, height, width, device="meta"))
        return counter.get_total_flops() / (width * height)

    small = work_per_pixel(320, 256)
    for width, height in ((640, 512), (1280, 1024), (5120, 4096)):
        assert work_per_pixel(width, height) <= 1.05 * small


@pytest.mark.parametrize(("kind", "error"), [(torch.float32, 1e-5), (torch.float16, 4e-3), (torch.bfloat16, 3e-2)])
def test_a_frame_is_normalised_by_its_moments_as_by_pytorch(kind: torch.dtype, error: float) -> None:
    torch.manual_seed(0)
    norm = FrameNorm(6)
    with torch.no_grad():
        norm.weight.uniform_(0.5, 2)
        norm.bias.normal_()
    frames = (3 * torch.randn(2, 6, 17, 31) + torch.tensor([1.0, -5.0]).view(2, 1, 1, 1)).requires_grad_()
    expected = norm(frames)
    found = by_moments(frames.to(kind, memory_format=torch.channels_last), norm.weight, norm.bias, norm.eps)
    assert found.dtype == kind
    assert found.is_contiguous(memory_format=torch.channels_last)
    torch.testing.assert_close(found.float(), expected, rtol=0, atol=4 * error)
    weights = torch.randn_like(expected)
    slopes = [torch.autograd.grad((y.float() * weights).sum(), frames, retain_graph=True)[0] for y in (found, expected)]
    torch.testing.assert_close(*slopes, rtol=0, atol=4 * error)


@pytest.mark.parametrize("name", SIZES_M)
@pytest.mark.parametrize(("height", "width"), [(16, 16), (17, 31), (50, 45)])
def test_any_size_is_kept(name: str, height: int, width: int) -> None:
    with torch.inference_mode():
        parts = network(name)(torch.randn(2, 1, height, width))
    assert {part.shape for part in parts} == {(2, 1, height, width)}
    assert all(part.isfinite().all() for part in parts)


@pytest.mark.parametrize("name", SIZES_M)
def test_padding_inside_is_reflection_outside(name: str) -> None:
    net = network(name)
    frame = torch.randn(1, 1, 41, 44)
    padding = (0, -44 % net.multiple, 0, -41 % net.multiple)
    assert any(padding)
    with torch.inference_mode():
        small = net(frame)
        large = net(torch.nn.functional.pad(frame, padding, mode="reflect"))
    for a, b in zip(small, large, strict=True):
        torch.testing.assert_close(a, b[..., :41, :44])


@pytest.mark.parametrize("shape", [(1, 1, 15, 40), (1, 3, 32, 32), (1, 32, 32)])
def test_other_shapes_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="expected frames"):
        network("lsnet-nano")(torch.zeros(shape))


def test_a_scale_coarser_than_the_smallest_frame_is_refused() -> None:
    """Such a frame could not be padded to a whole pixel of it."""

    def scaled(*widths: int) -> LSNet:
        overrides = [f"background_widths={[*widths]}"]
        return LSNet(read_settings(LSNetConfig, CONFIGS / "lsnet-nano.yaml", overrides))

    assert scaled(40, 40)(torch.zeros(1, 1, 16, 17)).logits.shape[-1] == 17
    with pytest.raises(ValueError, match="its coarsest scale is 1/32 of the image, at most 1/16 is taken"):
        scaled(40, 40, 40)


def test_frames_of_a_batch_do_not_mix() -> None:
    net, frames = network("lsnet-nano"), torch.randn(3, 1, 32, 40)
    with torch.inference_mode():
        together, alone = net(frames), net(frames[1:2])
    for a, b in zip(together, alone, strict=True):
        torch.testing.assert_close(a[1:2], b, rtol=1e-4, atol=1e-5)


def test_unfold_ends_with_forward() -> None:
    net, frames = network("lsnet-nano"), torch.randn(1, 1, 32, 32)
    with torch.inference_mode():
        stages = net.unfold(frames, 3)
        assert len(stages) == 3
        for a, b in zip(stages[-1], net(frames), strict=True):
            torch.testing.assert_close(a, b)


def test_every_parameter_learns() -> None:
    net = network("lsnet-base").train()
    # P's last layer starts at zero, and what lies behind it learns from the second step on.
    for stage in net.stages:
        torch.nn.init.normal_(stage.get_parameter("background.out.weight"), std=0.1)
    parts = [part.square().sum() for parts in net.unfold(torch.randn(2, 1, 32, 32), 4) for part in parts]
    torch.stack(parts).sum().backward()
    idle = [name for name, p in net.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0]
    assert idle == ["stages.3.multiplier.gamma"]  # the last multiplier has nothing to act on


def test_lattice_starts_as_the_identity() -> None:
    lattice, image = Lattice(4, 40), torch.randn(1, 1, 32, 48)
    torch.testing.assert_close(lattice.decode(lattice.encode(image)), image)


def test_soft_threshold_shrinks_towards_zero() -> None:
    z = torch.randn(1, 4, 16, 16) * 3
    shrunk = SoftThreshold(4, 5)(z)
    assert (shrunk * z >= 0).all()
    assert (shrunk.abs() <= z.abs()).all()
    assert (shrunk == 0).any()


def test_noise_cannot_swallow_a_target() -> None:
    step = NoiseStep(1, 8)
    with torch.no_grad():
        step.gain.fill_(1e3)
        found = step(torch.zeros(1, 1, 16, 16), torch.full((1, 1, 16, 16), 1e4))
    assert found.abs().max() <= NoiseStep.GAIN_MAX


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


@pytest.mark.parametrize("side", [3, 6])
def test_a_target_does_not_glare(side: int) -> None:
    raw = torch.randint(7000, 7100, (1, 1, 128, 160))
    for first in range(20, 60):  # wherever it is
        bright = raw.clone()
        bright[..., first : first + side, first : first + side] += 500
        assert normalise(bright).frames[..., first : first + side, first : first + side].min() > 12


@pytest.mark.parametrize("radius", [4, 6, 10, 15, 20, 25])
def test_the_sun_in_the_picture_blinds_the_network_to_nothing_else(radius: int) -> None:
    image = next(islice(open_source(str(CLOUDS)), 60, None)).image
    network = load_weights("lsnet-nano").network
    plain = predict(network, image, torch.device("cpu")).probability
    sunny = image.copy()
    cv2.circle(sunny, (200, 40), radius, 16383, -1)
    found = predict(network, sunny, torch.device("cpu")).probability
    away = np.hypot(*(np.indices(image.shape) - np.array([40, 200])[:, None, None])) > 3 * radius
    targets = (plain > 0.9) & away
    assert targets.any()
    assert (cv2.dilate(found, np.ones((3, 3), np.uint8))[targets] > 0.5).all()


def with_point(image: Image, units: float, sigma: float) -> Image:
    """The image with a point of light at (40, 150), so many units bright."""
    scale = normalise_image(image).scale.item()
    rows, columns = np.indices(image.shape)
    light = units * scale * np.exp(-((rows - 150) ** 2 + (columns - 40) ** 2) / (2 * sigma**2))
    return np.clip(np.rint(image + light), 0, 65535).astype(np.uint16)


@pytest.mark.parametrize("sigma", [0.8, 1.5])
@pytest.mark.parametrize("units", [30, 110, 400, 1000])
def test_a_point_of_any_brightness_is_found_and_hides_no_target(units: float, sigma: float) -> None:
    image = next(islice(open_source(str(CLOUDS)), 60, None)).image
    network, cpu = load_weights("lsnet-nano").network, torch.device("cpu")
    targets = predict(network, image, cpu).probability > 0.9
    targets[135:165, 25:55] = False
    found = predict(network, with_point(image, units, sigma), cpu).probability
    assert targets.any()
    assert (cv2.dilate(found, np.ones((3, 3), np.uint8))[targets] > 0.5).all()
    assert found[150, 40] > 0.9


def test_two_hot_pixels_side_by_side_hide_no_target() -> None:
    image = next(islice(open_source(str(CLOUDS)), 60, None)).image
    network, cpu = load_weights("lsnet-nano").network, torch.device("cpu")
    targets = predict(network, image, cpu).probability > 0.9
    hot = image.copy()
    hot[150, 40:42] = 16383
    found = predict(network, hot, cpu).probability
    assert targets.any()
    assert (cv2.dilate(found, np.ones((3, 3), np.uint8))[targets] > 0.5).all()


@pytest.mark.parametrize("units", [15, 40, 100])
def test_the_target_component_keeps_the_levels_of_a_bright_point(units: float) -> None:
    image = next(islice(open_source(str(CLOUDS)), 60, None)).image
    bright = with_point(image, units, sigma=1.5)
    target = predict(load_weights("lsnet-nano").network, bright, torch.device("cpu")).target
    assert target[150, 40] == pytest.approx(units * normalise_image(image).scale.item(), rel=0.1)


def test_what_is_squeezed_can_be_turned_back() -> None:
    raw = torch.randint(7000, 7100, (1, 1, 64, 80))
    raw[..., 30:32, 40:43] += torch.tensor([[900, 1100, 900], [1100, 1000, 900]])
    frames, centre, scale = normalise(raw)
    assert frames.max() < 50
    levels = target_units(torch.zeros_like(frames), frames) * scale + centre
    torch.testing.assert_close(levels, raw.float(), rtol=0, atol=0.01)


def test_normalisation_leaves_a_flat_frame_flat() -> None:
    assert normalise(torch.full((1, 1, 32, 32), 77, dtype=torch.uint8)).frames.abs().max() == 0


@pytest.mark.parametrize(("rows", "columns"), [(3, 3), (5, 5), (1, 11), (11, 1)])
def test_a_sum_of_taps_is_a_depthwise_convolution(rows: int, columns: int) -> None:
    torch.manual_seed(0)
    layer, x = Depthwise(6, rows, columns).double(), torch.randn(2, 6, 13, 17, dtype=torch.float64)
    torch.testing.assert_close(sum_of_taps(x, layer.weight, layer.bias), layer(x))


def test_what_is_repeated_is_the_nearest_value() -> None:
    x = torch.randn(2, 3, 5, 7)
    torch.testing.assert_close(repeated(x), torch.nn.functional.interpolate(x, scale_factor=2.0), rtol=0, atol=0)
