"""The exported network against the network itself, in the runtimes it is exported for."""

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from numpy.typing import NDArray

from irst_pipeline.cli import main
from irst_pipeline.export import DESCRIPTION, INPUT, OPSET, RawTargetNet, export_onnx
from irst_pipeline.lsnet.weights import SHIPPED, load_weights
from irst_pipeline.sources import open_source
from tests.running import CLOUDS, short_of_memory

Maps = list[NDArray[np.float32]]
Runs = Callable[[NDArray[np.float32]], Maps]


def cut(width: int, height: int) -> NDArray[np.float32]:
    """The first frame of a sequence, repeated or cut to a size, with its brightest target in the middle and a point in
    a corner that outshines it."""
    image = next(iter(open_source(str(CLOUDS)))).image.astype(np.float32)
    network = RawTargetNet(load_weights("lsnet-nano").network)
    with torch.inference_mode():
        probability = network(torch.from_numpy(image)[None, None])[0][0, 0].numpy()
    row, column = np.unravel_index(probability.argmax(), image.shape)
    rows, columns = (np.arange(n) - n // 2 for n in (height, width))
    around = image[np.ix_((row + rows) % image.shape[0], (column + columns) % image.shape[1])]
    around[2:4, 2:4] += 500
    return around[None, None]


def in_onnx_runtime(path: Path) -> Runs:
    session = onnxruntime.InferenceSession(path)
    return lambda frame: session.run(None, {INPUT: frame})


def in_openvino(path: Path) -> Runs:
    import openvino  # after the engine, which keeps it from reporting its use

    compiled = openvino.Core().compile_model(path, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    return lambda frame: list(compiled([frame]).values())


# Lines of more than 1024 px are scanned in chunks.
@pytest.fixture(scope="module", params=[(16, 16), (320, 256), (333, 101), (512, 640), (1100, 64), (61, 1290)], ids=str)
def exported(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, NDArray[np.float32], tuple[torch.Tensor, torch.Tensor]]:
    """The network for frames of one size, such a frame, and what PyTorch makes of it."""
    weights, frame = load_weights("lsnet-nano"), cut(*request.param)
    path = tmp_path_factory.mktemp("exported") / "net.onnx"
    export_onnx(weights, path, *request.param)
    with torch.inference_mode():
        probability, target = RawTargetNet(weights.network)(torch.from_numpy(frame))
    return path, frame, (probability, target)


@pytest.mark.parametrize("runtime", [in_onnx_runtime, in_openvino])
def test_runtimes_find_what_pytorch_finds(
    runtime: Callable[[Path], Runs],
    exported: tuple[Path, NDArray[np.float32], tuple[torch.Tensor, torch.Tensor]],
) -> None:
    path, frame, expected = exported
    probability, target = runtime(path)(frame)
    assert expected[0].max() > 0.5 or min(frame.shape[2:]) == 16
    np.testing.assert_allclose(probability, expected[0].numpy(), rtol=0, atol=1e-3)
    np.testing.assert_allclose(target, expected[1].numpy(), rtol=0, atol=1e-3 * expected[1].abs().max().item())


def test_the_file_says_what_it_takes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "new" / "net.onnx"
    arguments = ["export", "--model", "lsnet-nano", "--out", str(path), "--size", "64x48"]
    assert main(arguments) == 0
    model = onnx.load(path)
    onnx.checker.check_model(model)
    said = {p.key: p.value for p in model.metadata_props}
    assert said.items() >= DESCRIPTION.items()
    assert (said["model"], said["width"], said["height"]) == ("lsnet-nano", "64", "48")
    assert said["weights_sha256"] == load_weights("lsnet-nano").sha256
    assert [o.version for o in model.opset_import] == [OPSET]
    for plane in (*model.graph.input, *model.graph.output):
        assert [d.dim_value for d in plane.type.tensor_type.shape.dim] == [1, 1, 48, 64]
    assert [p.name for p in path.parent.iterdir()] == ["net.onnx"]
    assert main(arguments) == 2
    assert f"{path}: is there already; add --overwrite" in capsys.readouterr().err
    assert main([*arguments[:-1], "48x64", "--overwrite"]) == 0
    assert {p.key: p.value for p in onnx.load(path).metadata_props}.items() >= {"width": "48", "height": "64"}.items()
    assert [p.name for p in path.parent.iterdir()] == ["net.onnx"]


def test_weights_are_not_replaced_by_what_is_made_of_them(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Weights may have any name."""
    path = tmp_path / "net.onnx"
    shutil.copy(SHIPPED / "lsnet-nano.safetensors", path)
    before = path.read_bytes()
    assert main(["export", "--model", str(path), "--out", str(path), "--size", "64x48", "--overwrite"]) == 2
    assert f"{path}: is among the inputs; choose another name" in capsys.readouterr().err
    assert path.read_bytes() == before


def test_a_folder_is_not_taken_for_a_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "net.onnx"
    path.mkdir()
    assert main(["export", "--model", "lsnet-nano", "--out", str(path), "--size", "64x48", "--overwrite"]) == 2
    assert f"{path}: is a folder; give a file with --out" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("model", "size", "reason"),
    [
        ("lsnet-nano", "15x64", "--size 15x64: the network takes 16x16 px and more"),
        ("lsnet-nano", "1000000x64", "--size 1000000x64: at most 8192 px a side"),
        ("lsnet-tiny", "64x64", "lsnet-tiny: no such model; shipped: "),
    ],
)
def test_what_cannot_be_exported_is_said(
    model: str, size: str, reason: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["export", "--model", model, "--out", str(tmp_path / "net.onnx"), "--size", size]) == 2
    assert reason in capsys.readouterr().err
    assert not any(tmp_path.iterdir())


def test_a_name_that_says_something_else_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["export", "--model", "lsnet-nano", "--out", str(tmp_path / "net.bin"), "--size", "64x64"]) == 2
    assert "net.bin: ONNX Runtime and others go by the name's end; call it net.bin.onnx" in capsys.readouterr().err
    assert not any(tmp_path.iterdir())


def test_a_size_that_is_none_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["export", "--model", "lsnet-nano", "--out", str(tmp_path / "net.onnx"), "--size", "320,256"])
    assert ended.value.code == 2
    assert "320,256: expected WIDTHxHEIGHT" in capsys.readouterr().err


def test_a_size_that_is_too_large_for_the_memory_is_said(tmp_path: Path) -> None:
    out, before = tmp_path / "net.onnx", tmp_path / "before.onnx"
    before.write_text("exported before")
    for path, flags in ((out, []), (before, ["--overwrite"])):
        ran = short_of_memory("export", "--model", "lsnet-nano", "--out", path, "--size", "8192x8192", *flags)
        said = "irst: error: export: out of memory with frames of 8192x8192; use smaller ones, or end other programs\n"
        assert (ran.returncode, ran.stderr) == (1, said)
    assert not out.exists()
    assert before.read_text() == "exported before"


@pytest.mark.parametrize(("model", "size"), [("lsnet-nano", (640, 512)), ("lsnet-base", (200, 120))])
def test_not_even_where_a_network_wavers_do_runtimes_say_another_thing(
    model: str, size: tuple[int, int], tmp_path: Path
) -> None:
    """In noise without targets and in blank frames probabilities may be near a half."""
    width, height = size
    weights, path = load_weights(model), tmp_path / "net.onnx"
    export_onnx(weights, path, width, height)
    network = RawTargetNet(weights.network)
    runs = [runtime(path) for runtime in (in_onnx_runtime, in_openvino)]
    noise = np.random.default_rng(0).normal(100, 5, (3, 1, 1, height, width)).astype(np.float32)
    for frame in (*noise, np.full_like(noise[0], 100)):
        with torch.inference_mode():
            expected, _ = network(torch.from_numpy(frame))
        for run in runs:
            np.testing.assert_allclose(run(frame)[0], expected.numpy(), rtol=0, atol=5e-4)
