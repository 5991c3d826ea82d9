"""Training: it learns, and a run that was killed goes on as if it had not been."""

import csv
import resource
import shutil
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from pathlib import Path
from threading import Event

import cv2
import numpy as np
import pytest
import torch
import yaml
from safetensors import safe_open
from safetensors.torch import load_file

from irst_pipeline.datasets import held_out
from irst_pipeline.errors import IrstError, UsageError
from irst_pipeline.folders import held
from irst_pipeline.lsnet.weights import load_weights, packed_weights
from irst_pipeline.training.batches import draw_batch, read_sources
from irst_pipeline.training.finish import bring_to_scale, shift_logits
from irst_pipeline.training.loop import LearningCurve, train
from irst_pipeline.training.preview import draw_preview
from irst_pipeline.training.run import build_network, learning_rate, open_run
from irst_pipeline.training.settings import TrainSettings
from tests.running import read_csv, short_of_memory

MODEL = Path(__file__).with_name("small.yaml")
NANO = Path(__file__).parents[2] / "configs" / "models" / "lsnet-nano.yaml"
CPU = torch.device("cpu")


def settings(steps: int, **changes: object) -> TrainSettings:
    fixed = {
        "model": MODEL,
        "sources": [{"folder": "points", "layout": "masked_images", "weight": 1.0}],
        "batch": 4,
        "crop": 32,
        "checkpoint_every": 5,
        "evaluate_every": steps,
    }
    return TrainSettings.model_validate(fixed | {"steps": steps} | changes)


def trained(settings: TrainSettings, data: Path, folder: Path, stop: Event) -> Path:
    return train(open_run(settings, folder, CPU), data, stop)


class StopAfter(Event):
    """Is set once it has been asked so often: a signal that comes in the middle of a run."""

    def __init__(self, looks: int) -> None:
        super().__init__()
        self.looks = looks

    def is_set(self) -> bool:
        self.looks -= 1
        return self.looks < 0


def test_a_stopped_run_goes_on_as_if_it_had_not_been(data: Path, tmp_path: Path) -> None:
    s = settings(12, evaluate_every=4)
    whole = load_file(trained(s, data, tmp_path / "whole", Event()))
    trained(s, data, tmp_path / "parts", StopAfter(9))
    parts = load_file(trained(s, data, tmp_path / "parts", Event()))
    assert whole.keys() == parts.keys()
    for name, tensor in whole.items():
        torch.testing.assert_close(parts[name], tensor, rtol=1e-5, atol=1e-6)
    # The loss of a row is the mean over all steps since the row before, those before the stop as well.
    curves = [losses_of(tmp_path / name / "curve.csv") for name in ("whole", "parts")]
    assert list(curves[0]) == [4, 8, 12]
    assert curves[1] == pytest.approx(curves[0], rel=1e-3)


def test_the_seconds_of_a_curve_go_on(data: Path, tmp_path: Path) -> None:
    before = open_run(settings(4, evaluate_every=2), tmp_path, CPU)
    time.sleep(2.0)
    train(before, data, Event())
    trained(settings(6, evaluate_every=2), data, tmp_path, Event())
    seconds = [float(row["seconds"]) for row in read_csv(tmp_path / "curve.csv")]
    assert seconds[0] > 2.0
    assert seconds == sorted(seconds)


def test_it_learns_and_its_weights_load(data: Path, tmp_path: Path) -> None:
    path = trained(
        settings(120, model=NANO, crop=48, batch=8, evaluate_every=60, checkpoint_every=60), data, tmp_path, Event()
    )
    curve = [line.split(",") for line in (tmp_path / "curve.csv").read_text().splitlines()]
    assert curve[0] == ["step", "seconds", "loss", "iou points", "pd points", "fa points"]
    assert [int(row[0]) for row in curve[1:]] == [60, 120]
    assert float(curve[2][2]) < 0.6 * float(curve[1][2])
    assert load_weights(str(path)).network.config.channels == 40


def test_a_checkpoint_of_another_network_is_refused(data: Path, tmp_path: Path) -> None:
    trained(settings(1), data, tmp_path, Event())
    other = tmp_path / "other.yaml"
    other.write_text(MODEL.read_text().replace("channels: 16", "channels: 24"))
    with pytest.raises(UsageError, match=r"not a checkpoint of this run \(it has another network than .*other\.yaml\)"):
        trained(settings(2, model=other), data, tmp_path, Event())


def test_a_run_goes_on_from_its_own_start_and_other_changes_are_told(
    data: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    trained(settings(1), data, tmp_path / "run", Event())
    other = str(tmp_path / "run" / "weights.safetensors")
    with pytest.raises(UsageError, match=rf"that started from nothing, not {other}\); train into another folder"):
        trained(settings(1, start=other), data, tmp_path / "run", Event())
    with caplog.at_level("INFO", "irst"):
        trained(settings(1, seed=5), data, tmp_path / "run", Event())
    assert [message.rpartition(": ")[2] for message in caplog.messages] == ["complete already, at step 1"]
    caplog.clear()
    trained(settings(2, seed=5), data, tmp_path / "run", Event())
    assert caplog.messages == [
        f"{tmp_path / 'run'}: goes on from step 1 with other settings: evaluate_every, seed, steps"
    ]


def test_a_loss_that_is_not_finite_ends_the_run_and_leaves_the_last_good_checkpoint(data: Path, tmp_path: Path) -> None:
    trained(settings(3), data, tmp_path, Event())
    with pytest.raises(IrstError, match=r"not finite at step \d+ .* go on from it with a lower learning_rate"):
        trained(settings(60, learning_rate=1e8, checkpoint_every=1000), data, tmp_path, Event())
    left = load_file(tmp_path / "state.safetensors")
    assert all(tensor.isfinite().all() for tensor in left.values())
    assert load_file(trained(settings(5), data, tmp_path, Event()))


@pytest.mark.parametrize("rate", [1e3, 1e8])
def test_what_a_last_step_has_ruined_is_not_kept(rate: float, data: Path, tmp_path: Path) -> None:
    """The loss of a step tells of the weights before it alone."""
    with pytest.raises(IrstError, match="not finite"):
        trained(settings(60, learning_rate=rate, checkpoint_every=1), data, tmp_path, Event())
    reached = step_of(tmp_path / "state.safetensors")
    trained(settings(reached + 3, learning_rate=1e-4), data, tmp_path, Event())
    assert step_of(tmp_path / "state.safetensors") == reached + 3


@pytest.mark.parametrize("every", [5, 40])
def test_a_stopped_run_that_is_to_have_no_more_steps_is_finished(
    every: int, data: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Also where the step at which it was stopped has a row already."""
    so_far = load_weights(str(trained(settings(40, evaluate_every=every), data, tmp_path, StopAfter(9)))).network
    rows, s = losses_of(tmp_path / "curve.csv"), settings(10, evaluate_every=every)
    bring_to_scale(so_far)
    assert shift_logits(so_far, [read_sources(s, data)[0].holdout], CPU)
    finished = load_file(trained(s, data, tmp_path, Event()))
    for name, tensor in so_far.state_dict().items():
        assert torch.equal(finished[name], tensor), name
    after = losses_of(tmp_path / "curve.csv")
    assert list(after) == [step for step in (5, 10) if step in rows or step == 10]
    assert rows.items() <= after.items()
    caplog.clear()
    with caplog.at_level("INFO", "irst"):
        trained(s, data, tmp_path, Event())
    assert [message.rpartition(": ")[2] for message in caplog.messages] == ["complete already, at step 10"]


def test_weights_of_a_complete_run_that_are_gone_are_written_again(data: Path, tmp_path: Path) -> None:
    path = trained(settings(5), data, tmp_path, Event())
    before = load_file(path)
    path.unlink()
    assert trained(settings(5), data, tmp_path, Event()) == path
    assert all(torch.equal(before[name], tensor) for name, tensor in load_file(path).items())


def test_a_folder_may_have_any_name_and_another_list(data: Path, tmp_path: Path) -> None:
    folder, out = tmp_path / 'points, "few"', tmp_path / "run"
    shutil.copytree(data / "points", folder)
    (folder / "img_idx" / "few_p.txt").write_text("".join(f"p{i}\n" for i in range(20)))
    source = {"folder": folder.name, "layout": "masked_images", "weight": 1.0, "split": "few"}
    assert len(read_sources(settings(4, sources=[source]), tmp_path)[0].training) < 20
    for steps in (2, 4):
        trained(settings(steps, sources=[source]), tmp_path, out, Event())
    rows = list(csv.reader((out / "curve.csv").read_text().splitlines()))
    assert [row[0] for row in rows] == ["step", "2", "4"]
    assert {len(row) for row in rows} == {6}


def training_command(settings: TrainSettings, config: Path, data: Path) -> list[str]:
    """All of `irst train` but the folder for the results, which stands behind it."""
    config.write_text(yaml.safe_dump(settings.model_dump(mode="json", exclude={"teacher", "start"})))
    command = [sys.executable, "-m", "irst_pipeline.cli", "train", "--config", config, "--data", data, "--out"]
    return list(map(str, command))


def test_a_stopped_training_says_so(data: Path, tmp_path: Path) -> None:
    command = training_command(settings(10_000), tmp_path / "train.yaml", data)
    run = tmp_path / "run"
    with subprocess.Popen([*command, str(run)], stdout=-1, stderr=subprocess.DEVNULL, text=True) as process:
        while not (run / "curve.csv").exists():
            assert process.poll() is None
            time.sleep(0.01)
        process.terminate()
        said, _ = process.communicate(timeout=60)
    reached = step_of(run / "state.safetensors")
    weights = run / "weights.safetensors"
    assert said == f"stopped at step {reached} of 10000; the same command goes on; weights so far: {weights}\n"
    assert process.returncode == 0
    assert load_weights(str(weights))


def test_a_kill_at_any_moment_loses_only_the_steps_since_the_checkpoint(data: Path, tmp_path: Path) -> None:
    """SIGKILL, again and again, of a process that does little but write checkpoints."""
    s = settings(10_000, checkpoint_every=1, batch=1, crop=16)
    command = training_command(s, tmp_path / "train.yaml", data)
    run, state, reached = tmp_path / "run", tmp_path / "run" / "state.safetensors", 0
    for delay in (0.0, 0.11, 0.23):
        with subprocess.Popen([*command, str(run)], stderr=subprocess.DEVNULL) as process:
            while not state.exists() or step_of(state) == reached:
                assert process.poll() is None
                time.sleep(0.01)
            assert step_of(state) > reached, "it began anew"
            time.sleep(delay)
            process.kill()
        reached = step_of(state)
        assert load_weights(str(run / "weights.safetensors"))


def test_a_first_checkpoint_that_was_not_written_whole_is_made_again(data: Path, tmp_path: Path) -> None:
    """A limit on file sizes, above the weights' and below the checkpoint's, ends the write as a full disk does."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (250_000, hard))
    try:
        with pytest.raises(IrstError, match=r"state\.safetensors: .*files may not be so large here"):
            trained(settings(1), data, tmp_path, Event())
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    (tmp_path / ".state.safetensors.new").write_bytes(bytes(1000))  # as a kill leaves it
    assert load_weights(str(trained(settings(1), data, tmp_path, Event())))


def test_too_little_memory_is_told_with_what_takes_less(data: Path, tmp_path: Path) -> None:
    config, out = tmp_path / "train.yaml", tmp_path / "out"
    config.write_text(yaml.safe_dump(settings(1, batch=6, crop=2048).model_dump(mode="json")))
    ran = short_of_memory("train", "--config", config, "--data", data, "--out", out, "--device", "cpu")
    said = f"irst: error: {out}: out of memory with 6 crops of 2048x2048 px a step; set a smaller batch or crop"
    assert (ran.returncode, ran.stderr.splitlines()[-1]) == (1, said)


def losses_of(curve: Path) -> dict[int, float]:
    """By step."""
    return {int(row["step"]): float(row["loss"]) for row in read_csv(curve)}


def step_of(state: Path) -> int:
    with safe_open(state, "pt") as file:
        return int(file.metadata()["step"])


def none_held_out(data: Path) -> dict[str, object]:
    """The set without the images that are held out, as a source."""
    lists = data / "points" / "img_idx"
    names = (lists / "train_points.txt").read_text().split()
    (lists / "kept_points.txt").write_text("\n".join(name for name in names if not held_out(name)))
    return {"folder": "points", "layout": "masked_images", "split": "kept", "weight": 1.0}


def test_where_no_mask_is_held_out_it_is_said_what_helps(
    data: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    trained(settings(1, sources=[none_held_out(data)]), data, tmp_path, Event())
    (said,) = caplog.messages
    assert "no frame with a mask is held out" in said
    assert said.endswith("; add images with masks, of which about one in 10 is")


def test_a_teacher_is_followed(data: Path, tmp_path: Path) -> None:
    """By a network that sees targets everywhere, whatever the masks say."""
    # With none held out no shift of the logits is chosen by masks, which would take back what the teacher says.
    source = none_held_out(data)
    teacher = build_network(MODEL, 2, CPU)
    torch.nn.init.constant_(teacher.get_parameter("head.out.bias"), 8.0)
    (tmp_path / "teacher.safetensors").write_bytes(packed_weights(teacher, {}))
    frames = torch.randn(1, 1, 48, 48)
    seen = {}
    for name, weight in (("alone", 0.0), ("taught", 20.0)):
        taught = {"teacher": str(tmp_path / "teacher.safetensors"), "distillation": weight, "sources": [source]}
        path = trained(settings(60, learning_rate=8e-3, checkpoint_every=60, **taught), data, tmp_path / name, Event())
        with torch.inference_mode():
            seen[name] = load_weights(str(path)).network(frames).logits.sigmoid().mean().item()
    assert seen["taught"] > 0.1 > seen["alone"]


def test_predictions_are_drawn(data: Path) -> None:
    """The picture of a network that sees targets everywhere has more white in it than that of one that sees none."""
    sample, means = read_sources(settings(1), data)[0].holdout[0], []
    for bias in (-9.0, 9.0):
        network = build_network(MODEL, 1, CPU).eval()
        torch.nn.init.constant_(network.get_parameter("head.out.bias"), bias)
        picture = draw_preview(network, [sample], CPU)
        means.append(np.mean(np.asarray(cv2.imdecode(np.frombuffer(picture, np.uint8), cv2.IMREAD_GRAYSCALE))))
    assert means[1] > means[0] + 20


def test_shards_of_a_batch_make_the_gradient_of_the_whole(data: Path, tmp_path: Path) -> None:
    s = settings(2, batch=5, gradient_norm=1e6)
    batch = draw_batch(read_sources(s, data), s, 0)
    gradients = []
    for shards in (None, ThreadPoolExecutor(2)):
        run = open_run(s, tmp_path, CPU)
        run.mixed_precision = False  # whose rounding depends on how many crops there are
        run.train_step(batch, shards)
        gradients.append([p.grad for p in run.network.parameters() if p.grad is not None])
    for whole, parts in zip(*gradients, strict=True):
        torch.testing.assert_close(parts, whole, rtol=1e-3, atol=1e-4)


def test_a_run_may_start_from_weights(tmp_path: Path) -> None:
    start = build_network(MODEL, 7, CPU)
    (tmp_path / "start.safetensors").write_bytes(packed_weights(start, {}))
    run = open_run(settings(1, start=str(tmp_path / "start.safetensors")), tmp_path / "run", CPU)
    for now, then in zip(run.network.parameters(), start.parameters(), strict=True):
        assert torch.equal(now, then)
    small = tmp_path / "small.yaml"
    small.write_text(MODEL.read_text().replace("head_width: 16", "head_width: 8"))
    with pytest.raises(UsageError, match="is of another network"):
        open_run(settings(1, start=str(tmp_path / "start.safetensors"), model=small), tmp_path / "other", CPU)


def test_a_run_goes_on_when_the_weights_that_it_started_from_are_gone(data: Path, tmp_path: Path) -> None:
    start = tmp_path / "start.safetensors"
    start.write_bytes(packed_weights(build_network(MODEL, 7, CPU), {}))
    trained(settings(1, start=str(start)), data, tmp_path / "run", Event())
    start.unlink()
    trained(settings(2, start=str(start)), data, tmp_path / "run", Event())
    assert [row["step"] for row in read_csv(tmp_path / "run" / "curve.csv")][-1] == "2"
    with pytest.raises(UsageError, match=r"^start: .*start\.safetensors: no such model"):
        trained(settings(2, start=str(start)), data, tmp_path / "other", Event())
    with pytest.raises(UsageError, match=r"^teacher: nobody: no such model"):
        trained(settings(2, teacher="nobody"), data, tmp_path / "other", Event())
    with pytest.raises(UsageError, match=r"^model: nowhere\.yaml: cannot read it"):
        trained(settings(2, model=Path("nowhere.yaml")), data, tmp_path / "other", Event())


def test_a_checkpoint_that_cannot_be_read_or_is_something_else_is_told(data: Path, tmp_path: Path) -> None:
    state = tmp_path / "state.safetensors"
    state.mkdir()
    with pytest.raises(UsageError, match=r"state\.safetensors: not a checkpoint of this run \(.*\); train"):
        trained(settings(1), data, tmp_path, Event())
    state.rmdir()
    state.write_bytes(packed_weights(build_network(MODEL, 7, CPU), {}))
    with pytest.raises(UsageError, match=r"not a checkpoint of this run \(it lacks 'settings'\)"):
        trained(settings(1), data, tmp_path, Event())


def test_a_folder_of_something_else_is_left_alone(data: Path, tmp_path: Path) -> None:
    (tmp_path / "weights.safetensors").write_bytes(b"precious")
    with pytest.raises(UsageError, match=r"holds files, but no state\.safetensors"):
        trained(settings(1), data, tmp_path, Event())
    assert (tmp_path / "weights.safetensors").read_bytes() == b"precious"
    with pytest.raises(UsageError, match=r"weights\.safetensors: is a file; give a folder with --out"):
        trained(settings(1), data, tmp_path / "weights.safetensors", Event())


def test_no_two_trainings_write_into_one_folder(data: Path, tmp_path: Path) -> None:
    """Neither while the first has a checkpoint, nor while it is still reading its data sets."""
    trained(settings(1), data, tmp_path / "begun", Event())
    (tmp_path / "new").mkdir()
    for out in (tmp_path / "begun", tmp_path / "new"):
        before = {path.name: path.read_bytes() for path in out.iterdir()}
        with held(out), pytest.raises(UsageError, match=f"{out}: another run is writing there; wait for its end"):
            trained(settings(2), data, out, Event())
        assert {path.name: path.read_bytes() for path in out.iterdir()} == before
        trained(settings(2), data, out, Event())
        assert step_of(out / "state.safetensors") == 2


def test_a_training_holds_its_folder(data: Path, tmp_path: Path) -> None:
    class Asking(Event):
        """Asks for the folder in the middle of a run."""

        def is_set(self) -> bool:
            with pytest.raises(UsageError, match="another run is writing there"), held(tmp_path / "run"):
                pass
            return True

    trained(settings(3), data, tmp_path / "run", Asking())
    with held(tmp_path / "run"):
        assert step_of(tmp_path / "run" / "state.safetensors") == 1


def test_rows_of_the_curve_beyond_the_checkpoint_are_made_again(data: Path, tmp_path: Path) -> None:
    """As if it had been killed between the last row and the last checkpoint."""
    trained(settings(6, evaluate_every=2), data, tmp_path, Event())
    curve = tmp_path / "curve.csv"
    curve.write_text(curve.read_text() + "8,1,1,1,1,1\n")
    trained(settings(10, evaluate_every=2), data, tmp_path, Event())
    assert [row.split(",")[0] for row in curve.read_text().splitlines()] == ["step", "2", "4", "6", "8", "10"]


@pytest.fixture(scope="module")
def begun(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of a run of four steps with a row for every other."""
    folder = tmp_path_factory.mktemp("begun")
    trained(settings(4, evaluate_every=2), data, folder, Event())
    return folder


@pytest.mark.parametrize(
    "left",
    [b"", b"HEAD\n2,1,1,1,1,1\n\n4,1,1", b"HEAD\n2,1,1,1,1,1\n\0\0\xff,1,1,1,1,1"],
    ids=["all", "a row", "not text"],
)
def test_a_damaged_curve_does_not_end_the_run(data: Path, begun: Path, tmp_path: Path, left: bytes) -> None:
    shutil.copytree(begun, tmp_path, dirs_exist_ok=True)
    curve = tmp_path / "curve.csv"
    head = curve.read_bytes().splitlines()[0]
    curve.write_bytes(left.replace(b"HEAD", head))
    trained(settings(6, evaluate_every=2), data, tmp_path, Event())
    first, *steps = [row.split(",")[0] for row in curve.read_text().splitlines()]
    assert (first, steps[-1]) == ("step", "6")
    assert steps == (["6"] if not left else ["2", "6"])


def test_the_curve_knows_steps_of_any_number_of_digits(data: Path, tmp_path: Path) -> None:
    run = open_run(settings(1), tmp_path, CPU)
    sources = read_sources(run.settings, data)
    for step in (999_999, 1_000_000, 1_234_567):
        run.step, run.losses = step, [1.0]
        LearningCurve(run, sources).add()
    rows = (tmp_path / "curve.csv").read_text().splitlines()[1:]
    assert [row.split(",")[0] for row in rows] == ["999999", "1000000", "1234567"]


def test_a_full_disk_leaves_a_whole_curve(data: Path, small_disk: Path) -> None:
    run = open_run(settings(1), small_disk, CPU)
    curve, path = LearningCurve(run, read_sources(run.settings, data)), small_disk / "curve.csv"
    before = path.read_bytes()
    (small_disk / "others").write_bytes(bytes(shutil.disk_usage(small_disk).free))
    run.step, run.losses = 1, [1.0]
    with pytest.raises(IrstError, match=rf"^{path}: cannot write it \(No space left on device\); free some space"):
        curve.add()
    assert path.read_bytes() == before
    assert {path.name for path in small_disk.iterdir()} == {"curve.csv", "others"}
    (small_disk / "others").unlink()
    curve.add()
    assert [row.split(",")[0] for row in path.read_text().splitlines()] == ["step", "1"]


@pytest.mark.gpu
def test_it_trains_stops_and_goes_on_with_a_teacher_on_a_gpu(data: Path, tmp_path: Path) -> None:
    (tmp_path / "teacher.safetensors").write_bytes(packed_weights(build_network(MODEL, 2, CPU), {}))
    s, gpu = settings(120, teacher=str(tmp_path / "teacher.safetensors"), evaluate_every=60), torch.device("cuda")
    train(open_run(s, tmp_path / "run", gpu), data, StopAfter(9))
    path = train(open_run(s, tmp_path / "run", gpu), data, Event())
    losses = [float(row.split(",")[2]) for row in (tmp_path / "run" / "curve.csv").read_text().splitlines()[1:]]
    assert losses[1] < losses[0]
    assert all(tensor.isfinite().all() for tensor in load_file(path).values())


def test_a_missing_set_is_told(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="points: no such folder; give the data root with --data"):
        trained(settings(1), tmp_path, tmp_path / "run", Event())


def test_a_set_of_another_layout_is_told(data: Path, tmp_path: Path) -> None:
    boxed = [{"folder": "points", "layout": "boxed_videos", "weight": 1}]
    with pytest.raises(UsageError, match=r"in the layout boxed_videos: no frames; is it of another layout\?"):
        trained(settings(1, sources=boxed), data, tmp_path / "run", Event())


def test_the_learning_rate_rises_holds_and_falls_to_zero() -> None:
    s = settings(2000)
    rates = [learning_rate(s, step) for step in range(s.steps + 1)]
    assert rates[0] <= 0.01 * s.learning_rate
    assert max(rates) == rates[300] == s.learning_rate
    assert rates[-1] == 0
    assert all(a >= b for a, b in pairwise(rates[300:]))


def test_a_run_ends_on_wide_crops(data: Path) -> None:
    s = settings(10, wide=0.3)
    sources = read_sources(s, data)
    shapes = [tuple(draw_batch(sources, s, step).frames.shape) for step in range(s.steps)]
    assert shapes == 7 * [(4, 1, 32, 32)] + 3 * [(2, 1, 64, 64)]
