"""The classical detectors on scenes whose only target is known."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from irst_pipeline.datasets import MASKED, Sample
from irst_pipeline.evaluation.baselines import local_contrast, max_median, pstnn, white_top_hat
from irst_pipeline.evaluation.detectors import BASELINES, score, standardised
from irst_pipeline.types import Image

Baseline = Callable[[Image], NDArray[np.float32]]
ROW, COLUMN = 50, 70
ALL = [white_top_hat, max_median, local_contrast, pstnn]
each = pytest.mark.parametrize("baseline", ALL)


def scene(gain: int = 1) -> NDArray[Any]:
    """A point target on a slope with waves and a little noise, (96, 130)."""
    rows, columns = np.mgrid[0:96, 0:130]
    level = 60 + 0.4 * columns + 10 * np.sin(rows / 20)
    target = 60 * np.exp(-((rows - ROW) ** 2 + (columns - COLUMN) ** 2) / (2 * 1.2**2))
    noise = np.random.default_rng(1).normal(0, 1, rows.shape)
    kind = np.uint8 if gain == 1 else np.uint16
    return np.clip(np.rint(gain * (level + target + noise)), 0, np.iinfo(kind).max).astype(kind)


@each
def test_a_bright_point_is_the_most_salient(baseline: Baseline) -> None:
    saliency = baseline(scene())
    assert saliency.shape == (96, 130)
    assert saliency.dtype == np.float32
    row, column = np.unravel_index(saliency.argmax(), saliency.shape)
    assert abs(row - ROW) <= 1
    assert abs(column - COLUMN) <= 1
    far = saliency.copy()
    far[ROW - 12 : ROW + 13, COLUMN - 12 : COLUMN + 13] = 0
    assert far.max() < 0.3 * saliency.max()


@each
def test_saliency_turns_with_the_frame(baseline: Baseline) -> None:
    image = scene()
    turned = baseline(np.ascontiguousarray(image[::-1, ::-1]))
    np.testing.assert_allclose(turned[::-1, ::-1], baseline(image), rtol=1e-3, atol=1e-2)


@pytest.mark.parametrize("baseline", [white_top_hat, max_median, local_contrast])
def test_saliency_is_mirrored_with_the_frame(baseline: Baseline) -> None:
    image = scene()
    for mirror in (np.s_[:, ::-1], np.s_[::-1]):
        mirrored = baseline(np.ascontiguousarray(image[mirror]))
        np.testing.assert_allclose(mirrored[mirror], baseline(image), rtol=1e-3, atol=1e-2)


@each
def test_the_cameras_gain_does_not_change_what_stands_out(baseline: Baseline) -> None:
    """Up to the rounding of 8 bits."""
    low, high = (standardised(baseline(scene(gain=gain))) for gain in (1, 200))
    assert np.corrcoef(low.ravel(), high.ravel())[0, 1] > 0.9


@each
def test_a_flat_frame_has_nothing_salient(baseline: Baseline) -> None:
    assert not standardised(baseline(np.full((40, 50), 77, np.uint8))).any()


@each
def test_small_and_narrow_frames_are_taken(baseline: Baseline) -> None:
    assert baseline(np.ascontiguousarray(scene()[:17, :100])).shape == (17, 100)


def test_every_baseline_finds_a_clear_target_at_its_threshold() -> None:
    rows, columns = np.mgrid[0:96, 0:130]
    mask = np.where(np.hypot(rows - ROW, columns - COLUMN) < 1.6, MASKED, 0).astype(np.uint8)
    for baseline in BASELINES:
        scores = score(baseline, [Sample("a", scene(), mask)]).scores()
        assert scores.pd == 1, baseline.name
        assert scores.iou > 0.3, baseline.name
