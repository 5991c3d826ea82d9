"""What each verb of `irst` does: one thin function each. Heavy imports wait until a verb needs them."""

import argparse
from pathlib import Path

from irst_pipeline.errors import UsageError
from irst_pipeline.signals import stop_on_signals


def run(options: argparse.Namespace) -> None:
    """Process recordings or the frames of cameras."""
    stop = stop_on_signals()
    from irst_pipeline.config import RunSettings, SinkName
    from irst_pipeline.settings import read_settings

    flags = {
        "--model": ("model", options.model),
        "--device": ("device", options.device),
        "--camera": ("camera.model", options.camera),
        "--pointing": ("camera.pointing", options.pointing),
        "--metrics": ("metrics.port", options.metrics),
        "--calibration": ("calibration.file", options.calibration),
        "--frame-times": ("frame_times", options.frame_times),
    }
    given = {flag: (key, value) for flag, (key, value) in flags.items() if value is not None}
    if options.resume and options.overwrite:
        raise UsageError("--resume goes on with what --overwrite would remove; give one of them")
    settings = read_settings(RunSettings, options.config, options.set, given)
    sinks = [sink for sink in settings.sinks if sink != "video" or not options.no_video]
    more: dict[SinkName, bool] = {"smoothed": options.smooth, "recorded": options.record}
    sinks += [sink for sink, wanted in more.items() if wanted and sink not in sinks]
    settings = settings.model_copy(update={"sinks": tuple(sinks)})
    from irst_pipeline.runs import run_recordings  # PyTorch takes seconds; what is wrong above is told at once

    run_recordings(options.sources, settings, options.out, options.overwrite, options.realtime, stop, options.resume)


def calibrate(options: argparse.Namespace) -> None:
    """Make a calibration of a camera."""
    stop = stop_on_signals()
    from irst_pipeline.calibrate import calibrate_camera

    calibrate_camera(options.sources, options.scene, options.out, options.overwrite, stop)


def train(options: argparse.Namespace) -> None:
    """Train a network, or go on with a training that was stopped."""
    stop = stop_on_signals()
    from irst_pipeline.settings import read_settings
    from irst_pipeline.training.settings import TrainSettings

    settings = read_settings(TrainSettings, options.config, options.set)
    from irst_pipeline.engine import find_device  # PyTorch takes seconds; what is wrong above is told at once
    from irst_pipeline.training.loop import train as run_training
    from irst_pipeline.training.run import open_run

    training = open_run(settings, options.out, find_device(options.device))
    weights = run_training(training, options.data, stop)
    if training.step < settings.steps:
        stopped = f"stopped at step {training.step} of {settings.steps}; the same command goes on"
        print(f"{stopped}; weights so far: {weights}")
    else:
        print(f"weights: {weights}")


def evaluate_detection(options: argparse.Namespace) -> None:
    """Score a network and the classical baselines on labelled frames."""
    from irst_pipeline.evaluation.detectors import evaluate_detection as run_evaluation

    run_evaluation(options.dataset, options.split, options.model, options.device, options.out, options.overwrite)


def evaluate_tracking(options: argparse.Namespace) -> None:
    """Score the tracks of a run against the truth."""
    from irst_pipeline.evaluation.tracking_report import evaluate_tracking as run_evaluation

    run_evaluation(options.truth, options.results, options.rate, options.out, options.overwrite)


def predict(options: argparse.Namespace) -> None:
    """Write what a network says of images."""
    from irst_pipeline.predict import predict_images

    predict_images(options.images, options.model, options.device, options.out, options.parts, options.overwrite)


def simulate(options: argparse.Namespace) -> None:
    """Make a sequence with exact ground truth."""
    from irst_pipeline.settings import read_settings
    from irst_pipeline.simulation import SceneSettings
    from irst_pipeline.simulation import simulate as run_simulation

    scene = read_settings(SceneSettings, options.scene)
    run_simulation(scene, options.out, options.seed, options.overwrite, [options.scene])
    print(f"sequence and ground truth: {options.out}")


def explain(options: argparse.Namespace) -> None:
    """Show how a network takes an image apart."""
    from irst_pipeline.explain import explain_image

    explain_image(options.image, options.model, options.out, options.overwrite)
    print(f"figure, arrays and numbers: {options.out}")


def bench(options: argparse.Namespace) -> None:
    """Measure how fast everything is here."""
    stop = stop_on_signals()
    from irst_pipeline.bench import run_bench

    run_bench(
        model=options.model,
        device=options.device,
        compiled=options.compile,
        sizes=options.sizes,
        sources=options.sources,
        peers=options.peer,
        frames=options.frames,
        out=options.out,
        overwrite=options.overwrite,
        profile=options.profile,
        stop=stop,
    )


def export(options: argparse.Namespace) -> None:
    """Write a network as an ONNX file."""
    from irst_pipeline.engine import load_model
    from irst_pipeline.export import export_onnx

    width, height = options.size
    export_onnx(load_model(options.model), options.out, width, height, options.overwrite, [Path(options.model)])
    print(f"network for raw frames of {width}x{height} px: {options.out}")
