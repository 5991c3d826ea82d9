"""Weights files: what is written comes back, and what is not ours is refused in one line."""

from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from irst_pipeline.errors import UsageError
from irst_pipeline.lsnet.model import LSNet, LSNetConfig
from irst_pipeline.lsnet.normalise import normalise
from irst_pipeline.lsnet.weights import SHIPPED, WEIGHTS_FILE, load_weights, packed_weights, shipped_names
from irst_pipeline.settings import read_settings
from tests.running import ROOT

NANO = ROOT / "configs" / "models" / "lsnet-nano.yaml"


@pytest.fixture
def network() -> LSNet:
    return LSNet(read_settings(LSNetConfig, NANO)).eval()


def test_a_network_comes_back_as_it_was(network: LSNet, tmp_path: Path) -> None:
    (tmp_path / "mine.safetensors").write_bytes(packed_weights(network, {"steps": "7"}))
    loaded = load_weights(str(tmp_path / "mine.safetensors"))
    frame = torch.randn(1, 1, 32, 32)
    with torch.inference_mode():
        torch.testing.assert_close(loaded.network(frame), network(frame))
    assert loaded.name == "mine"
    assert loaded.network.config == network.config


def test_the_same_network_is_the_same_file(network: LSNet) -> None:
    assert len({packed_weights(network, {"steps": "7", "seed": "1"}) for _ in range(8)}) == 1


def test_weights_of_a_training_are_called_as_its_folder(
    network: LSNet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / WEIGHTS_FILE).write_bytes(packed_weights(network, {}))
    assert load_weights(str(tmp_path / "mine" / WEIGHTS_FILE)).name == "mine"
    monkeypatch.chdir(tmp_path / "mine")
    assert load_weights(WEIGHTS_FILE).name == "mine"


@pytest.mark.parametrize(("name", "bytes_max"), [("lsnet-nano", 4e6), ("lsnet-base", 9.3e6)])
def test_shipped_networks_load_and_are_small(name: str, bytes_max: float) -> None:
    assert load_weights(name).name == name
    assert (SHIPPED / f"{name}.safetensors").stat().st_size < bytes_max


def test_every_member_of_the_family_is_shipped_as_it_is_configured() -> None:
    configs = {path.stem: path for path in (ROOT / "configs" / "models").glob("*.yaml")}
    assert sorted(configs) == shipped_names()
    for name, path in configs.items():
        assert load_weights(name).network.config == read_settings(LSNetConfig, path)


def test_strangers_are_refused(network: LSNet, tmp_path: Path) -> None:
    strange, broken, misfit = (tmp_path / f"{n}.safetensors" for n in ("strange", "broken", "misfit"))
    save_file({"conv.weight": torch.zeros(3)}, strange)
    broken.write_bytes(b"\x10\0\0\0\0\0\0\0 not json at all")
    misfit.write_bytes(packed_weights(network, {"config": '{"stages": 2}'}))
    for path, reason in ((strange, "not LSNet weights"), (broken, "not a readable"), (misfit, "do not fit")):
        with pytest.raises(UsageError, match=reason) as caught:
            load_weights(str(path))
        assert str(path) in str(caught.value)
        assert "\n" not in str(caught.value)
    with pytest.raises(UsageError, match="lsnet-nano"):
        load_weights("lsnet-gigantic")


def test_weights_that_are_not_finite_are_refused(network: LSNet, tmp_path: Path) -> None:
    """Whose maps would all be empty."""
    spoilt = LSNet(network.config)
    torch.nn.init.constant_(spoilt.get_parameter("head.out.bias"), float("nan"))
    (tmp_path / "a.safetensors").write_bytes(packed_weights(spoilt, {}))
    with pytest.raises(UsageError, match=r"a\.safetensors: NaN or infinite values in head\.out\.bias; take weights"):
        load_weights(str(tmp_path / "a.safetensors"))


@pytest.mark.parametrize("name", shipped_names())
def test_a_shipped_network_has_a_card(name: str) -> None:
    card = (SHIPPED / f"{name}.md").read_text()
    for part in ("Data", "Recipe", "Checkpoint rule", "Results", "Limits"):
        assert f"## {part}" in card
    assert load_weights(name).sha256 in card


@pytest.mark.parametrize("name", shipped_names())
def test_half_precision_has_room_for_the_sun(name: str) -> None:
    frames = torch.randn(1, 1, 96, 128, generator=torch.Generator().manual_seed(0))
    frames[..., 40:50, 60:70] += 199  # units; the most that frames are limited to
    with torch.inference_mode():
        whole = load_weights(name).network(frames)
        half = load_weights(name).network.half()(frames.half())
    assert (half.logits.sigmoid() - whole.logits.sigmoid()).abs().max() < 0.1
    for part in half:
        assert part.isfinite().all()


@pytest.mark.parametrize("stuck_at", [0, 16383])
def test_defective_pixels_do_not_blind_the_shipped_network_to_targets(stuck_at: int) -> None:
    rng = np.random.default_rng(0)
    y, x = np.mgrid[:128, :160]
    places = [(30, 40), (80, 120), (100, 30)]
    frame = rng.normal(7300, 4, (128, 160))
    frame += sum(60 * np.exp(-0.5 * ((y - ty) ** 2 + (x - tx) ** 2)) for ty, tx in places)
    defective = frame.copy()
    defective[[10, 60, 60], [80, 20, 140]] = stuck_at
    network = load_weights("lsnet-nano").network
    for raw in (frame, defective):
        frames = normalise(torch.from_numpy(np.rint(raw)).float()[None, None]).frames
        with torch.no_grad():
            probability = network(frames).logits.sigmoid()[0, 0].numpy()
        assert min(probability[place] for place in places) > 0.5
