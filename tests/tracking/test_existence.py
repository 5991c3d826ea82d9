"""Evidence for a target, and how dense clutter is."""

from collections.abc import Callable

import numpy as np
import pytest
from scipy.stats import beta

from irst_pipeline.tracking.clutter import SIDES, ClutterMap, Spots, regions
from irst_pipeline.tracking.existence import SCORE_GAIN_MAX, ScoreModel, Starts
from irst_pipeline.types import STANDS_STILL, CameraMotion, Floats

SHAPE = (256, 320)


def test_scores_weigh_as_their_distributions_say() -> None:
    scores = ScoreModel((0.8, 0.1), (0.5, 0.2))
    points = np.array([0.2, 0.5, 0.7, 0.9])
    target, clutter = beta(12, 3), beta(2.625, 2.625)
    assert (target.mean(), target.std()) == pytest.approx((0.8, 0.1))
    assert (clutter.mean(), clutter.std()) == pytest.approx((0.5, 0.2))
    expected = np.clip(target.logpdf(points) - clutter.logpdf(points), -SCORE_GAIN_MAX, SCORE_GAIN_MAX)
    np.testing.assert_allclose(scores.gain(points), expected)
    assert np.isfinite(scores.gain(np.array([0.0, 1.0]))).all()


def test_a_rare_false_track_takes_more_evidence() -> None:
    starts = Starts()
    for _ in range(600):
        starts.add(2, 1 / 30)  # 60 a second
    # Of 216,000 starts in an hour one may be confirmed by chance.
    assert starts.evidence_needed(1.0) == pytest.approx(np.log(216_000), abs=0.05)
    assert starts.evidence_needed(100.0) == pytest.approx(np.log(2_160), abs=0.05)


def test_of_a_gap_nothing_is_known() -> None:
    busy, gap = Starts(), Starts()
    for _ in range(600):
        busy.add(2, 1 / 30)
        gap.add(2, 1 / 30)
    gap.add(2, 300.0)
    assert gap.evidence_needed(1.0) == pytest.approx(busy.evidence_needed(1.0), abs=0.2)


def test_the_density_of_clutter_is_learnt_by_region() -> None:
    rng, clutter = np.random.default_rng(0), ClutterMap(1.0)
    area = SHAPE[0] * SHAPE[1]
    places = np.array([[20.0, 20.0], [300.0, 240.0]])
    np.testing.assert_allclose(clutter.density(regions(places, SHAPE), SHAPE), 1 / area)
    for _ in range(600):
        busy = rng.uniform(0, 64, (rng.poisson(3), 2))  # a corner of 64 x 64
        clutter.add(regions(busy, SHAPE), SHAPE, 1 / 30)
    corner, quiet = clutter.density(regions(places, SHAPE), SHAPE)
    assert corner == pytest.approx((3 / 64**2 + 3 / area) / 2, rel=0.1)
    assert quiet == pytest.approx(3 / area / 2, rel=0.1)


def test_clutter_that_has_gone_is_forgotten_and_a_new_size_starts_anew() -> None:
    clutter, centre = ClutterMap(1.0), regions(np.array([[100.0, 100.0]]), SHAPE)
    for _ in range(300):
        clutter.add(np.tile(centre, 5), SHAPE, 1 / 30)
    before = clutter.density(centre, SHAPE)[0]
    for _ in range(1800):
        clutter.add(centre[:0], SHAPE, 1 / 30)
    assert clutter.density(centre, SHAPE)[0] < 0.05 * before
    assert clutter.density(regions(np.array([[100.0, 100.0]]), (512, 640)), (512, 640))[0] == pytest.approx(
        1 / (512 * 640)
    )


def test_every_region_is_one_of_its_own() -> None:
    rows, columns = np.mgrid[0 : SHAPE[0] // 64, 0 : SHAPE[1] // 64]
    middles = 64 * np.column_stack([columns.ravel(), rows.ravel()]) + 31.5
    np.testing.assert_array_equal(regions(middles, SHAPE), np.arange(rows.size))


def test_a_place_outside_counts_to_the_nearest_region() -> None:
    outside = regions(np.array([[-9.0, -9.0], [999.0, 999.0], [-9.0, 999.0]]), SHAPE)
    inside = regions(np.array([[10.0, 10.0], [310.0, 250.0], [10.0, 250.0]]), SHAPE)
    np.testing.assert_array_equal(outside, inside)
    assert len(set(inside)) == 3


def spotted(
    places: Callable[[int], Floats],
    motion: CameraMotion = STANDS_STILL,
    spared: float = 0,
    sides: tuple[int, ...] = SIDES[-1:],
) -> Spots:
    """After two seconds of the places (k, 2) of each frame, ready for the next one."""
    spots = Spots(spared, sides)
    for frame in range(60):
        spots.carry(frame / 30, motion)
        spots.add(places(frame))
    spots.carry(2.0, motion)
    return spots


def test_a_spot_that_shows_detections_again_and_again_is_dense_and_goes_with_the_scene() -> None:
    pan = CameraMotion(np.array([[1.0, 0, -2], [0, 1, 0.5], [0, 0, 1]]), known=True)
    rng, shift = np.random.default_rng(0), np.array([-2, 0.5])

    def seen(frame: int) -> Floats:
        return np.asarray([200.0, 100.0] + frame * shift + rng.normal(0, 1, (frame % 2, 2)))

    spot, beside = spotted(seen, pan).density(np.array([[200.0, 100.0], [220.0, 100.0]]) + 60 * shift, SHAPE)
    assert spot == pytest.approx(0.5 / (np.pi * 4**2), rel=0.1)
    assert beside == 0


def test_what_flies_past_leaves_no_spot_where_it_is() -> None:
    spots = spotted(lambda frame: np.array([[100.0 + 10 * frame / 30, 80.0]]))
    ahead, behind = spots.density(np.array([[120.0, 80.0], [110.0, 80.0]]), SHAPE)
    assert ahead == 0
    assert behind > 0


def test_a_crowd_is_as_dense_as_it_is_in_its_middle_and_a_target_that_stays_is_none() -> None:
    rng, middle = np.random.default_rng(0), np.array([[200.0, 100.0]])
    crowd = spotted(lambda _: rng.normal(middle, 10, (30, 2)), spared=1, sides=SIDES)
    within = 0.84**2  # of 1.4 deviations, across and down
    assert crowd.density(middle, SHAPE)[0] == pytest.approx(within * 30 / 28**2, rel=0.1)
    assert crowd.density(middle + 60, SHAPE) == 0
    target = spotted(lambda _: rng.normal(middle, 1), spared=1, sides=SIDES)
    assert target.density(middle, SHAPE) == 0


def test_a_thin_band_that_moves_is_nearly_as_dense_as_it_is() -> None:
    """As a glittering edge of clouds, of which no narrow spot shows more than a target that stays there would."""
    rng, rate, width = np.random.default_rng(0), 30, 50

    def seen(frame: int) -> Floats:
        return np.column_stack([100 + 15 * frame / 30 + rng.uniform(0, width, rate), rng.uniform(0, 512, rate)])

    along, true = np.column_stack([np.full(30, 155.0), np.linspace(60, 450, 30)]), rate / (width * 512)
    band, beside, shape = spotted(seen, spared=1, sides=SIDES), along + np.array([150, 0]), (512, 640)
    assert 0.3 * true < band.density(along, shape).min()
    assert band.density(beside, shape).max() == 0
    narrow = spotted(seen, spared=1, sides=SIDES[1:])
    assert narrow.density(along, shape).mean() < 0.1 * true


def test_spots_of_a_mirrored_image_are_the_mirrored_ones() -> None:
    rng, corner = np.random.default_rng(0), np.array(SHAPE[::-1]) - 1
    shown = [rng.uniform((180, 90), (230, 120), (12, 2)) for _ in range(60)]
    places = rng.uniform((170, 80), (240, 130), (200, 2))
    found, mirrored = (
        spotted(seen.__getitem__, spared=1, sides=SIDES).density(at, SHAPE)
        for seen, at in ((shown, places), ([corner - one for one in shown], corner - places))
    )
    assert len(np.unique(found)) > 10
    np.testing.assert_allclose(mirrored, found)


def test_of_the_first_frames_no_spot_is_known() -> None:
    spots = Spots(0, (1,))
    spots.carry(0.0, STANDS_STILL)
    assert spots.density(np.array([[1.0, 2.0]]), SHAPE) == [0]
