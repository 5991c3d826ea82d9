"""The `irst` command: what it is given, and how it ends."""

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

from irst_pipeline import __version__, verbs
from irst_pipeline.errors import IrstError, refusal

Verbs: TypeAlias = "argparse._SubParsersAction[argparse.ArgumentParser]"

# What several verbs take.
MODEL, DEVICE, OVERWRITE = (argparse.ArgumentParser(add_help=False) for _ in range(3))
MODEL.add_argument(
    "--model", default="lsnet-nano", help="name of a shipped network or path of a .safetensors file (%(default)s)"
)
DEVICE.add_argument("--device", default="auto", help="auto, cpu, cuda or cuda:N (%(default)s)")
OVERWRITE.add_argument("--overwrite", action="store_true", help="replace the results that --out already holds")


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
    """Open those that are closed, on nothing: else the first files to be opened would take their numbers."""
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            setattr(sys, name, Path(os.devnull).open(mode))  # noqa: SIM115 (as long as the process)


def _flush() -> None:
    """Pass on what is printed. Where nobody takes it any more it goes nowhere: Python would else end with a failure."""
    try:
        sys.stdout.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _say_error(line: str) -> None:
    from irst_pipeline.sources.address import without_passwords

    print(f"irst: error: {without_passwords(line)}", file=sys.stderr)


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
    to = parser.add_subparsers(required=True, metavar="VERB")
    _add_run(to)
    _add_train(to)
    _add_simulate(to)
    _add_calibrate(to)
    _add_evaluate(to)
    _add_predict(to)
    _add_explain(to)
    _add_bench(to)
    _add_export(to)
    return parser


def _add_run(to: Verbs) -> None:
    verb = to.add_parser("run", parents=[OVERWRITE], help="find and track targets in recordings and live streams")
    verb.set_defaults(verb=verbs.run)
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
    verb.add_argument(
        "--frame-times", metavar="FILE", help="CSV of when each frame of a recording was taken; {} in it likewise"
    )
    verb.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="change one setting")
    verb.add_argument(
        "--resume", action="store_true", help="go on with a run that was stopped or killed, in the same folder"
    )
    verb.add_argument("--no-video", action="store_true", help="write no annotated video")
    verb.add_argument("--record", action="store_true", help="write the frames themselves as well, lossless")
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


def _add_train(to: Verbs) -> None:
    verb = to.add_parser("train", parents=[DEVICE], help="train a network, or go on training it")
    verb.set_defaults(verb=verbs.train)
    verb.add_argument("--config", type=Path, required=True, help="YAML of the run, as configs/train/lsnet-nano.yaml")
    verb.add_argument("--data", type=Path, required=True, help="folder that holds the data sets")
    verb.add_argument("--out", type=Path, required=True, help="folder of the run: checkpoint, weights, curve")
    verb.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="change one setting")


def _add_simulate(to: Verbs) -> None:
    verb = to.add_parser("simulate", parents=[OVERWRITE], help="make a sequence with exact ground truth")
    verb.set_defaults(verb=verbs.simulate)
    verb.add_argument("scene", type=Path, help="YAML of the scene, as videos/horizon/scene.yaml")
    verb.add_argument("--out", type=Path, required=True, help="folder for the sequence and its truth")
    verb.add_argument("--seed", type=int, default=0, help="of all that is drawn at random (default: %(default)s)")


def _add_calibrate(to: Verbs) -> None:
    verb = to.add_parser("calibrate", parents=[OVERWRITE], help="find a camera's own pattern and its bad pixels")
    verb.set_defaults(verb=verbs.calibrate)
    verb.add_argument(
        "sources",
        nargs="+",
        metavar="SOURCE",
        help="a recording of something of one temperature; for gains as well, a second one of another temperature",
    )
    verb.add_argument("--scene", action="store_true", help="SOURCE is any recording in which the scene moves")
    verb.add_argument("--out", type=Path, required=True, metavar="FILE.safetensors", help="a picture comes beside it")


def _add_evaluate(to: Verbs) -> None:
    verb = to.add_parser("evaluate", help="score against the truth")
    kinds = verb.add_subparsers(required=True, metavar="WHAT")
    verb = kinds.add_parser(
        "detection",
        parents=[MODEL, DEVICE, OVERWRITE],
        help="IoU, nIoU, F1, Pd, Fa and the Pd/Fa curve on labelled frames",
    )
    verb.set_defaults(verb=verbs.evaluate_detection)
    verb.add_argument("dataset", type=Path, help="folder with images/, masks/ and img_idx/SPLIT_*.txt")
    verb.add_argument("--split", default="test", help="which list of img_idx/ (default: %(default)s)")
    verb.add_argument("--out", type=Path, help="folder for the results (default: runs/evaluate-SET-SPLIT-MODEL)")

    verb = kinds.add_parser(
        "tracking",
        parents=[OVERWRITE],
        help="HOTA, MOTA, IDF1, GOSPA, OSPA(2), false tracks, delays, errors and their consistency of a run",
    )
    verb.set_defaults(verb=verbs.evaluate_tracking)
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


def _add_predict(to: Verbs) -> None:
    verb = to.add_parser("predict", parents=[MODEL, DEVICE, OVERWRITE], help="write probability maps of images")
    verb.set_defaults(verb=verbs.predict)
    verb.add_argument("images", help="a folder or glob of images, or one image")
    verb.add_argument("--out", type=Path, required=True, help="folder for the maps: NAME.png, 0..255 for 0..1")
    verb.add_argument("--parts", action="store_true", help="also T and B, float TIFF in grey levels")


def _add_explain(to: Verbs) -> None:
    verb = to.add_parser(
        "explain", parents=[MODEL, OVERWRITE], help="show how a network takes an image apart: background, target, noise"
    )
    verb.set_defaults(verb=verbs.explain)
    verb.add_argument("image", help="an image; of a video or a folder, the first frame")
    verb.add_argument("--out", type=Path, required=True, help="folder for the figure, the arrays and the numbers")


def _add_bench(to: Verbs) -> None:
    verb = to.add_parser(
        "bench", parents=[MODEL, DEVICE, OVERWRITE], help="measure the network, the engine and the whole pipeline here"
    )
    verb.set_defaults(verb=verbs.bench)
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


def _add_export(to: Verbs) -> None:
    verb = to.add_parser("export", parents=[OVERWRITE], help="write a network as an ONNX file")
    verb.set_defaults(verb=verbs.export)
    verb.add_argument("--model", required=True, help="name of a shipped network or path of a .safetensors file")
    verb.add_argument("--out", type=Path, required=True, metavar="FILE.onnx", help="the file to write")
    verb.add_argument("--size", type=size, required=True, metavar="WxH", help="of the frames, as 320x256")


if __name__ == "__main__":
    command()
