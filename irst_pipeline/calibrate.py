"""Makes a calibration of a camera from its recordings: the verb `irst calibrate`."""

import logging
from contextlib import closing
from pathlib import Path
from threading import Event
from typing import NamedTuple, TypeVar

import cv2
import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import ListedColormap
from matplotlib.figure import Figure
from tqdm import tqdm

from irst_pipeline.calibration.file import to_bytes
from irst_pipeline.calibration.flat import CUT_OFF_MAX, FlatField, calibrate_flat, cut_off, flat_change
from irst_pipeline.calibration.maps import Calibration, Defect
from irst_pipeline.calibration.scene import SceneSample, calibrate_scene, scene_change
from irst_pipeline.disk import write_file
from irst_pipeline.errors import IrstError, UsageError
from irst_pipeline.folders import claim_file
from irst_pipeline.pictures import png, show_map
from irst_pipeline.sources import open_source, redact
from irst_pipeline.sources.address import is_live, printable, scheme_of
from irst_pipeline.sources.base import describe
from irst_pipeline.sources.images import files_of
from irst_pipeline.types import MIN_SIZE, Map

log = logging.getLogger("irst")

SUFFIX = ".safetensors"
CHANGE_MIN = 0.06  # of `scene_change`; less is a scene that moves by less than its own fine structure
CHANGE_MAX = 1.3  # of `flat_change`; more is no flat field
COLOURS = ("white", "tab:blue", "tab:red", "tab:orange", "tab:green")  # of good pixels and each Defect
SHOWN_PX = 3  # side of a bad pixel in the picture, so that it can be seen

Collected = TypeVar("Collected", FlatField, SceneSample)


class Made(NamedTuple):
    """A calibration, and how it came to be."""

    calibration: Calibration
    method: str
    counts: list[int]
    """Frames of each source."""
    level: float
    """Grey levels of the raw frames, at which it is said and shown what is added."""


def calibrate_camera(uris: list[str], scene: bool, out: Path, overwrite: bool, stop: Event) -> None:
    """Write a calibration into the file `out`, and a picture of it beside it, and say what was found.

    From one flat field, from two of different temperatures, or with `scene` from one recording in which the scene
    moves. A live source, which is the last, is read until `stop` is set. Raises IrstError, one line, where that cannot
    be done.
    """
    if len(uris) > (1 if scene else 2):
        raise UsageError(f"{len(uris)} sources; give one or two flat fields, or with --scene one recording")
    if len(uris) > 1 and is_live(uris[0]) and scheme_of(uris[0]) != "stdin":
        mend = "record it first, or give it as the second"
        raise UsageError(f"{redact(uris[0])}: the signal that ends a live source would end the one after it; {mend}")
    if out.suffix != SUFFIX:
        raise UsageError(f"--out {out}: expected a name that ends in {SUFFIX}")
    picture = out.with_suffix(".png")
    inputs = [path for uri in uris for path in files_of(uri)]
    for path in (out, picture):
        claim_file(path, inputs, overwrite)  # before frames are collected, for which there may be one chance
    calibration, method, counts, level = _from_scene(uris[0], stop) if scene else _from_flat_fields(uris, stop)
    frames = [str(count) for count in counts]
    note = {"method": method, "sources": printable(" ".join(map(redact, uris))), "frames": " ".join(frames)}
    write_file(out, to_bytes(calibration, note))
    write_file(picture, png(draw(calibration, level)))
    print(f"calibration  {method}, of {' and '.join(frames)} frames of {calibration.frames}")
    print(f"pattern      {_pattern(calibration, level)}")
    print(f"bad pixels   {_bad_pixels(calibration)}")
    print(f"results      {out} {picture}")


def _from_scene(uri: str, stop: Event) -> Made:
    sample, _ = _collect(uri, SceneSample, stop)
    if scene_change(sample) < CHANGE_MIN:
        log.warning("%s: the scene hardly moves; what stands still in it is taken for a pattern", redact(uri))
    return Made(calibrate_scene(sample), "scene", [sample.count], 0.0)


def _from_flat_fields(uris: list[str], stop: Event) -> Made:
    fields, kinds = zip(*(_collect(uri, FlatField, stop) for uri in uris), strict=True)
    if len(set(kinds)) > 1:
        why = f"frames of {kinds[1]}, but {redact(uris[0])} has {kinds[0]}"
        raise UsageError(f"{redact(uris[1])}: {why}; record both with the same camera and settings")
    for uri, field in zip(uris, fields, strict=True):
        if (share := cut_off(field)) > CUT_OFF_MAX:
            why = f"{share:.0%} of the pixels stay at one level: black, saturated, or with noise that its levels hide"
            raise IrstError(
                f"{redact(uri)}: {why}; give a flat field that the camera is exposed for, with all its bits"
            )
        if flat_change(field) > CHANGE_MAX:
            log.warning("%s: something moves in it, and not in a flat field; add --scene for a scene", redact(uri))
    method = "offset-only" if len(fields) == 1 else "two-point"
    return Made(calibrate_flat(fields), method, [field.count for field in fields], fields[0].level)


def _collect(uri: str, kind: type[Collected], stop: Event) -> tuple[Collected, str]:
    """What is kept of the frames of a source that are like its first, and what these are, as 640x512 uint16.

    Raises IrstError, one line, where they are too small for a network, or too few.
    """
    with closing(open_source(uri, stop=stop)) as source:
        collected, first = None, ""
        for frame in tqdm(source, total=source.frame_count, unit="frame", disable=None):
            if min(frame.image.shape) < MIN_SIZE:
                raise IrstError(f"{source.name}: frames are {describe(frame)}; give {MIN_SIZE}x{MIN_SIZE} px or more")
            if collected is None:
                collected, first = kind(frame.image), describe(frame)
            elif describe(frame) == first:
                collected.add(frame.image)
            else:  # only a live source has such ones; what it gave before may not come again
                source.fail(f"frame {frame.index} is {describe(frame)}, the first was {first}; it is left out")
            if stop.is_set():
                break
        count = collected.count if collected else 0
        if collected is None or count < kind.FRAMES_MIN:
            raise IrstError(f"{source.name}: {count} frames, which are too few; give {kind.FRAMES_MIN} or more")
        return collected, first


def _pattern(calibration: Calibration, level: float) -> str:
    """How far good pixels were off at a level, in words."""
    good = calibration.bad == 0
    offsets = f"offsets of {calibration.correction(level)[good].std():.2f} grey levels (standard deviation)"
    gains = calibration.gain[good].std()
    return offsets if gains == 0 else f"{offsets}, gains of {100 * gains:.3f} %"


def _bad_pixels(calibration: Calibration) -> str:
    counts = [(kind.name.lower(), int((calibration.bad == kind).sum())) for kind in Defect]
    total = sum(count for _, count in counts)
    return f"{total} of {calibration.bad.size}: " + ", ".join(f"{count} {name}" for name, count in counts)


def draw(calibration: Calibration, level: float) -> Figure:
    """Maps of what is added at a raw level, of the gain, and of bad pixels, which are drawn larger than they are."""
    height, width = calibration.bad.shape
    figure = Figure(figsize=(16, 1 + 4 * min(2.0, height / width)), layout="constrained")
    offset, gain, bad = figure.subplots(1, 3)
    good = calibration.bad == 0
    _show(offset, np.where(good, calibration.correction(level), 0), "what is added, grey levels", 0)
    _show(gain, np.where(good, calibration.gain, 1), "gain", 1)
    grown = cv2.dilate(calibration.bad, np.ones((SHOWN_PX, SHOWN_PX), np.uint8))
    shown = bad.imshow(grown, cmap=ListedColormap(COLOURS), vmin=-0.5, vmax=len(Defect) + 0.5, interpolation="nearest")
    bad.set(title=_bad_pixels(calibration), xticks=[], yticks=[])
    names = ["good", *(kind.name.lower() for kind in Defect)]
    figure.colorbar(shown, ax=bad, shrink=0.8).set_ticks(range(len(names)), labels=names)
    return figure


def _show(axes: Axes, plane: Map, title: str, middle: float) -> None:
    reach = max(float(np.percentile(np.abs(plane - middle), 99.9)), 1e-6)
    show_map(axes, plane, title, middle - reach, middle + reach, "RdBu_r")
