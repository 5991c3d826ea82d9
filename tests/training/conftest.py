"""What the tests of training share."""

from pathlib import Path

import cv2
import numpy as np
import pytest


@pytest.fixture(scope="session")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small set of bright points on noise, in the field's layout."""
    root, rng = tmp_path_factory.mktemp("data"), np.random.default_rng(0)
    folder = root / "points"
    for kind in ("images", "masks", "img_idx"):
        (folder / kind).mkdir(parents=True)
    names = [f"p{i}" for i in range(30)]
    for name in names:
        image, mask = rng.normal(100, 5, (64, 64)), np.zeros((64, 64), np.uint8)
        y, x = rng.integers(8, 56, 2)
        image[y - 1 : y + 2, x - 1 : x + 2] += 80
        mask[y - 1 : y + 2, x - 1 : x + 2] = 255
        cv2.imwrite(str(folder / "images" / f"{name}.png"), image.astype(np.uint8))
        cv2.imwrite(str(folder / "masks" / f"{name}.png"), mask)
    (folder / "img_idx" / "train_points.txt").write_text("\n".join(names))
    return root
