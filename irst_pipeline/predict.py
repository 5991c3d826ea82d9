"""What a network says of single images, as files."""

from collections import Counter
from itertools import chain
from os.path import commonpath
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from irst_pipeline.disk import write_file
from irst_pipeline.engine import find_device, load_model
from irst_pipeline.engine.exact import predict
from irst_pipeline.errors import IrstError, UsageError
from irst_pipeline.folders import make_folder, prepare_folder
from irst_pipeline.sources.images import ImageFile, ImageSource, find_images

PROBABILITY_LEVELS = 255
TARGET_FOLDER, BACKGROUND_FOLDER = "target", "background"


def predict_images(uri: str, model: str, device: str, out: Path, parts: bool, overwrite: bool) -> None:
    """Write what a network says of the images in a folder, of a glob or of one file.

    `out` gets NAME.png, 8 bits, 0..255 for a probability of 0..1, and with `parts` target/NAME.tiff and
    background/NAME.tiff, float32 in the image's grey levels (those of 16 bits to which another depth is mapped, file
    by file).
    Images that cannot be read, or are too large for the memory, are said and left out.
    Raises UsageError for a folder that holds something already, unless `overwrite`.
    """
    weights, on = load_model(model), find_device(device)
    network = weights.network.to(on)
    files = find_images(uri)
    names = output_names(files)
    prepare_folder(out, chain.from_iterable(names), {file.path for file in files}, overwrite)
    source = ImageSource(uri, files, image_rate=1.0, each=True)
    for frame in tqdm(source.read(), total=len(files), unit="image", disable=None):
        try:
            found = predict(network, frame.image, on)
        except IrstError as error:
            source.fail(f"{files[frame.index].name}: {error}")
            continue
        probability = np.rint(found.probability * PROBABILITY_LEVELS).astype(np.uint8)
        probability_file, target_file, background_file = names[frame.index]
        _write_image(out / probability_file, probability)
        if parts:
            _write_image(out / target_file, found.target)
            _write_image(out / background_file, found.background)
    written = len(files) - source.frames_failed
    if not written:
        raise IrstError(f"{uri}: not one image could be read ({source.frames_failed} failed)")
    print(f"{written} images, {source.frames_failed} failed")
    print(f"results  {out}")


def output_names(files: list[ImageFile]) -> list[tuple[str, str, str]]:
    """For each image the files of its probability, T and B, relative to the folder of the results.

    Below the folder that holds all images their paths are kept, and of images that differ in the suffix alone those
    that are not PNG keep it: a.png and a.tif become a.png and a.tif.png. Pages are numbered: the third of a.tif becomes
    a-000003.png.
    """
    root = Path(commonpath([file.path.parent for file in files]))
    taken = Counter(path.with_suffix(".png") for path in {file.path for file in files})

    def stem(file: ImageFile) -> Path:
        alone = file.path.suffix == ".png" or taken[file.path.with_suffix(".png")] == 1
        path = (file.path.with_suffix("") if alone else file.path).relative_to(root)
        return path if file.pages == 1 else path.with_name(f"{path.name}-{file.page + 1:06}")

    stems = [stem(file) for file in files]
    for name, uses in Counter(stems).items():
        if uses > 1:
            raise UsageError(f"{root / name}: {uses} images would write {name}.png; give them different names")
    return [(f"{s}.png", f"{TARGET_FOLDER}/{s}.tiff", f"{BACKGROUND_FOLDER}/{s}.tiff") for s in stems]


def _write_image(path: Path, image: NDArray[Any]) -> None:
    _, data = cv2.imencode(path.suffix, image)
    make_folder(path.parent)
    write_file(path, data.tobytes())
