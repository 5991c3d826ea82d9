"""What stands before the scene in every frame is filled in, and hides no more than what is behind it."""

from itertools import islice
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from irst_pipeline.calibration import open_calibrator
from irst_pipeline.cli import main
from irst_pipeline.config import CalibrationSettings
from irst_pipeline.engine.exact import predict
from irst_pipeline.lsnet.weights import load_weights
from irst_pipeline.simulation.layers import random_field
from irst_pipeline.sources import open_source
from irst_pipeline.tracking.stabilise import Stabiliser
from irst_pipeline.types import Frame, Image
from tests.running import CLOUDS

LINES = (("12:30:01", (6, 16)), ("AZ 104.0 EL 04.2", (6, 180)), ("WHT NFOV x2", (150, 16)))


def frame() -> Frame:
    return next(islice(open_source(str(CLOUDS)), 60, None))


def symbols(shape: tuple[int, ...]) -> NDArray[np.bool_]:
    """(H, W): where text and a reticle are written."""
    page = np.zeros(shape, np.uint8)
    for line, place in LINES:
        cv2.putText(page, line, place, cv2.FONT_HERSHEY_PLAIN, 1, 255, 1)
    for start, end in (((98, 96), (120, 96)), ((136, 96), (158, 96)), ((128, 66), (128, 88)), ((128, 104), (128, 126))):
        cv2.line(page, start, end, 255, 1)
    return page > 0


def written(image: Image, level: int) -> Image:
    """The image with these symbols."""
    shown = image.copy()
    shown[symbols(image.shape)] = level
    return shown


def paint(path: Path) -> Path:
    """The mask of these symbols, one pixel wider than they are."""
    cv2.imwrite(str(path), cv2.dilate(255 * symbols(frame().image.shape).astype(np.uint8), np.ones((3, 3), np.uint8)))
    return path


def uncovered(path: Path, image: Image) -> Image:
    calibrator = open_calibrator(CalibrationSettings(covered=str(path)), str(CLOUDS))
    assert calibrator is not None
    return calibrator(Frame(image=image, index=0, time=0.0, source="s")).image


def test_what_is_covered_looks_like_its_surroundings_and_the_rest_stays_as_it_is(tmp_path: Path) -> None:
    mask = paint(tmp_path / "mask.png")
    slope = (7000 + np.add.outer(2 * np.arange(192), 3 * np.arange(256))).astype(np.uint16)
    found = uncovered(mask, written(slope, 16000))
    hidden = cv2.imread(str(mask), cv2.IMREAD_GRAYSCALE) > 0  # type: ignore[operator]
    np.testing.assert_array_equal(found[~hidden], slope[~hidden])
    six_px = 6 * np.hypot(2, 3)
    assert np.abs(found.astype(int) - slope)[hidden].max() < six_px


def test_the_network_sees_past_what_is_covered(tmp_path: Path) -> None:
    network, image = load_weights("lsnet-nano").network, frame().image
    plain = predict(network, image, torch.device("cpu")).probability
    found = predict(network, uncovered(paint(tmp_path / "mask.png"), written(image, 9000)), torch.device("cpu"))
    targets = plain > 0.9
    assert targets.any()
    assert (cv2.dilate(found.probability, np.ones((3, 3), np.uint8))[targets] > 0.5).all()
    assert (found.probability[cv2.dilate(plain, np.ones((9, 9), np.uint8)) < 0.5] < 0.5).all()


def test_a_reticle_that_stands_still_hides_no_motion_of_the_camera(tmp_path: Path) -> None:
    scene = 7000 + 60 * random_field((192, 400), 1.7, np.random.default_rng(3))
    mask, stabiliser = paint(tmp_path / "mask.png"), Stabiliser("similarity")
    moved = []
    for step in range(20):
        image = np.rint(scene[:, 2 * step : 2 * step + 256]).astype(np.uint16)
        moved.append(stabiliser(uncovered(mask, written(image, 16000))).matrix[0, 2])
    np.testing.assert_allclose(moved[1:], -2, atol=0.2)


@pytest.mark.parametrize(
    ("mask", "said"),
    [
        (np.zeros((192, 256), np.uint8), "covers 0% of the frame"),
        (np.full((192, 256, 3), 9, np.uint8), "covers 100% of the frame"),
        (np.eye(64, dtype=np.uint8), "sequence16.mkv: frames of 256x192 uint16, but"),
        (None, "no such image; paint an image as large as a frame"),
    ],
)
def test_a_mask_that_cannot_be_meant_is_told(
    mask: Image | None, said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "mask.png"
    if mask is not None:
        cv2.imwrite(str(path), mask)
    out = tmp_path / "out"
    assert main(["run", str(CLOUDS), "--out", str(out), "--no-video", "--set", f"calibration.covered={path}"]) != 0
    assert said in capsys.readouterr().err
