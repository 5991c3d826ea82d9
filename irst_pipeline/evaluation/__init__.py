"""How well the parts do, measured as the field measures it."""

from contextlib import suppress
from pathlib import Path

import torch

from irst_pipeline.datasets import Sample, read_masked_images
from irst_pipeline.disk import claim_folder, clear_folder, prepare_folder
from irst_pipeline.engine import find_device, load_model
from irst_pipeline.errors import UsageError
from irst_pipeline.evaluation.detection import DetectionScores
from irst_pipeline.evaluation.detection_report import DETECTION_FILES, detection_table, write_detection_report
from irst_pipeline.evaluation.detectors import BASELINES, network_detector, score
from irst_pipeline.evaluation.logs import find_log, find_truth, read_sequence
from irst_pipeline.evaluation.tracking import evaluate
from irst_pipeline.evaluation.tracking_report import TRACKING_FILES, tracking_table, write_tracking_report
from irst_pipeline.lsnet.model import LSNet

__all__ = ["evaluate_detection", "evaluate_tracking", "score_network"]


def score_network(network: LSNet, samples: list[Sample], device: torch.device) -> DetectionScores:
    """Scores at threshold 0.5 of a network that is on `device`, in eval mode, on whole frames of any sizes."""
    return score(network_detector("network", network, device), samples, curve=False).scores()


def evaluate_detection(folder: Path, split: str, model: str, device: str, out: Path | None, overwrite: bool) -> None:
    """Score a network, and the classical baselines on the same frames, on a split of a set in the field's layout.

    The network runs in PyTorch in float32 at native size (see `irst_pipeline.predict`). The results go to `out`, by
    default runs/evaluate-SET-SPLIT-MODEL, and as a table to stdout. Raises IrstError, a line for the user.
    """
    weights, on = load_model(model), find_device(device)
    if weights.name in {baseline.name for baseline in BASELINES}:
        raise UsageError(f"--model {model}: {weights.name} is also the name of a baseline; give it another name")
    name = folder.resolve().name
    out = out or Path("runs") / f"evaluate-{name}-{split}-{weights.name}"
    samples = read_masked_images(folder, split)
    inputs = [path for part in ("images", "masks", "img_idx") for path in (folder / part).iterdir()]
    earlier = claim_folder(out, DETECTION_FILES, [*inputs, Path(model)], overwrite)
    detectors = [network_detector(weights.name, weights.network.to(on), on), *BASELINES]
    try:
        counts = {detector.name: score(detector, samples) for detector in detectors}
    except BaseException:
        with suppress(OSError):  # as where earlier results are in it
            out.rmdir()
        raise
    what = {
        "dataset": name,
        "split": split,
        "model": weights.name,
        "weights_sha256": weights.sha256,
        "device": str(on),
        "images": len(samples),
    }
    clear_folder(out, earlier)  # late: scoring may fail, and earlier results stay then
    write_detection_report(out, what, counts)
    print(f"{name} {split}: {len(samples)} images, {counts[weights.name].scores().targets} targets")
    print(detection_table(counts))
    print(f"results  {out}: {' '.join(DETECTION_FILES)}")


def evaluate_tracking(truth: Path, results: Path, frame_rate: float | None, out: Path | None, overwrite: bool) -> None:
    """Score the tracks of a run, or of another tracker, against the true paths of its targets.

    `truth`, `results` and `frame_rate` are what `find_truth`, `find_log` and `read_sequence` take. The results go to
    `out`, by default runs/evaluate-TRUTH-RESULTS, and as a table to stdout. Raises IrstError, a line for the user.
    """
    truth, log = find_truth(truth), find_log(results)
    names = [path.resolve().parent.name for path in (truth, log)]
    out = out or Path("runs") / f"evaluate-{'-'.join(names)}"
    sequence = read_sequence(truth, log, frame_rate)
    evaluation = evaluate(sequence)
    prepare_folder(out, TRACKING_FILES, [truth, log], overwrite)
    write_tracking_report(out, {"truth": str(truth), "tracks_log": str(log)}, sequence, evaluation)
    print(f"{log} against {truth}")
    print(tracking_table(evaluation.scores))
    print(f"results  {out}: {' '.join(TRACKING_FILES)}")
