"""Feed mutated files to everything that reads files: whatever is in them, there is a result or one clear line.

usage: fuzz.py [--cases 10000] [--seed 0] [--only KIND ...] [--out runs/fuzz]

Small recordings, images, configs, tables and weights are made, then changed at random, most often near their beginning,
and read by a process of their own as `irst` would read them. It must neither crash, nor raise anything but IrstError or
OSError, nor take more than 10 s of processor time or 2 GB. A case is a function of the seed and its number; the files
of those that fail are kept in `--out`, and the exit status tells of them. Linux only.
"""

import argparse
import io
import os
import resource
import sys
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing
from functools import cache
from itertools import islice
from multiprocessing import get_context
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from irst_pipeline.bearings.camera import Camera, PinholeSettings
from irst_pipeline.bearings.pointing import read_pointing
from irst_pipeline.calibration.file import read_calibration, to_bytes
from irst_pipeline.calibration.maps import Calibration
from irst_pipeline.config import RunSettings
from irst_pipeline.engine import load_model
from irst_pipeline.errors import IrstError, told_in_one_line
from irst_pipeline.evaluation.logs import read_sequence
from irst_pipeline.settings import Settings, read_settings
from irst_pipeline.simulation import SceneSettings
from irst_pipeline.sources import open_source
from irst_pipeline.training.settings import TrainSettings

ROOT = Path(__file__).parents[1]
SECONDS_MAX = 10.0  # of processor time
WAIT_MAX = 60.0  # s on the wall; on a busy machine a case may have to wait
MEMORY_MAX = 2 << 30  # bytes
ADDRESSES_MAX = 16 << 30  # bytes; so that a case that asks for everything fails before the machine does
FRAMES_MAX = 16
CHANGES_MAX = 8
HEADER_BYTES = 256
EDGES = [bytes([0]), bytes([255]), b"\x7f\xff\xff\xff", b"\xff\xff\xff\xff", b"\x80\x00\x00\x00", b"\x00\x01\x86\xa0"]
WORDS = [
    b"nan",
    b"-1",
    b"0",
    b"1e309",
    b"100000",
    b"null",
    b"[]",
    b"{}",
    b"&a [*a]",
    b"!!python/name:os.system",
    b"\xff",
]
REFERENCE_LOG = "reference.jsonl"
"""Beside the cases: what a mutated file of true paths is read with."""

Reader = Callable[[Path], Any]
Mutable = tuple[str, bytes]
"""A file's suffix and what is in it before it is changed."""


def video(container: str, codec: str, pixels: str) -> bytes:
    """Twelve frames of noise, 64x48."""
    out, rng = io.BytesIO(), np.random.default_rng(0)
    with av.open(out, "w", format=container) as muxer:
        stream = muxer.add_stream(codec, rate=25)
        assert isinstance(stream, av.VideoStream)
        stream.width, stream.height, stream.pix_fmt = 64, 48, pixels
        for _ in range(12):
            image = rng.integers(0, 1 << 14, (48, 64)).astype(np.uint16)
            frame = av.VideoFrame.from_ndarray(image, format="gray16le").reformat(format=pixels)
            muxer.mux(stream.encode(frame))
        muxer.mux(stream.encode(None))
    return out.getvalue()


def image(suffix: str, kind: type[np.uint8 | np.uint16]) -> bytes:
    levels: NDArray[Any] = np.random.default_rng(0).integers(0, np.iinfo(kind).max, (48, 64)).astype(kind)
    return cv2.imencode(suffix, levels)[1].tobytes()


def calibration() -> bytes:
    shape = 48, 64
    gain, offset = np.random.default_rng(0).normal(1, 0.01, (2, *shape)).astype(np.float32)
    return to_bytes(Calibration(gain, offset, np.zeros(shape, np.uint8), "uint16"), {})


def read_frames(path: Path) -> None:
    with closing(open_source(str(path))) as source:
        for _ in islice(source, FRAMES_MAX):
            pass


def read_stream(path: Path) -> None:
    """The file as a live stream on standard input."""
    with path.open("rb") as file:
        os.dup2(file.fileno(), 0)
    with closing(open_source("-")) as source:
        for _ in islice(source, FRAMES_MAX):
            pass


def settings_of(kind: type[Settings]) -> Reader:
    return lambda path: read_settings(kind, path)


@cache
def kinds() -> dict[str, tuple[Reader, list[Mutable]]]:
    """What is read, how, and files to begin with."""
    videos = [
        (".mp4", video("mp4", "libx264", "yuv420p")),
        (".mkv", video("matroska", "ffv1", "gray16le")),
        (".nut", video("nut", "rawvideo", "gray16le")),
        (".ts", video("mpegts", "libx264", "yuv420p")),
        (".avi", video("avi", "mjpeg", "yuvj420p")),
    ]
    images = [(suffix, image(suffix, kind)) for suffix in (".png", ".tiff") for kind in (np.uint8, np.uint16)]
    images += [(suffix, image(suffix, np.uint8)) for suffix in (".bmp", ".jpg")]
    camera = (ROOT / "configs/cameras/lwir-640x512.yaml").read_bytes()
    scenes = [(".yaml", path.read_bytes()) for path in sorted((ROOT / "configs/scenes").glob("*.yaml"))]
    pointing = b"frame,azimuth_deg,elevation_deg,roll_deg\n" + b"".join(b"%d,%d,4.5,0\n" % (i, i) for i in range(20))
    truth = b"".join(b"%d,1,%d,20,1,1,1,1,0.9\n" % (i, 10 + i) for i in range(1, 20))
    log = (
        b'{"record":"header","schema":"irst.tracks/1","frame_rate":25.0}\n'
        b'{"record":"track","frame":3,"time":0.1,"id":1,"status":"confirmed","x":12.5,"y":20.5,"vx":1.0,"vy":0.0,'
        b'"cov":[0.2,0.0,0.2],"box":[11,19,3,3],"score":0.9,"snr":8.0,"age":3,"hits":3,"nis":1.5}\n'
    )
    reference = ROOT / "videos/horizon/truth.mot.txt"
    return {
        "recording": (read_frames, videos + images),
        "stream": (read_stream, videos),
        "config": (settings_of(RunSettings), [(".yaml", (ROOT / "configs/default.yaml").read_bytes())]),
        "scene": (settings_of(SceneSettings), scenes),
        "training": (settings_of(TrainSettings), [(".yaml", (ROOT / "configs/train/lsnet-nano.yaml").read_bytes())]),
        "camera": (lambda path: Camera(read_settings(PinholeSettings, path)), [(".yaml", camera)]),
        "calibration": (read_calibration, [(".safetensors", calibration())]),
        "pointing": (read_pointing, [(".csv", pointing)]),
        "truth": (lambda path: read_sequence(path, path.with_name(REFERENCE_LOG)), [(".txt", truth)]),
        "log": (lambda path: read_sequence(reference, path), [(".jsonl", log)]),
        "weights": (
            lambda path: load_model(str(path)),
            [(".safetensors", (ROOT / "irst_pipeline/lsnet/shipped/lsnet-nano.safetensors").read_bytes())],
        ),
    }


def mutated(data: bytes, rng: np.random.Generator) -> bytes:
    """`data` after a few random changes: bits, bytes, numbers, words, and pieces cut out, repeated or cut off."""
    changed = bytearray(data)
    for _ in range(min(CHANGES_MAX, int(rng.geometric(0.4)))):
        reach = len(changed) if rng.random() < 0.5 else min(HEADER_BYTES, len(changed))
        at, length = int(rng.integers(reach + 1)), int(rng.integers(1, 65))
        how = rng.integers(7)
        if how == 0 and at < len(changed):
            changed[at] ^= 1 << int(rng.integers(8))
        elif how == 1:
            changed[at : at + length] = rng.bytes(length)
        elif how in (2, 3):
            choices = EDGES if how == 2 else WORDS
            new = choices[int(rng.integers(len(choices)))]
            changed[at : at + len(new) * int(rng.integers(2))] = new
        elif how == 4:
            del changed[at : at + length]
        elif how == 5:
            changed[at:at] = changed[at : at + length] * int(rng.integers(1, 20))
        elif rng.random() < 0.3:
            del changed[at:]
    return bytes(changed)


def cases(count: int, seed: int, only: list[str]) -> Iterator[tuple[str, str, bytes]]:
    """Kind, name and content of each."""
    files = [(kind, suffix, data) for kind in only for suffix, data in kinds()[kind][1]]
    for number in range(count):
        kind, suffix, data = files[number % len(files)]
        yield kind, f"{number}-{kind}{suffix}", mutated(data, np.random.default_rng([seed, number]))


def work(connection: Connection) -> None:
    """Read each file that is named, and answer with how it went."""
    resource.setrlimit(resource.RLIMIT_AS, (ADDRESSES_MAX, ADDRESSES_MAX))
    sys.stderr = sys.stdout = Path(os.devnull).open("w")  # noqa: SIM115 (for as long as this process lives)
    av.logging.set_level(av.logging.PANIC)
    readers = {kind: reader for kind, (reader, _) in kinds().items()}
    connection.send("ready")
    while True:
        kind, path = connection.recv()
        begun = time.process_time()
        try:
            readers[kind](Path(path))
            outcome = "read"
        except (IrstError, OSError) as error:
            outcome = "refused" if str(error) and "\n" not in str(error) else f"not one line: {error}"
        except BaseException:
            outcome = traceback.format_exc()
        seconds = time.process_time() - begun
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
        if seconds > SECONDS_MAX or peak > MEMORY_MAX:
            outcome = f"{seconds:.0f} s of processor time, {peak / 2**30:.1f} GB of memory"
        connection.send(outcome)


class Worker:
    """A process that reads files, replaced by a new one when it dies of it."""

    def __init__(self) -> None:
        context = get_context("spawn")
        self._connection, other = context.Pipe()
        self._process = context.Process(target=work, args=(other,), daemon=True)
        self._process.start()
        other.close()
        self._connection.recv()

    def read(self, kind: str, path: Path) -> str:
        """How it went; when `alive` is no longer true, how it ended."""
        self._connection.send((kind, str(path)))
        if not self._connection.poll(WAIT_MAX):
            self.close()
            return f"it hangs for more than {WAIT_MAX:.0f} s"
        try:
            return str(self._connection.recv())
        except EOFError:
            self._process.join()
            return f"it died with exit code {self._process.exitcode}"

    @property
    def alive(self) -> bool:
        return self._process.is_alive()

    def close(self) -> None:
        self._process.kill()
        self._process.join()


def fuzz(count: int, seed: int, only: list[str], out: Path) -> bool:
    """Whether every case went well; prints how many were read and refused, and what went wrong."""
    out.mkdir(parents=True)
    (out / REFERENCE_LOG).write_bytes(kinds()["log"][1][0][1])
    outcomes: Counter[tuple[str, str]] = Counter()
    worker = Worker()
    for kind, name, data in tqdm(cases(count, seed, only), total=count, unit="file", disable=None):
        path = out / name
        path.write_bytes(data)
        outcome = worker.read(kind, path)
        if outcome in ("read", "refused"):
            path.unlink()
        else:
            print(f"{path}: {outcome}")
            outcome = "failed"
        outcomes[kind, outcome] += 1
        if not worker.alive or outcome == "failed":
            worker.close()
            worker = Worker()
    worker.close()
    for kind in only:
        print(f"{kind:10} " + "   ".join(f"{outcomes[kind, how]:6} {how}" for how in ("read", "refused", "failed")))
    return not any(outcomes[kind, "failed"] for kind in only)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", nargs="+", choices=list(kinds()), default=list(kinds()), metavar="KIND")
    parser.add_argument("--out", type=Path, default=Path("runs/fuzz"))
    options = parser.parse_args()
    sys.exit(not fuzz(options.cases, options.seed, options.only, options.out))


if __name__ == "__main__":
    with told_in_one_line("fuzz"):
        main()
