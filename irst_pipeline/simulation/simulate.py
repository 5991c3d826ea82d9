"""Renders a scene into video files with exact ground truth."""

import math
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import ClassVar, Self, cast

import av
import numpy as np
import yaml
from av.video.stream import VideoStream
from numpy.typing import NDArray
from tqdm import tqdm

from irst_pipeline.errors import IrstError, UsageError
from irst_pipeline.folders import prepare_folder
from irst_pipeline.memory import told_out_of_memory
from irst_pipeline.simulation.background import Background
from irst_pipeline.simulation.camera import CameraPath, Pose
from irst_pipeline.simulation.scene import SceneSettings
from irst_pipeline.simulation.sensor import Sensor
from irst_pipeline.simulation.targets import Targets, TargetState
from irst_pipeline.types import Floats

SCENE_FILE, DEEP_FILE, SHOWN_FILE = "scene.yaml", "sequence16.mkv", "sequence8.mp4"
TRUTH_FILE, MOT_FILE, CAMERA_FILE = "truth.csv", "truth.mot.txt", "truth_camera.csv"
FILES = SCENE_FILE, DEEP_FILE, SHOWN_FILE, TRUTH_FILE, MOT_FILE, CAMERA_FILE
BLACK, WHITE, GREY = 16, 235, 128  # of 8-bit video in its usual, limited range; chroma without colour
STREAMS = ("clouds", "terrain", "flights", "noise", "formations", "sea", "urban", "camera", "pattern")
"""What draws random numbers, each from a stream of its own; a new one goes to the end, so that the others stay."""
BIT_EXACT = "+bitexact"  # no dates, random ids or version names in the files


@dataclass(frozen=True)
class TrueFrame:
    """One simulated frame and all that is true of it."""

    index: int
    time: float
    """s"""
    image: NDArray[np.uint16]
    """(H, W), 14 bits."""
    targets: tuple[TargetState, ...]
    """Their `snr` is over the noise of the background where they are."""
    pose: Pose
    """Where the camera looks."""


def render(scene: SceneSettings, seed: int) -> Iterator[TrueFrame]:
    """The frames of `scene`; the same for the same seed, on any machine."""
    streams = {
        name: np.random.Generator(np.random.PCG64(np.random.SeedSequence(seed, spawn_key=(part,))))
        for part, name in enumerate(STREAMS)
    }
    camera = CameraPath(scene.camera, scene.centre, scene.frames, scene.frame_rate_hz, streams["camera"])
    background = Background(scene, camera, streams)
    targets = Targets(scene, camera, streams["flights"], streams["formations"])
    sensor = Sensor(scene.sensor, scene.shape, streams["noise"], streams["pattern"])
    sky_noise = float(sensor.noise_sd(np.asarray(scene.sky.level)))
    for index in range(scene.frames):
        scenery = background.at(index)
        image = camera.image(scenery.level, index)
        noise_sd = sensor.noise_sd(image)
        states = targets.at(index, scenery)
        for state in states:
            sensor.add_point(image, state.x, state.y, state.snr * sky_noise / sensor.peak)
        truth = tuple(_over_noise(state, sky_noise / _nearest(noise_sd, state)) for state in states)
        yield TrueFrame(index, index / scene.frame_rate_hz, sensor.expose(image), truth, camera.poses[index])


def _over_noise(state: TargetState, quieter: float) -> TargetState:
    """The state with its SNR over the noise around it; `quieter` is the noise of clear sky over that.

    A target of which clouds or dimming leave less than that noise is hidden.
    """
    snr = state.snr * quieter
    return replace(state, snr=snr, visible=state.visible and (state.share == 1 or snr >= 1))


def _nearest(image: Floats, state: TargetState) -> float:
    """The pixel of `image` (H, W) under a target, or nearest to it."""
    row, column = (min(max(round(at), 0), side - 1) for at, side in zip((state.y, state.x), image.shape, strict=True))
    return float(image[row, column])


def simulate(scene: SceneSettings, out: Path, seed: int, overwrite: bool = False, inputs: Iterable[Path] = ()) -> None:
    """Writes the sequence of `scene` and `seed` into the folder `out`, which is made and must not hold anything; with
    `overwrite`, a sequence that it holds is replaced, if that takes none of the `inputs` with it.

    - sequence16.mkv: FFV1, gray16le, the 14-bit frames exactly.
    - sequence8.mp4: lossless H.264, yuv420p; `view_levels` of the scene linearly as luma 16 to 235.
    - truth.csv: a row per frame and existing target; truth.mot.txt: those in the image as MOTChallenge ground truth.
    - truth_camera.csv: a row per frame, where the camera looks; only if it moves.
    - scene.yaml: all settings, and as a comment the command with the seed.

    Raises UsageError if `out` cannot be used or `seed` is negative, and IrstError if writing fails or the memory is too
    small for the scene.
    """
    if seed < 0:
        raise UsageError(f"--seed {seed}: expected a whole number from 0")
    prepare_folder(out, FILES, inputs, overwrite)
    tree = yaml.safe_dump(scene.model_dump(mode="json"), sort_keys=False)
    truths: dict[str, Callable[[TrueFrame], Iterator[str]]]
    truths = {TRUTH_FILE: _target_lines, MOT_FILE: partial(_mot_lines, scene)}
    if not scene.camera.still:
        truths[CAMERA_FILE] = _camera_lines
    try:
        (out / SCENE_FILE).write_text(f"# irst simulate scene.yaml --out DIR --seed {seed}\n{tree}")
        with (
            told_out_of_memory(out, scene.shape),
            Video16(out, scene) as deep,
            Video8(out, scene) as shown,
            ExitStack() as opened,
        ):
            texts = [
                (opened.enter_context((out / name).open("w", newline="\n")), lines) for name, lines in truths.items()
            ]
            for frame in tqdm(render(scene, seed), total=scene.frames, unit="frame", disable=None):
                deep.write(frame)
                shown.write(frame)
                for text, lines in texts:
                    text.writelines(lines(frame))
    except (OSError, av.FFmpegError) as error:
        raise IrstError(f"{out}: cannot write the sequence ({error.strerror or error}); it is incomplete") from None


class SceneVideo:
    """A video file with one stream; what it holds depends only on the frames."""

    def __init__(self, path: Path, codec: str, pixels: str, scene: SceneSettings, options: dict[str, str]) -> None:
        self._file = av.open(str(path), "w", options={"fflags": BIT_EXACT})
        rate = Fraction(scene.frame_rate_hz).limit_denominator(1001)
        self._pixels = pixels
        self._stream = cast(VideoStream, self._file.add_stream(codec, rate, options={"flags": BIT_EXACT, **options}))
        self._stream.width, self._stream.height, self._stream.pix_fmt = scene.width_px, scene.height_px, pixels
        self._stream.codec_context.thread_count = 1

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *rest: BaseException | TracebackType | None) -> None:
        try:
            if kind is None:
                self._file.mux(self._stream.encode())
        finally:
            self._file.close()

    def add(self, image: NDArray[np.uint8] | NDArray[np.uint16], index: int) -> None:
        frame = av.VideoFrame.from_ndarray(image, format=self._pixels)
        frame.pts = index
        self._file.mux(self._stream.encode(frame))


class Video16(SceneVideo):
    """The frames as they are."""

    def __init__(self, out: Path, scene: SceneSettings) -> None:
        options = {"level": "3", "context": "1", "slicecrc": "1", "g": "30"}
        super().__init__(out / DEEP_FILE, "ffv1", "gray16le", scene, options)

    def write(self, frame: TrueFrame) -> None:
        self.add(frame.image, frame.index)


class Video8(SceneVideo):
    """The frames as an 8-bit camera shows them; lossless, so that dim targets survive, unless `encoder` says else."""

    LOSSLESS: ClassVar = {"qp": "0", "preset": "medium"}

    def __init__(self, out: Path, scene: SceneSettings, encoder: dict[str, str] = LOSSLESS) -> None:
        super().__init__(out / SHOWN_FILE, "libx264", "yuv420p", scene, encoder)
        self._black, self._white = scene.view_levels

    def write(self, frame: TrueFrame) -> None:
        scaled = BLACK + (frame.image - self._black) * ((WHITE - BLACK) / (self._white - self._black))
        luma = np.clip(np.rint(scaled), BLACK, WHITE).astype(np.uint8)
        height, width = luma.shape
        chroma = np.full((height // 2, width), GREY, np.uint8)
        self.add(np.vstack((luma, chroma)), frame.index)


def _target_lines(frame: TrueFrame) -> Iterator[str]:
    """Everything known of every target, inside the image or not."""
    if frame.index == 0:
        yield "frame,time_s,id,x_px,y_px,vx_px_s,vy_px_s,snr,visible\n"
    for target in frame.targets:
        yield (
            f"{frame.index},{frame.time:.6f},{target.id},{target.x:.4f},{target.y:.4f},"
            f"{target.vx:.4f},{target.vy:.4f},{target.snr:.3f},{target.visible:d}\n"
        )


def _mot_lines(scene: SceneSettings, frame: TrueFrame) -> Iterator[str]:
    """The targets in the image: frame from 1, id, left, top, width, height, considered, class, visibility.

    Hidden ones are not to be considered. Visibility is the share of a target that clouds and dimming leave.
    """
    side = 1 + 2 * math.ceil(2 * scene.sensor.psf_sigma_px)
    for target in frame.targets:
        if scene.contains(target.x, target.y):
            left, top = (round(centre, 4) - side / 2 for centre in (target.x, target.y))
            box = f"{left:.4f},{top:.4f},{side},{side}"
            yield f"{frame.index + 1},{target.id},{box},{target.visible:d},1,{target.share:.4g}\n"


def _camera_lines(frame: TrueFrame) -> Iterator[str]:
    """Where the camera looks: how far it has moved over the scene, and rolled clockwise, since the first frame."""
    if frame.index == 0:
        yield "frame,time_s,dx_px,dy_px,roll_deg\n"
    offset, roll = frame.pose.offset, frame.pose.roll_deg
    yield f"{frame.index},{frame.time:.6f},{offset.real:.4f},{offset.imag:.4f},{roll:.6f}\n"
