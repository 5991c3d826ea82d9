"""Frames with target masks from the sets the field trains on, held in memory as 8-bit images."""

import csv
import zlib
from contextlib import closing
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from tqdm import tqdm

from irst_pipeline.errors import UsageError
from irst_pipeline.lsnet.normalise import grey_levels
from irst_pipeline.sources import open_source

MASKED, UNKNOWN = 255, 128  # mask values: target, and "not to be judged"
HALF_MAXIMUM = 0.5
CONTRAST_MIN = 4.0  # standard deviations of the box's rim that a target's peak must stand above it
LEVELS_MIN = 5  # grey levels, likewise
HELD_OUT_SHARE = 10  # one in so many recordings or images of `train` is kept for choosing settings


@dataclass(frozen=True)
class Sample:
    """One labelled frame."""

    name: str
    image: NDArray[np.uint8]
    """(H, W) grey levels."""
    mask: NDArray[np.uint8]
    """(H, W): 255 target, 128 not to be judged, 0 background."""

    @cached_property
    def levels(self) -> tuple[float, float]:
        """Centre and scale of the whole frame's normalisation, which its crops share."""
        centre, scale = grey_levels(torch.from_numpy(self.image)[None, None])
        return centre.item(), scale.item()


def held_out(name: str) -> bool:
    """Whether `name`, a recording or an image of a train split, is kept for choosing settings."""
    return zlib.crc32(name.encode()) % HELD_OUT_SHARE == 0


def read_grey(path: Path) -> NDArray[np.uint8]:
    image = cv2.imread(str(path), cv2.IMREAD_GRAYSCALE)
    if image is None:
        raise UsageError(f"{path}: not a readable image; check the data set's folder")
    return np.asarray(image, np.uint8)


def read_masked_images(folder: Path, split: str) -> list[Sample]:
    """A set in the field's layout: `images/`, `masks/` and `img_idx/<split>_<anything>.txt` with a name a line."""
    lists = sorted(folder.glob(f"img_idx/{split}*.txt"))
    if not lists:
        raise UsageError(f"{folder}: no img_idx/{split}_*.txt; a data set needs images/, masks/ and such a list")
    samples = []
    for name in tqdm(lists[0].read_text().split(), desc=folder.name, leave=False):
        image, mask = (read_grey(folder / kind / f"{name}.png") for kind in ("images", "masks"))
        if image.shape != mask.shape:
            raise UsageError(f"{folder}/masks/{name}.png: size {mask.shape} differs from its image's {image.shape}")
        samples.append(Sample(name, image, np.where(mask > UNKNOWN, MASKED, 0).astype(np.uint8)))
    return samples


def read_backgrounds(folder: Path) -> list[Sample]:
    """Images without any target."""
    images = {path.stem: read_grey(path) for path in sorted((folder / "images").glob("*.png"))}
    return [Sample(name, image, np.zeros_like(image)) for name, image in images.items()]


def read_boxed_videos(folder: Path, every: int) -> list[Sample]:
    """Every `every`-th labelled frame of NAME.mp4 with loose boxes in NAME.gt.csv (frame,x,y,w,h)."""
    samples = []
    for labels in tqdm(sorted(folder.glob("*.gt.csv")), desc=folder.name, leave=False):
        name = labels.name.removesuffix(".gt.csv")
        with labels.open() as file:
            boxes = {int(row["frame"]): [float(row[k]) for k in "xywh"] for row in csv.DictReader(file)}
        with closing(open_source(str(labels.with_name(f"{name}.mp4")))) as source:
            for frame in source:
                if frame.index % every == 0 and frame.index in boxes:
                    image = frame.image.astype(np.uint8)
                    samples.append(Sample(name, image, mask_in_box(image, boxes[frame.index])))
    return samples


def mask_in_box(image: NDArray[np.uint8], box: list[float]) -> NDArray[np.uint8]:
    """Mask of the bright target somewhere in a loose box (x, y, w, h px): the blob at half of its maximum.

    The box's rim gives the background. A box without a blob clear of its rim is marked as not to be judged, and so
    is the rest of every box, where the target's soft edge lies.
    """
    height, width = image.shape
    x0, y0 = max(0, int(box[0])), max(0, int(box[1]))
    x1, y1 = min(width, int(np.ceil(box[0] + box[2])) + 1), min(height, int(np.ceil(box[1] + box[3])) + 1)
    mask = np.zeros_like(image)
    patch = image[y0:y1, x0:x1].astype(np.float32)
    if patch.shape[0] < 5 or patch.shape[1] < 5:
        mask[y0:y1, x0:x1] = UNKNOWN
        return mask
    rim = np.concatenate([patch[0], patch[-1], patch[:, 0], patch[:, -1]])
    level, noise = np.median(rim), np.median(np.abs(rim - np.median(rim))) * 1.4826
    inner = patch[1:-1, 1:-1]
    peak = inner.max()
    mask[y0:y1, x0:x1] = UNKNOWN
    if peak - level < max(CONTRAST_MIN * noise, LEVELS_MIN):
        return mask
    bright = (patch >= level + HALF_MAXIMUM * (peak - level)).astype(np.uint8)
    _, components = cv2.connectedComponents(bright, connectivity=8)
    row, column = np.unravel_index(inner.argmax(), inner.shape)
    mask[y0:y1, x0:x1][components == components[row + 1, column + 1]] = MASKED
    return mask
