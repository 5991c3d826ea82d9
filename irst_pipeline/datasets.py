"""Frames with target masks from the sets the field trains on, held in memory at their own depth."""

import logging
import zlib
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from irst_pipeline.columns import FRAME, read_columns, require
from irst_pipeline.errors import FrameError, UsageError
from irst_pipeline.settings import read_settings, read_text
from irst_pipeline.simulation import SceneSettings, TrueFrame, render
from irst_pipeline.sources import open_source
from irst_pipeline.sources.images import SUFFIXES, count_pages, decode, luminance
from irst_pipeline.types import MIN_SIZE, Image

log = logging.getLogger("irst")

MASKED, UNKNOWN = 255, 128  # mask values: target, and "not to be judged"
MASK_SUFFIX = "_pixels0"  # of the masks of NUAA-SIRST as it was first published
HALF_MAXIMUM = 0.5
CONTRAST_MIN = 4.0  # standard deviations of the box's rim that a target's peak must stand above it
LEVELS_MIN = 5  # grey levels, likewise
HELD_OUT_SHARE = 10  # one in so many recordings or images of `train` is kept for choosing settings


@dataclass(frozen=True)
class Sample:
    """One labelled frame."""

    name: str
    image: Image
    """(H, W) grey levels."""
    mask: NDArray[np.uint8]
    """(H, W): 255 target, 128 not to be judged, 0 background."""


def held_out(name: str) -> bool:
    """Whether `name`, a recording or an image of a train split, is kept for choosing settings."""
    return zlib.crc32(name.encode()) % HELD_OUT_SHARE == 0


def _decoded(path: Path) -> NDArray[Any]:
    try:
        image = decode(path)
    except FrameError as error:
        raise UsageError(f"{error}; mend the file, or take it out of the data set") from None
    if (pages := count_pages(path)) > 1:
        raise UsageError(f"{path}: holds {pages} images; save each in a file of its own")
    return image


def read_image(path: Path) -> Image:
    """The grey levels (H, W) of an 8 or 16-bit image, colour as luminance; raises UsageError for another."""
    image = _decoded(path)
    if image.ndim > 2:
        image = luminance(image)
    if image.dtype not in (np.uint8, np.uint16):
        raise UsageError(f"{path}: holds {image.dtype}; a data set's images have 8 or 16 bits without sign")
    return image


def read_mask(path: Path) -> NDArray[np.uint8]:
    """A mask (H, W) of `MASKED` and 0. The file may hold 0 and one other level, as 0/1 and 0/255 do, or black and one
    other colour, for the target.

    Raises UsageError for a mask of more levels, as nobody could tell which of them are target, and for one of which
    more than half is target.
    """
    mask = np.atleast_3d(_decoded(path))
    if np.ptp(mask[..., 3:], axis=(0, 1)).any():
        raise UsageError(f"{path}: its alpha channel is not the same everywhere; save the mask as 0 and 255 alone")
    mask = mask[..., :3]
    target = mask.any(-1)
    if not np.isfinite(mask).all():
        raise UsageError(f"{path}: not a binary mask, it holds NaN or infinite values; save it as 0 and 255")
    if (mask[target] != mask[target][:1]).any():
        levels = np.unique(mask.reshape(target.size, -1), axis=0)
        some = ", ".join("/".join(f"{level:g}" for level in colour[::-1]) for colour in levels[:4])
        some += ", ..." if len(levels) > 4 else ""
        mend = "save it as a PNG of 0 and 255"  # a JPEG would have more levels again
        raise UsageError(f"{path}: not a binary mask, it holds {len(levels)} levels ({some}); {mend}")
    if 2 * np.count_nonzero(target) > target.size:
        raise UsageError(f"{path}: more than half of it is target; if it is inverted, save it with the background as 0")
    return np.where(target, MASKED, 0).astype(np.uint8)


def read_masked_images(folder: Path, split: str) -> list[Sample]:
    """A set in the field's layout: `images/` and `masks/` of the same names, and lists of those names in `img_idx/`.

    A mask's name may end in `MASK_SUFFIX`. `split` is a list's name, or its beginning before an underscore: `test` for
    `img_idx/test_NUDT-SIRST.txt`. A list holds a name a line, with or without the suffix; a name that comes twice
    counts once. Raises UsageError, one line that names the file and the mend, where something is missing or does not
    fit.
    """
    listed = find_list(folder, split)
    names = read_names(listed)
    images, masks = images_in(folder / "images"), images_in(folder / "masks")
    masks = {name.removesuffix(MASK_SUFFIX): path for name, path in masks.items()} | masks
    samples = []
    for name in tqdm(names, desc=folder.name, leave=False, disable=None):
        for kind, paths in (("images", images), ("masks", masks)):
            if name not in paths:
                raise UsageError(
                    f"{folder / kind / name}: no image of this name, but {listed} names it; add it or strike it out"
                )
        image, mask = read_image(images[name]), read_mask(masks[name])
        if image.shape != mask.shape:
            (rows, columns), (height, width) = mask.shape, image.shape
            raise UsageError(
                f"{masks[name]}: {columns}x{rows} px, but its image has {width}x{height}; they must be of one size"
            )
        if min(image.shape) < MIN_SIZE:
            (rows, columns) = image.shape
            raise UsageError(
                f"{images[name]}: {columns}x{rows} px; the network takes {MIN_SIZE}x{MIN_SIZE} and more; strike it out "
                f"in {listed}"
            )
        samples.append(Sample(name, image, mask))
    if not any(sample.mask.any() for sample in samples):
        log.warning("%s: no mask of %s has a target; are they saved with targets as 255?", folder, listed.name)
    return samples


def find_list(folder: Path, split: str) -> Path:
    """The list of a split; raises UsageError that says which there are if it is not there or more than one fits."""
    if not folder.is_dir():
        raise UsageError(f"{folder}: no such folder; a data set is a folder of images/, masks/ and img_idx/")
    lists = {path.stem: path for path in sorted((folder / "img_idx").glob("*.txt"))}
    fitting = [split] if split in lists else [stem for stem in lists if stem.startswith(f"{split}_")]
    if len(fitting) == 1:
        return lists[fitting[0]]
    there = ", ".join(fitting or lists) or "no lists"
    if fitting:
        raise UsageError(f"{folder}/img_idx: more than one list of the split {split} ({there}); give one by its name")
    raise UsageError(
        f"{folder}/img_idx: no list {split}.txt or {split}_*.txt; there are: {there}; give the name of one, or add it"
    )


def read_names(listed: Path) -> list[str]:
    """The names in a list of images, a line each, without their suffixes and folders, each once; raises UsageError."""
    lines = [line.strip() for line in read_text(listed).splitlines()]
    folders: dict[str, Path] = {}
    for number, path in enumerate(map(Path, lines), start=1):
        name = path.stem if path.suffix.lower() in SUFFIXES else path.name
        if name and folders.setdefault(name, path.parent) != path.parent:
            raise UsageError(
                f"{listed}: line {number}: {name} is there already, in another folder; give images names that differ"
            )
    if not folders:
        raise UsageError(f"{listed}: an empty list; it needs the name of an image a line")
    return list(folders)


def images_in(folder: Path) -> dict[str, Path]:
    """The images of a folder by their names without the suffix; raises UsageError where two of them have the same."""
    if not folder.is_dir():
        raise UsageError(f"{folder}: no such folder; a data set is a folder of images/, masks/ and img_idx/")
    images: dict[str, Path] = {}
    for path in sorted(folder.iterdir()):
        if path.suffix.lower() in SUFFIXES:
            other = images.setdefault(path.stem, path)
            if other != path:
                raise UsageError(f"{path}: {other.name} is there as well; take out the one that is not meant")
    return images


def read_backgrounds(folder: Path) -> list[Sample]:
    """Images without any target."""
    images = {name: read_image(path) for name, path in images_in(folder / "images").items()}
    return [Sample(name, image, np.zeros(image.shape, np.uint8)) for name, image in images.items()]


def read_boxed_videos(folder: Path, every: int) -> list[Sample]:
    """Of every `every` frames of NAME.mp4 the first with loose boxes in NAME.gt.csv (frame,x,y,w,h)."""
    samples = []
    for labels in tqdm(sorted(folder.glob("*.gt.csv")), desc=folder.name, leave=False, disable=None):
        name, boxes = labels.name.removesuffix(".gt.csv"), read_boxes(labels)
        first = {index // every: index for index in sorted(boxes, reverse=True)}
        with closing(open_source(str(labels.with_name(f"{name}.mp4")))) as source:
            for frame in source:
                if first.get(frame.index // every) == frame.index:
                    masks = [mask_in_box(frame.image, box) for box in boxes[frame.index]]
                    # A copy, for a view of a decoded frame keeps its colours as well.
                    samples.append(Sample(name, frame.image.copy(), np.maximum.reduce(masks)))
    if samples and not any((sample.mask == MASKED).any() for sample in samples):
        log.warning("%s: no box has a target in it; are they in px, x,y the top left corner, frames from 0?", folder)
    return samples


def read_boxes(labels: Path) -> dict[int, list[list[float]]]:
    """The boxes (x, y, w, h px) of each frame in a CSV with those columns and `frame`; raises UsageError for others."""
    columns = read_columns(labels, lambda present: require(present, FRAME, *"xywh"))
    boxes: dict[int, list[list[float]]] = {}
    for frame, box in zip(columns.frames(), columns.table[:, 1:].tolist(), strict=True):
        boxes.setdefault(frame, []).append(box)
    return boxes


def read_simulated(folder: Path, seeds: int) -> list[Sample]:
    """The frames of every scene NAME.yaml of a folder, each with so many seeds; masks are points at half maximum."""
    samples = []
    for path in tqdm(sorted(folder.glob("*.yaml")), desc=folder.name, leave=False, disable=None):
        scene = read_settings(SceneSettings, path)
        for seed in range(seeds):
            samples += [
                Sample(f"{path.stem} {seed}", frame.image, _mask_of_points(scene, frame))
                for frame in render(scene, seed)
            ]
    return samples


def _mask_of_points(scene: SceneSettings, frame: TrueFrame) -> NDArray[np.uint8]:
    mask = np.zeros(frame.image.shape, np.uint8)
    rows, columns = np.indices(mask.shape)
    # The pixels integrate the blur over their own area, whose variance is 1/12.
    spread = scene.sensor.psf_sigma_px**2 + 1 / 12
    for target in frame.targets:
        distance = (rows - target.y) ** 2 + (columns - target.x) ** 2
        if target.visible:
            mask[distance <= max(2 * np.log(1 / HALF_MAXIMUM) * spread, distance.min())] = MASKED
    return mask


def mask_in_box(image: Image, box: list[float]) -> NDArray[np.uint8]:
    """Mask of the bright target somewhere in a loose box (x, y, w, h px): the blob at half of its maximum.

    The box's rim gives the background. A box without a blob clear of its rim is marked as not to be judged, and so
    is the rest of every box, where the target's soft edge lies.
    """
    height, width = image.shape
    x0, x1 = (int(x) for x in np.clip((box[0], np.ceil(box[0] + box[2]) + 1), 0, width))
    y0, y1 = (int(y) for y in np.clip((box[1], np.ceil(box[1] + box[3]) + 1), 0, height))
    mask = np.zeros(image.shape, np.uint8)
    mask[y0:y1, x0:x1] = UNKNOWN
    patch = image[y0:y1, x0:x1].astype(np.float32)
    if min(patch.shape) < 5:
        return mask
    rim = np.concatenate([patch[0], patch[-1], patch[:, 0], patch[:, -1]])
    level, noise = np.median(rim), np.median(np.abs(rim - np.median(rim))) * 1.4826
    inner = patch[1:-1, 1:-1]
    peak = inner.max()
    if peak - level < max(CONTRAST_MIN * noise, LEVELS_MIN):
        return mask
    bright = (patch >= level + HALF_MAXIMUM * (peak - level)).astype(np.uint8)
    _, components = cv2.connectedComponents(bright, connectivity=8)
    row, column = np.unravel_index(inner.argmax(), inner.shape)
    mask[y0:y1, x0:x1][components == components[row + 1, column + 1]] = MASKED
    return mask
