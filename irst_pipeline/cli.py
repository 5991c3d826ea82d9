"""The `irst` command: one thin function per verb. Heavy imports wait until a verb needs them."""

import argparse
import logging
import os
import re
import sys
from collections.abc import Callable
from contextlib import suppress
from io import TextIOWrapper
from pathlib import Path
from typing import Any, NoReturn, TypeAlias

from irst_pipeline import __version__
from irst_pipeline.errors import IrstError, UsageError, refusal
from irst_pipeline.signals import stop_on_signals

Verbs: TypeAlias = "argparse._SubParsersAction[argparse.ArgumentParser]"


class _Parser(argparse.ArgumentParser):
    """Shows no password of an address that is in the wrong place, and for a word too many the usage of its verb."""

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        options, unknown = super().parse_known_args(args, namespace)
        if unknown:
            self.error(f"unrecognized arguments: {' '.join(unknown)}")
        return options, unknown

    def error(self, message: str) -> NoReturn:
        from irst_pipeline.sources.address import redact

        # Up to the next address, for a password may hold any sign.
        address = r"[A-Za-z][\w+.-]*:/.*?(?=[A-Za-z][\w+.-]*://|\Z)"
        super().error(re.sub(address, lambda found: redact(found[0]), message, flags=re.DOTALL))


def main(arguments: list[str] | None = None) -> int:
    """Run a verb; returns the exit code: 0, 1 for a failure, 2 for a usage or config error."""
    _open_standard_streams()
    words = sys.argv[1:] if arguments is None else arguments
    # Standard input with its format behind it would be taken for a flag.
    options = _parser().parse_args([f"stdin://{word[1:]}" if word.startswith("-?") else word for word in words])
    logging.basicConfig(format="irst: %(message)s", stream=sys.stderr)
    logging.getLogger("irst").setLevel(logging.INFO)
    if isinstance(sys.stdout, TextIOWrapper):  # a file's name may hold what the terminal cannot show
        sys.stdout.reconfigure(errors="backslashreplace")
    verb: Callable[[argparse.Namespace], None] = options.verb
    try:
        verb(options)
    except IrstError as error:
        _say_error(str(error))
        return error.exit_code
    except BrokenPipeError:
        pass  # whoever read what is printed wants no more of it; the results are files
    except OSError as error:
        _say_error(refusal(error))
        return IrstError.exit_code
    except KeyboardInterrupt:
        print("irst: interrupted", file=sys.stderr)
        return 130
    finally:
        _flush()
    return 0


def command() -> NoReturn:
    """`irst` as a process of its own, which ends with the verb.

    The network may still be compiled then, in a thread that nothing interrupts and for which Python's own end waits.
    """
    code = main()
    with suppress(OSError):
        sys.stderr.flush()
    os._exit(code)


def _open_standard_streams() -> None:
    """Those that are closed, to nowhere: else the first files to be opened would be in their place."""
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            setattr(sys, name, Path(os.devnull).open(mode))  # noqa: SIM115 (as long as the process)


def _flush() -> None:
    """What is printed, as far as anybody takes it: what is left would make Python end with a failure."""
    try:
        sys.stdout.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _say_error(line: str) -> None:
    from irst_pipeline.sources.address import without_passwords

    print(f"irst: error: {without_passwords(line)}", file=sys.stderr)


def run(options: argparse.Namespace) -> None:
    """Process recordings."""
    stop = stop_on_signals()
    from irst_pipeline.config import RunSettings
    from irst_pipeline.settings import read_settings

    flags = {
        "--model": ("model", options.model),
        "--device": ("device", options.device),
        "--camera": ("camera.model", options.camera),
        "--pointing": ("camera.pointing", options.pointing),
        "--metrics": ("metrics.port", options.metrics),
        "--calibration": ("calibration.file", options.calibration),
    }
    given = {flag: (key, value) for flag, (key, value) in flags.items() if value is not None}
    if options.resume and options.overwrite:
        raise UsageError("--resume goes on with what --overwrite would remove; give one of them")
    settings = read_settings(RunSettings, options.config, options.set, given)
    sinks = [sink for sink in settings.sinks if sink != "video" or not options.no_video]
    if options.smooth and "smoothed" not in sinks:
        sinks.append("smoothed")
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
    from irst_pipeline.evaluation import evaluate_detection as run_evaluation

    run_evaluation(options.dataset, options.split, options.model, options.device, options.out, options.overwrite)


def evaluate_tracking(options: argparse.Namespace) -> None:
    """Score the tracks of a run against the truth."""
    from irst_pipeline.evaluation import evaluate_tracking as run_evaluation

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
        options.model,
        options.device,
        options.compile,
        options.sizes,
        options.sources,
        options.peer,
        options.frames,
        options.out,
        options.overwrite,
        options.profile,
        stop,
    )


def export(options: argparse.Namespace) -> None:
    """Write a network as an ONNX file."""
    from irst_pipeline.engine import load_model
    from irst_pipeline.export import export_onnx

    width, height = options.size
    export_onnx(load_model(options.model), options.out, width, height, options.overwrite, [Path(options.model)])
    print(f"network for raw frames of {width}x{height} px: {options.out}")


def size(text: str) -> tuple[int, int]:
    """Width and height of frames, as an argument; raises ArgumentTypeError."""
    width, _, height = text.partition("x")
    if not (width.isdecimal() and height.isdecimal()):
        raise argparse.ArgumentTypeError(f"{text}: expected WIDTHxHEIGHT in px, as 320x256")
    return int(width), int(height)


def rate(text: str) -> float:
    """Frames a second, as an argument; raises ArgumentTypeError."""
    with suppress(ValueError):
        if 0 < (found := float(text)) < 1e6:
            return found
    raise argparse.ArgumentTypeError(f"{text}: expected frames a second, as 30")


def _parser() -> argparse.ArgumentParser:
    parser: argparse.ArgumentParser = _Parser(prog="irst", description="Infrared search and track.")
    parser.add_argument("--version", action="version", version=f"irst {__version__}")
    verbs = parser.add_subparsers(required=True, metavar="VERB")
    model, device, overwrite = _shared_flags()

    verb = verbs.add_parser("run", parents=[overwrite], help="find and track targets in recordings and live streams")
    verb.set_defaults(verb=run)
    verb.add_argument(
        "sources",
        nargs="+",
        metavar="SOURCE",
        help="a video file, a folder or glob of images, or a live stream; several are run at once",
    )
    verb.add_argument("--config", type=Path, help="YAML settings; configs/default.yaml shows them all")
    verb.add_argument(
        "--out",
        type=Path,
        help="folder for the results; of several sources, for a folder for each (default: runs/NAME)",
    )
    verb.add_argument("--model", help="name of a shipped network or path of a .safetensors file")
    verb.add_argument("--device", help="auto, cpu, cuda or cuda:N")
    verb.add_argument("--camera", metavar="FILE", help="YAML of the camera: tracks have azimuth and elevation then")
    verb.add_argument(
        "--pointing",
        metavar="FILE",
        help="CSV of where the camera's platform points; {} in it is the recording's path without its suffix",
    )
    verb.add_argument(
        "--calibration", metavar="FILE", help="what irst calibrate wrote of this camera; {} in it as in --pointing"
    )
    verb.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="change one setting")
    verb.add_argument(
        "--resume", action="store_true", help="go on with a run that was stopped or killed, in the same folder"
    )
    verb.add_argument("--no-video", action="store_true", help="write no annotated video")
    verb.add_argument("--smooth", action="store_true", help="at the end, write smoothed and stitched tracks as well")
    verb.add_argument(
        "--realtime", action="store_true", help="replay it as a live camera: at its own rate, the newest frame first"
    )
    verb.add_argument(
        "--metrics",
        type=int,
        metavar="PORT",
        help="answer at /metrics (Prometheus) and /healthz of this port, on this machine",
    )

    verb = verbs.add_parser("train", parents=[device], help="train a network, or go on training it")
    verb.set_defaults(verb=train)
    verb.add_argument("--config", type=Path, required=True, help="YAML of the run, as configs/train/lsnet-nano.yaml")
    verb.add_argument("--data", type=Path, required=True, help="folder that holds the data sets")
    verb.add_argument("--out", type=Path, required=True, help="folder of the run: checkpoint, weights, curve")
    verb.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="change one setting")

    verb = verbs.add_parser("simulate", parents=[overwrite], help="make a sequence with exact ground truth")
    verb.set_defaults(verb=simulate)
    verb.add_argument("scene", type=Path, help="YAML of the scene, as videos/horizon/scene.yaml")
    verb.add_argument("--out", type=Path, required=True, help="folder for the sequence and its truth")
    verb.add_argument("--seed", type=int, default=0, help="of all that is drawn at random (default: %(default)s)")

    _add_calibrate(verbs, overwrite)
    _add_network_verbs(verbs, model, device, overwrite)
    return parser


def _add_calibrate(verbs: Verbs, overwrite: argparse.ArgumentParser) -> None:
    verb = verbs.add_parser("calibrate", parents=[overwrite], help="find a camera's own pattern and its bad pixels")
    verb.set_defaults(verb=calibrate)
    verb.add_argument(
        "sources",
        nargs="+",
        metavar="SOURCE",
        help="a recording of something of one temperature; for gains as well, a second one of another temperature",
    )
    verb.add_argument("--scene", action="store_true", help="SOURCE is any recording in which the scene moves")
    verb.add_argument("--out", type=Path, required=True, metavar="FILE.safetensors", help="a picture comes beside it")


def _add_network_verbs(
    verbs: Verbs, model: argparse.ArgumentParser, device: argparse.ArgumentParser, overwrite: argparse.ArgumentParser
) -> None:
    verb = verbs.add_parser("evaluate", help="score against the truth")
    kinds = verb.add_subparsers(required=True, metavar="WHAT")
    verb = kinds.add_parser(
        "detection",
        parents=[model, device, overwrite],
        help="IoU, nIoU, F1, Pd, Fa and the Pd/Fa curve on labelled frames",
    )
    verb.set_defaults(verb=evaluate_detection)
    verb.add_argument("dataset", type=Path, help="folder with images/, masks/ and img_idx/SPLIT_*.txt")
    verb.add_argument("--split", default="test", help="which list of img_idx/ (default: %(default)s)")
    verb.add_argument("--out", type=Path, help="folder for the results (default: runs/evaluate-SET-SPLIT-MODEL)")

    verb = kinds.add_parser(
        "tracking",
        parents=[overwrite],
        help="HOTA, MOTA, IDF1, GOSPA, OSPA(2), false tracks, delays, errors and their consistency of a run",
    )
    verb.set_defaults(verb=evaluate_tracking)
    verb.add_argument(
        "truth", type=Path, metavar="GT", help="folder that irst simulate wrote, or a file of MOTChallenge ground truth"
    )
    verb.add_argument(
        "results",
        type=Path,
        metavar="RESULTS",
        help="folder that irst run wrote, or its tracks.jsonl; or another tracker's, FILE.txt in MOTChallenge form",
    )
    verb.add_argument("--rate", type=rate, metavar="HZ", help="frames a second, where neither GT nor RESULTS says it")
    verb.add_argument("--out", type=Path, help="folder for the results (default: runs/evaluate-GT-RESULTS)")

    verb = verbs.add_parser("predict", parents=[model, device, overwrite], help="write probability maps of images")
    verb.set_defaults(verb=predict)
    verb.add_argument("images", help="a folder or glob of images, or one image")
    verb.add_argument("--out", type=Path, required=True, help="folder for the maps: NAME.png, 0..255 for 0..1")
    verb.add_argument("--parts", action="store_true", help="also T and B, float TIFF in grey levels")

    verb = verbs.add_parser(
        "explain", parents=[model, overwrite], help="show how a network takes an image apart: background, target, noise"
    )
    verb.set_defaults(verb=explain)
    verb.add_argument("image", help="an image; of a video or a folder, the first frame")
    verb.add_argument("--out", type=Path, required=True, help="folder for the figure, the arrays and the numbers")

    verb = verbs.add_parser(
        "bench", parents=[model, device, overwrite], help="measure the network, the engine and the whole pipeline here"
    )
    verb.set_defaults(verb=bench)
    sizes = [(256, 256), (320, 256), (640, 512), (1280, 1024)]
    usual = " ".join(f"{width}x{height}" for width, height in sizes)
    verb.add_argument(
        "--sizes", type=size, nargs="+", default=sizes, metavar="WxH", help=f"of the frames, even (default: {usual})"
    )
    counts = [2, 4, 8, 16]
    usual = " ".join(map(str, counts))
    verb.add_argument(
        "--sources",
        type=int,
        nargs="*",
        default=counts,
        metavar="N",
        help=f"pipelines at once, at the first size (default: {usual})",
    )
    verb.add_argument(
        "--peer", nargs="+", default=[], metavar="MODULE:CLASS", help="other networks of PyTorch, in turns with ours"
    )
    verb.add_argument("--frames", type=int, default=60, help="of each source at each size (default: %(default)s)")
    verb.add_argument("--out", type=Path, default=Path("runs/bench"), help="folder for the results (%(default)s)")
    verb.add_argument("--compile", action="store_true", help="on CUDA, with the network compiled first")
    verb.add_argument("--profile", action="store_true", help="also a trace a size, for chrome://tracing or Perfetto")

    verb = verbs.add_parser("export", parents=[overwrite], help="write a network as an ONNX file")
    verb.set_defaults(verb=export)
    verb.add_argument("--model", required=True, help="name of a shipped network or path of a .safetensors file")
    verb.add_argument("--out", type=Path, required=True, metavar="FILE.onnx", help="the file to write")
    verb.add_argument("--size", type=size, required=True, metavar="WxH", help="of the frames, as 320x256")


def _shared_flags() -> tuple[argparse.ArgumentParser, argparse.ArgumentParser, argparse.ArgumentParser]:
    """--model, --device and --overwrite, as parents of the verbs that take them."""
    model, device, overwrite = (argparse.ArgumentParser(add_help=False) for _ in range(3))
    model.add_argument(
        "--model", default="lsnet-nano", help="name of a shipped network or path of a .safetensors file (%(default)s)"
    )
    device.add_argument("--device", default="auto", help="auto, cpu, cuda or cuda:N (%(default)s)")
    overwrite.add_argument("--overwrite", action="store_true", help="replace the results that --out already holds")
    return model, device, overwrite


if __name__ == "__main__":
    command()
