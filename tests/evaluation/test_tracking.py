"""Scores of tracks whose right answer is known."""

import math
from dataclasses import asdict, astuple, replace
from typing import Any

import numpy as np
import pytest

from irst_pipeline.evaluation.tracking import (
    CUTOFF,
    Paths,
    TrackedSequence,
    TrackingScores,
    TrackPaths,
    evaluate,
    velocities,
    without_hidden,
)
from irst_pipeline.types import Floats

RATE = 30.0
FRAMES = 60
VARIANCE = 0.04


def flights(count: int = 2, frames: int = FRAMES) -> Paths:
    """Targets with the ids from 1, each 60 px below the one before, straight on at 30 px/s and more."""
    frame, index = (grid.ravel() for grid in np.mgrid[0:frames, 0:count])
    velocity = np.column_stack((30.0 + 5.0 * index, 2.0 * index))
    position = np.column_stack((20.0 + 0.0 * index, 40.0 + 60.0 * index)) + velocity * frame[:, None] / RATE
    return Paths(frame, index + 1, position, velocity)


def tracks_of(truth: Paths, **changes: Any) -> TrackPaths:
    """Perfect tracks, but for `changes`."""
    covariance = np.tile([VARIANCE, 0.0, VARIANCE], (len(truth.id), 1))
    return replace(TrackPaths(**vars(truth), covariance=covariance, nis=np.full(len(truth.id), np.nan)), **changes)


def moved(paths: Paths, x: float, y: float) -> Floats:
    return paths.position + np.array([x, y])


def some(tracks: TrackPaths, which: Any) -> TrackPaths:
    return TrackPaths(**{name: rows[which] for name, rows in vars(tracks).items()})


def join(one: TrackPaths, other: TrackPaths) -> TrackPaths:
    return TrackPaths(**{name: np.concatenate((rows, vars(other)[name])) for name, rows in vars(one).items()})


def scores(truth: Paths, tracks: TrackPaths) -> TrackingScores:
    return evaluate(TrackedSequence(truth, tracks, FRAMES, RATE)).scores


def test_perfect_tracks_score_everything() -> None:
    truth = flights(3)
    s = scores(truth, tracks_of(truth))
    assert (s.hota, s.deta, s.assa, s.mota, s.idf1) == pytest.approx((1, 1, 1, 1, 1))
    assert (s.gospa_px, s.ospa2_px, s.position_rmse_px, s.velocity_rmse_px_s, s.nees) == (0, 0, 0, 0, 0)
    assert (s.id_switches, s.fragmentations, s.false_tracks, s.targets_missed, s.initiation_delay_s) == (0, 0, 0, 0, 0)
    assert (s.frames, s.targets, s.tracks) == (FRAMES, 3, 3)


def test_a_shift_is_the_error() -> None:
    truth = flights(2)
    s = scores(truth, tracks_of(truth, position=moved(truth, 3, -4), velocity=truth.velocity + np.array([0, 2])))
    assert s.position_rmse_px == pytest.approx(5)
    assert (s.position_bias_x_px, s.position_bias_y_px) == pytest.approx((3, -4))
    assert s.velocity_rmse_px_s == pytest.approx(2)
    assert s.nees == pytest.approx(25 / VARIANCE)
    assert s.ospa2_px == pytest.approx(5)
    assert (s.gospa_px, s.gospa_localisation_px) == pytest.approx((math.sqrt(50), math.sqrt(50)))
    assert (s.gospa_missed_px, s.gospa_false_px) == (0, 0)
    assert s.mota == 1
    # Similarity 0.75: at a threshold above it nothing is found, which is so of 4 of 19.
    assert s.hota == pytest.approx(15 / 19)


def test_an_id_swap_costs_identity_and_hardly_accuracy() -> None:
    truth = flights(2)
    swapped = np.where(truth.frame < FRAMES / 2, truth.id, 3 - truth.id)
    s = scores(truth, tracks_of(truth, id=swapped))
    assert s.idf1 == pytest.approx(0.5)
    assert s.id_switches == 2
    assert s.mota == pytest.approx(1 - 2 / (2 * FRAMES))
    assert s.deta == pytest.approx(1)
    assert s.assa == pytest.approx(1 / 3)  # of 90 frames in which a target or its track is, 30 are of both
    assert s.gospa_px == 0
    # Two of a target's three halves are at the cut-off: its own without the track and the track's on the other target.
    assert s.ospa2_px == pytest.approx(CUTOFF / 2)


def test_without_tracks_everything_is_missed() -> None:
    truth = flights(2)
    s = scores(truth, some(tracks_of(truth), slice(0)))
    assert (s.hota, s.mota, s.idf1, s.tracks, s.false_tracks, s.targets_missed) == (0, 0, 0, 0, 0, 2)
    assert (s.gospa_px, s.gospa_missed_px) == pytest.approx((CUTOFF, CUTOFF))
    assert s.ospa2_px == CUTOFF
    nothing = (s.initiation_delay_s, s.position_rmse_px, s.velocity_rmse_px_s, s.nees, s.nees_high, s.nees_inside)
    assert np.isnan([*nothing, s.position_bias_x_px, s.position_bias_y_px]).all()


@pytest.mark.parametrize(
    ("apart", "gospa"),
    [(6.0, 6.0), (19.0, 19.0), (25.0, CUTOFF), (500.0, CUTOFF)],
    ids=["near", "below the cut-off", "above it", "far"],
)
def test_gospa_of_one_target_and_one_track(apart: float, gospa: float) -> None:
    truth = flights(1)
    s = scores(truth, tracks_of(truth, position=moved(truth, 0, apart)))
    assert s.gospa_px == pytest.approx(gospa)
    alone = CUTOFF / math.sqrt(2) if apart > CUTOFF else 0
    assert (s.gospa_missed_px, s.gospa_false_px) == pytest.approx((alone, alone))


def noisy(truth: Paths, said: float) -> TrackPaths:
    """Tracks with independent errors along a slanting ellipse, of which they say that its area is `said` times that."""
    covariance = np.array([[1.0, 0.6], [0.6, 0.5]])
    error = np.random.default_rng(3).multivariate_normal((0, 0), covariance, len(truth.id))
    stated = np.tile(said * covariance[[0, 0, 1], [0, 1, 1]], (len(truth.id), 1))
    return tracks_of(truth, position=truth.position + error, covariance=stated)


def test_nees_of_honest_errors_is_within_its_bounds() -> None:
    truth = flights(4)
    s = scores(truth, noisy(truth, 1.0))
    assert s.nees_low < s.nees < s.nees_high
    assert s.nees_low < 2 < s.nees_high
    assert s.nees_inside == pytest.approx(0.95, abs=0.03)


def test_nis_is_that_of_the_tracks_that_cover_a_target() -> None:
    truth = flights(4)
    tracks = tracks_of(truth, nis=np.random.default_rng(2).chisquare(2, len(truth.id)))
    tracks.nis[::7] = math.nan  # coasting
    stray = tracks_of(flights(1), id=np.full(FRAMES, 9), position=flights(1).position - 300, nis=np.full(FRAMES, 1e3))
    s = scores(truth, join(tracks, stray))
    assert s.nis_low < s.nis < s.nis_high
    assert s.nis_inside == pytest.approx(0.95, abs=0.03)


def test_nees_of_overconfident_and_of_timid_tracks_is_beyond() -> None:
    truth = flights(4)
    sure, timid = scores(truth, noisy(truth, 0.25)), scores(truth, noisy(truth, 4.0))
    assert sure.nees > 3 * sure.nees_high
    assert sure.nees_inside < 0.7
    assert timid.nees < 0.5 * timid.nees_low
    assert timid.nees_inside > 0.99


def test_tracks_that_do_not_say_how_sure_they_are_are_left_out_of_nees() -> None:
    truth = flights(2)
    tracks = noisy(truth, 1.0)
    unknown = tracks.id == 1
    covariance, velocity = tracks.covariance.copy(), tracks.velocity.copy()
    covariance[unknown], velocity[unknown] = math.nan, math.nan
    s = scores(truth, replace(tracks, covariance=covariance, velocity=velocity))
    known = scores(truth, some(tracks, ~unknown))
    assert (s.nees, s.nees_high, s.velocity_rmse_px_s) == (known.nees, known.nees_high, known.velocity_rmse_px_s)


def mirrored(paths: Any) -> Any:
    """The same seen in a mirror at x = 100."""
    changes: dict[str, Floats] = {
        "position": paths.position * (-1, 1) + (200, 0),
        "velocity": paths.velocity * (-1, 1),
    }
    if isinstance(paths, TrackPaths):
        changes["covariance"] = paths.covariance * (1, -1, 1)
    return replace(paths, **changes)


def test_neither_a_mirror_nor_names_nor_the_order_of_rows_change_the_scores() -> None:
    truth = flights(3)
    tracks = noisy(truth, 1.0)
    tracks = replace(tracks, nis=(tracks.frame % 5).astype(np.float64))
    tracks = some(tracks, (tracks.id != 2) | (tracks.frame > 20))
    expected = asdict(scores(truth, tracks))
    shuffled = some(tracks, np.random.default_rng(0).permutation(len(tracks.id)))
    seen_in_it = expected | {"position_bias_x_px": -expected["position_bias_x_px"]}
    assert asdict(scores(mirrored(truth), mirrored(tracks))) == pytest.approx(seen_in_it)
    assert asdict(scores(truth, replace(tracks, id=1000 - 7 * tracks.id))) == pytest.approx(expected)
    assert asdict(scores(truth, shuffled)) == pytest.approx(expected)


def test_a_target_lost_and_found_again_is_fragmented() -> None:
    """Also when no other track is in the frames between."""
    truth = flights(1)
    tracks = tracks_of(truth)
    s = scores(truth, some(tracks, (tracks.frame < 20) | (tracks.frame >= 30)))
    assert (s.fragmentations, s.id_switches) == (1, 0)
    assert s.mota == pytest.approx(50 / 60)


def test_a_track_is_forgiven_where_it_follows_a_hidden_target_and_no_other() -> None:
    """Of two targets 6 px apart, one hidden from frame 20 on, only the track that is on that one then is left out."""
    both = flights(1), replace(flights(1), id=flights(1).id + 1, position=moved(flights(1), 0, 6))
    seen = both[1].frame < 20
    truth = Paths(*(np.concatenate((one, other[seen])) for one, other in zip(*map(astuple, both), strict=True)))
    hidden = Paths(*(rows[~seen] for rows in astuple(both[1])))
    tracks = join(tracks_of(both[0]), tracks_of(both[1]))
    stray = tracks_of(both[0], id=both[0].id + 8, position=moved(both[0], 0, 60))
    kept = without_hidden(TrackedSequence(truth, join(tracks, stray), FRAMES, RATE), hidden).tracks
    assert np.bincount(kept.id)[[1, 2, 9]].tolist() == [FRAMES, 20, FRAMES]
    alone = without_hidden(TrackedSequence(truth, tracks_of(both[0]), FRAMES, RATE), hidden).tracks
    assert len(alone.id) == FRAMES, "a lone track between them is the other's"


def crossing() -> tuple[Paths, TrackPaths]:
    """Two targets that meet in the middle, where each one's track is half a pixel behind and so nearer to the other."""
    truth = flights(2)
    velocity = np.where(truth.id[:, None] == 1, [[40.0, 0]], [[-40.0, 0]])
    position = np.array([[60.0, 50]]) + velocity * (truth.frame[:, None] - (FRAMES - 1) / 2) / RATE
    truth = replace(truth, position=position, velocity=velocity)
    return truth, tracks_of(truth, position=position - 1.5 * velocity / RATE)


def test_a_target_that_crosses_a_hidden_one_keeps_its_track() -> None:
    truth, tracks = crossing()
    hidden = (truth.id == 2) & (truth.frame >= 20) & (truth.frame < 40)
    seen, unseen = (Paths(*(rows[which] for rows in astuple(truth))) for which in (~hidden, hidden))
    kept = without_hidden(TrackedSequence(seen, tracks, FRAMES, RATE), unseen)
    assert set(zip(kept.tracks.id, kept.tracks.frame, strict=True)) == set(zip(seen.id, seen.frame, strict=True))
    s = evaluate(kept).scores
    assert (s.id_switches, s.idf1, s.velocity_rmse_px_s) == (0, 1, 0)


def test_a_target_that_was_out_of_sight_is_not() -> None:
    truth = flights(1)
    seen = (truth.frame < 20) | (truth.frame >= 30)
    visible = Paths(**{name: rows[seen] for name, rows in vars(truth).items()})
    s = scores(visible, some(tracks_of(truth), seen))
    assert (s.fragmentations, s.mota) == (0, 1)


@pytest.mark.parametrize(("on_target", "false"), [(0, 1), (20, 1), (30, 0), (40, 0)])
def test_a_track_is_false_that_is_on_no_target_most_of_its_life(on_target: int, false: int) -> None:
    """Of a life of 60 frames."""
    truth = flights(1)
    stray = truth.position + np.where(truth.frame < on_target, 0, 200)[:, None] * (0, 1)
    s = scores(truth, join(tracks_of(truth), tracks_of(truth, id=truth.id + 1, position=stray)))
    assert s.false_tracks == false
    assert s.false_tracks_per_hour == false * 3600 / (FRAMES / RATE)


def test_the_delay_is_the_median_of_the_targets_that_are_covered() -> None:
    """Of four, after 3, 6 and 12 frames and never."""
    truth = flights(4)
    tracks = tracks_of(truth)
    s = scores(truth, some(tracks, tracks.frame >= np.array([3, 6, 12, FRAMES])[tracks.id - 1]))
    assert s.initiation_delay_s == pytest.approx(6 / RATE)
    assert s.targets_missed == 1


def test_where_targets_cross_each_keeps_its_track() -> None:
    truth, late = crossing()
    s = scores(truth, late)
    assert s.velocity_rmse_px_s == 0
    assert s.position_rmse_px == pytest.approx(1.5 * 40 / RATE)
    assert (s.fragmentations, s.targets_missed, s.false_tracks) == (0, 0, 0)


def test_a_track_that_went_over_to_another_target_stays_there_where_both_cross() -> None:
    """The track of the first target is on the second one from frame 10 on, and nearer to the first in the middle."""
    truth, late = crossing()
    track = some(late, np.where(late.frame < 10, late.id == 1, late.id == 2))
    track = replace(track, id=np.full(FRAMES, 7))
    found = evaluate(TrackedSequence(truth, track, FRAMES, RATE))
    assert truth.id[found.matches.truth].tolist() == 10 * [1] + 50 * [2]
    assert found.scores.fragmentations == 0


def test_a_track_covers_within_the_radius() -> None:
    truth = flights(1)
    for away, mota, missed in ((8, 1, 0), (12, -1, 1)):
        s = scores(truth, tracks_of(truth, position=moved(truth, away, 0)))
        assert (s.mota, s.targets_missed) == (mota, missed)


def test_a_track_at_the_radius_covers_wherever_in_the_picture_it_is() -> None:
    """10 px by its coordinates, which no float holds exactly."""
    truth = flights(1)
    truth = replace(truth, position=np.column_stack((truth.frame * 7.1, truth.frame * 5.3)).round(1))
    at, beyond = (scores(truth, tracks_of(truth, position=moved(truth, *by).round(2))) for by in ((6, 8), (6, 8.01)))
    assert (at.fragmentations, at.targets_missed, at.false_tracks, at.mota) == (0, 0, 0, 1)
    assert (beyond.targets_missed, beyond.false_tracks, beyond.mota) == (1, 1, -1)


def test_velocities_of_straight_flights_are_exact_across_gaps() -> None:
    truth = flights(2)
    kept = (truth.frame % 7 != 3) & ((truth.id == 1) | (truth.frame < 40))
    found = velocities(truth.frame[kept], truth.id[kept], truth.position[kept], RATE)
    np.testing.assert_allclose(found, truth.velocity[kept], atol=1e-9)
    assert np.isnan(velocities(truth.frame[:1], truth.id[:1], truth.position[:1], RATE)).all()


def test_the_errors_over_time_are_those_of_the_matches() -> None:
    truth = flights(2)
    tracks = tracks_of(truth, position=moved(truth, 2, 0))
    tracks = some(tracks, tracks.frame >= 10)
    found = evaluate(TrackedSequence(truth, tracks, FRAMES, RATE))
    np.testing.assert_array_equal(truth.id[found.matches.truth], tracks.id[found.matches.tracks])
    np.testing.assert_array_equal(truth.frame[found.matches.truth], tracks.frame[found.matches.tracks])
    assert len(found.matches.truth) == 2 * (FRAMES - 10)
    np.testing.assert_allclose(found.gospa, np.where(np.arange(FRAMES) < 10, CUTOFF, math.sqrt(8)))


def test_rows_beyond_the_sequence_are_refused() -> None:
    truth = flights(1)
    with pytest.raises(ValueError, match="beyond the 10 frames"):
        TrackedSequence(truth, tracks_of(truth), 10, RATE)
