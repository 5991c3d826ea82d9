"""LSNet's shapes, sizes and mathematics."""

from pathlib import Path

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
from irst_pipeline.settings import read_settings

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


@pytest.mark.parametrize(("rows", "columns"), [(3, 3), (5, 5), (1, 11), (11, 1)])
def test_a_sum_of_taps_is_a_depthwise_convolution(rows: int, columns: int) -> None:
    torch.manual_seed(0)
    layer, x = Depthwise(6, rows, columns).double(), torch.randn(2, 6, 13, 17, dtype=torch.float64)
    torch.testing.assert_close(sum_of_taps(x, layer.weight, layer.bias), layer(x))


def test_what_is_repeated_is_the_nearest_value() -> None:
    x = torch.randn(2, 3, 5, 7)
    torch.testing.assert_close(repeated(x), torch.nn.functional.interpolate(x, scale_factor=2.0), rtol=0, atol=0)
