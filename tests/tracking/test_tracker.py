"""The life of a track, on detections made by hand."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import settings as examples
from hypothesis import strategies as st

from irst_pipeline.config import TrackerSettings
from irst_pipeline.tracking.tracker import Tracker
from irst_pipeline.types import STANDS_STILL, CameraMotion, Floats, Frame, TrackEvent, Tracks, TrackStatus
from tests.tracking.scenes import IMAGE, KINDS, RATE, SETTINGS, Scene, detections, every_kind, moving


@every_kind
def test_a_steady_target_becomes_one_confirmed_track_with_its_velocity(settings: TrackerSettings) -> None:
    scene = Scene(settings)
    for i in range(60):
        tracks = scene(moving(i))
    assert tracks.id.tolist() == [1]
    assert tracks.status.tolist() == [TrackStatus.CONFIRMED]
    assert tracks.age.tolist() == tracks.hits.tolist() == [60]
    np.testing.assert_allclose([tracks.x[0], tracks.y[0]], moving(59), atol=0.1)
    np.testing.assert_allclose([tracks.vx[0], tracks.vy[0]], [40, -10], atol=5)
    assert [e.kind for e in scene.events] == ["confirmed"]
    assert scene.events[0].frame < 10


def test_a_missed_frame_delays_confirmation_and_single_flashes_are_given_up() -> None:
    confirmed = []
    for gaps in ((), (1, 3)):
        scene = Scene()
        for i in range(20):
            scene(*([] if i in gaps else [moving(i)]))
        confirmed.append(scene.events[0].frame)
    assert confirmed[0] < confirmed[1] <= confirmed[0] + 4
    scene = Scene()
    for point in ((100.0, 60.0), (200.0, 60.0), (100.0, 200.0)):
        scene(point)
    for _ in range(20):
        tracks = scene()
    assert len(tracks) == 0
    assert not scene.events


def test_dense_clutter_or_a_rarer_false_track_ask_for_more_evidence() -> None:
    rng, frames = np.random.default_rng(0), []
    for clutter, rate in ((0, 1.0), (10, 1.0), (0, 0.01)):
        scene = Scene(TrackerSettings(false_tracks_per_hour=rate, clutter_seconds=0.15))
        for i in range(60):
            scene.score = 0.95
            scene(
                *([moving(i - 30)] if i >= 30 else []), *map(tuple, rng.uniform((150, 130), (310, 250), (clutter, 2)))
            )
        frames.append(min(e.frame for e in scene.events if e.kind == "confirmed"))
    assert frames[0] < frames[1]
    assert frames[0] < frames[2]


def test_a_detection_of_high_score_is_more_evidence() -> None:
    frames = []
    for score in (0.96, 0.999):
        scene = Scene(TrackerSettings(clutter_seconds=0.15))
        scene.score = score
        for i in range(20):
            scene(moving(i))
        frames.append(scene.events[0].frame)
    assert frames[1] < frames[0]


def test_a_lost_target_coasts_with_growing_covariance_and_then_dies() -> None:
    scene = Scene()
    for i in range(30):
        tracks = scene(moving(i))
    spreads = [tracks.covariance[0, 0]]
    lifetime = 0
    while len(tracks := scene()):
        assert tracks.status.tolist() == [TrackStatus.COASTING]
        spreads.append(tracks.covariance[0, 0])
        lifetime += 1
        assert abs(tracks.x[0] - moving(29 + lifetime)[0]) < 5
    assert np.all(np.diff(spreads) > 0)
    assert lifetime == pytest.approx(SETTINGS.coast_seconds * RATE, abs=1)
    assert [e.kind for e in scene.events] == ["confirmed", "dropped"]


@every_kind
def test_a_target_comes_back_under_its_id(settings: TrackerSettings) -> None:
    scene = Scene(settings)
    for i in range(60):
        tracks = scene(*([] if 30 <= i < 40 else [moving(i)]))
    assert tracks.id.tolist() == [1]
    assert tracks.hits.tolist() == [50]


@every_kind
def test_a_track_whose_target_is_gone_does_not_wander_off_with_clutter(settings: TrackerSettings) -> None:
    wandered = 0
    for seed in range(20):
        rng, scene = np.random.default_rng(seed), Scene(settings)
        scene.score = 0.9
        for i in range(60):
            flash = rng.uniform((0, 0), IMAGE.shape[::-1]).tolist()
            tracks = scene(*[moving(i)] * (i < 30), flash)
            wandered += i >= 30 and TrackStatus.CONFIRMED in tracks.status
    assert wandered <= 5  # frames, of 600


def test_coasting_is_counted_in_seconds_not_frames() -> None:
    scene = Scene()
    for i in range(30):
        scene(moving(i))
    assert len(scene(time=29 / RATE + SETTINGS.coast_seconds * 0.9)) == 1
    assert len(scene(time=29 / RATE + SETTINGS.coast_seconds * 1.1)) == 0


@every_kind
def test_crossing_targets_keep_their_ids(settings: TrackerSettings) -> None:
    scene = Scene(settings)
    for i in range(90):
        tracks = scene(moving(i, 40, 60, 60, 20), moving(i, 40, 120, 60, -20))
    assert tracks.id.tolist() == [1, 2]
    assert tracks.y[0] > tracks.y[1]
    assert len(scene.events) == 2


def noisy(rng: np.random.Generator, place: Sequence[float] | Floats, sd: float = 0.3) -> tuple[float, float]:
    x, y = np.add(place, rng.normal(0, sd, 2)).tolist()
    return x, y


@every_kind
def test_targets_that_are_not_seen_apart_for_a_while_keep_their_ids(settings: TrackerSettings) -> None:
    """Two that fly side by side, 2 px apart, are seen as one for half a second."""
    in_order = 0
    for seed in range(12):
        rng, scene, seen = np.random.default_rng(seed), Scene(settings), list[Tracks]()
        scene.score = 0.99
        for i in range(80):
            one, other = moving(i, 40, 60, 30, 5), moving(i, 40, 62, 30, 5)
            places = [np.mean([one, other], axis=0)] if 50 <= i < 65 else [one, other]
            seen.append(scene(*(noisy(rng, place) for place in places)))
        assert len(scene.events) == len(seen[-1]) == 2
        in_order += np.array_equal(np.argsort(seen[-1].y), np.argsort(seen[49].y))
    assert in_order >= 9, "by chance it would be 6"


@every_kind
def test_of_two_tracks_on_one_target_the_younger_ends(settings: TrackerSettings) -> None:
    """Its detection is split in two for a second, long enough to confirm a second track."""
    for seed in range(6):
        rng, scene, confirmed = np.random.default_rng(seed), Scene(settings), []
        scene.score = 0.99
        for i in range(150):
            x, y = moving(i, 10, 60, 20, 5)
            parts = [(x, y + 1), (x, y - 1)] if 40 <= i < 70 else [(x, y)]
            tracks = scene(*(noisy(rng, part) for part in parts))
            confirmed.append(tracks.id[tracks.confirmed].tolist())
        assert max(map(len, confirmed)) == 2
        assert [ids for ids in confirmed[130:] if len(ids) > 1] == []
        assert confirmed[-1] == [1]
        assert [(e.kind, e.id == 1) for e in scene.events] == [
            ("confirmed", True),
            ("confirmed", False),
            ("dropped", False),
        ]


def test_a_track_that_leaves_the_picture_is_no_longer_reported_and_dropped_as_any_that_is_not_seen() -> None:
    scene = Scene()
    for i in range(30):
        scene(moving(i, x=300, vx=20))
    lifetime = 0
    while len(tracks := scene()):
        assert tracks.x[0] < 319.5
        lifetime += 1
    assert lifetime < SETTINGS.coast_seconds * RATE / 2
    while len(scene.events) < 2:
        assert len(scene()) == 0
    assert scene.events[1].kind == "dropped"
    assert scene.events[1].time == pytest.approx(29 / RATE + SETTINGS.coast_seconds, abs=1.1 / RATE)


@every_kind
def test_a_confirmed_track_is_served_before_a_newcomer(settings: TrackerSettings) -> None:
    scene = Scene(settings)
    for i in range(30):
        scene(moving(i))
    scene(moving(30), moving(30, y=61.8))
    tracks = scene(moving(31, y=61.8))  # where the newcomer's is expected, and the elder's hardly
    assert tracks.hits[tracks.id == 1] == 32


@pytest.mark.parametrize("kind", ["nearest", "joint"])
def test_what_two_targets_are_seen_as_is_of_no_third(kind: str) -> None:
    scene = Scene(KINDS[kind])
    for i in range(60):
        scene(moving(i), moving(i, y=62.5))
    scene(moving(60), moving(60, y=62.5), moving(60, y=67.5))  # a flash beside them
    for i in range(61, 100):
        tracks = scene(moving(i, y=61.25))
        assert (tracks.detection >= 0).tolist() == [True, *[False] * (len(tracks) - 1)]
    assert tracks.id.tolist() == [1]


def test_a_track_far_away_does_not_matter() -> None:
    alone, together = Scene(), Scene()
    for i in range(40):
        a, b = alone(moving(i)), together(moving(i), (200 + i, 200.0))
    np.testing.assert_allclose([a.x[0], a.y[0], a.vx[0]], [b.x[0], b.y[0], b.vx[0]])


@pytest.mark.parametrize(("snr", "confirmed"), [(8.0, [1]), (15.0, [1, 2])])
def test_what_stands_still_with_a_middling_score_is_confirmed_if_its_snr_is_high(
    snr: float, confirmed: list[int]
) -> None:
    """A track that moves is kept by such detections whatever their SNR."""
    scene = Scene()
    scene.snr = snr
    for i in range(60):
        scene.score = 0.95 if i < 20 else 0.4
        tracks = scene(moving(i), *([(200.0, 200.0)] if i >= 20 else []))
    assert tracks.id[tracks.confirmed].tolist() == confirmed
    assert tracks.hits[0] == 60


@every_kind
def test_a_mirrored_scene_gives_mirrored_tracks(settings: TrackerSettings) -> None:
    rng = np.random.default_rng(2)
    plain, mirrored = Scene(settings), Scene(settings)
    for i in range(60):
        points = [
            (p[0] + e[0], p[1] + e[1])
            for p, e in zip([moving(i), moving(i, 90)], rng.normal(0, 1, (2, 2)), strict=True)
        ]
        a, b = plain(*points), mirrored(*((319 - x, y) for x, y in points))
    np.testing.assert_allclose(a.x, 319 - b.x)
    np.testing.assert_allclose(a.vx, -b.vx)
    np.testing.assert_allclose(a.covariance * [1, -1, 1], b.covariance, atol=1e-15)


@every_kind
def test_clutter_confirms_no_more_than_is_stated(settings: TrackerSettings) -> None:
    """A minute of independent clutter at 30 frames/s, in which one false track may be confirmed."""
    rng = np.random.default_rng(3)
    scene = Scene(settings.model_copy(update={"clutter_seconds": 0.0, "false_tracks_per_hour": 60.0}))
    for _ in range(int(60 * RATE)):
        scene(*map(tuple, rng.uniform([0, 0], [320, 256], (3, 2))))
    assert sum(e.kind == "confirmed" for e in scene.events) <= 3, "one was allowed in this minute"


def confirmed_of_glints(settings: TrackerSettings, side: float, mean_count: float, seed: int) -> list[float]:
    """When, s, tracks of 40 s of glints are confirmed: so many a frame in a square of so many pixels, of any score, as
    those of the sun on water."""
    rng, tracker = np.random.default_rng(seed), Tracker(settings)
    (mean, sd), events = settings.clutter_score, list[TrackEvent]()
    count = mean * (1 - mean) / sd**2 - 1
    for i in range(int(40 * RATE)):
        glints = detections(
            rng.uniform([150, 120], [150 + side, 120 + side], (rng.poisson(mean_count), 2)).tolist(), 0.5
        )
        glints.score[:] = rng.beta(mean * count, (1 - mean) * count, len(glints))
        events += tracker.step(Frame(IMAGE, i, i / RATE, "scene"), glints)[1]
    return [event.time for event in events if event.kind == "confirmed"]


GLINTS = [(10, 8, 0), (10, 8, 1), (10, 8, 2), (10, 8, 3), (60, 100, 0)]


@pytest.mark.parametrize(("side", "mean_count", "seed"), GLINTS)
def test_glints_at_one_place_confirm_nothing_where_they_are_said_to_stay(
    side: float, mean_count: float, seed: int
) -> None:
    assert not confirmed_of_glints(TrackerSettings(clutter_seconds=0.15), side, mean_count, seed)


@pytest.mark.parametrize(("side", "mean_count", "seed"), GLINTS)
def test_glints_at_one_place_confirm_nothing_once_it_is_known(side: float, mean_count: float, seed: int) -> None:
    confirmed = confirmed_of_glints(SETTINGS, side, mean_count, seed)
    assert len(confirmed) <= 2
    assert max(confirmed, default=0) < 1


def test_a_target_that_stays_at_one_place_is_found_even_if_it_is_seldom_seen() -> None:
    rng, scene = np.random.default_rng(0), Scene()
    for _ in range(int(10 * RATE)):
        scene(*rng.normal((150, 120), 0.3, (int(rng.random() < 1 / 3), 2)).tolist())
    assert [event.kind for event in scene.events] == ["confirmed"]


def test_a_target_that_turns_is_kept() -> None:
    scene = Scene()
    for i in range(90):
        angle = max(0, i - 30) / RATE * 1.5  # a quarter of a circle a second
        radius = 40 / 1.5
        straight = 60 + 40 * min(i, 30) / RATE
        scene((straight + radius * np.sin(angle), 60 + radius * (1 - np.cos(angle))))
    assert [e.kind for e in scene.events] == ["confirmed"]


@every_kind
def test_a_target_that_turns_sharply_is_kept(settings: TrackerSettings) -> None:
    scene = Scene(settings)
    for i in range(90):
        tracks = scene(moving(min(i, 45) - max(0, i - 45)))  # it turns on its heel
    assert tracks.id.tolist() == [1]
    np.testing.assert_allclose([tracks.vx[0], tracks.vy[0]], [-40, 10], atol=8)


def test_a_track_at_the_border_is_not_dropped_for_its_own_error() -> None:
    rng, scene = np.random.default_rng(0), Scene()
    for i in range(120):
        tracks = scene((0.5 + rng.normal(0, 0.5), 60 + i / RATE))
    assert [e.kind for e in scene.events] == ["confirmed"]
    assert tracks.id.tolist() == [1]


def test_a_frame_that_is_not_later_ends_nothing() -> None:
    scene = Scene()
    for i in range(30):
        scene(moving(i))
    for time in (29 / RATE, 0.5):  # twice, and from the past
        tracks = scene(moving(29), time=time)
    assert tracks.status.tolist() == [TrackStatus.CONFIRMED]
    np.testing.assert_allclose([tracks.x[0], tracks.y[0]], moving(29), atol=0.5)
    tracks = scene(time=29 / RATE)
    assert tracks.status.tolist() == [TrackStatus.COASTING], "it is not seen in this one"
    for settings in (SETTINGS, TrackerSettings(clutter_seconds=0, weak_clutter_seconds=0)):
        again = Scene(settings)
        for _ in range(50):
            again(moving(0), time=0.0)
        assert not again.events, "the same frame many times confirms nothing"


def test_where_clutter_does_not_stay_every_frame_is_full_evidence() -> None:
    frames = []
    for stays in (0.0, 1e-3, 0.15):
        scene = Scene(TrackerSettings(clutter_seconds=stays))
        for i in range(20):
            scene(moving(i))
        frames.append(scene.events[0].frame)
    assert frames[0] == frames[1] < frames[2]


@every_kind
def test_blind_frames_are_as_if_they_had_not_been(settings: TrackerSettings) -> None:
    """Of two targets, one of which is lost for a while, in clutter; all are dim in some frames."""
    rng, each_thrice, once = np.random.default_rng(0), Scene(settings), Scene(settings)
    for i in range(90):
        lost = [] if 40 <= i < 48 else [moving(i, x=200, vx=-30)]
        points = [moving(i), *lost, *map(tuple, rng.uniform((0, 0), (320, 256), (2, 2)))]
        each_thrice.score = once.score = 0.95 if i % 5 else 0.2
        seen, alone = each_thrice(*points, time=i / RATE), once(*points, time=i / RATE)
        for name in Tracks.__dataclass_fields__:
            np.testing.assert_array_equal(getattr(seen, name), getattr(alone, name), err_msg=name)
        for third in (1, 2):
            later = third / 3 / RATE
            expected = each_thrice(*points, time=i / RATE + later, blind=True)
            kept = np.isin(seen.id, expected.id)
            np.testing.assert_array_equal(expected.age, seen.age[kept])
            np.testing.assert_array_equal(expected.hits, seen.hits[kept])
            steady = seen.confirmed[kept]
            np.testing.assert_allclose(expected.x[steady], (seen.x + later * seen.vx)[kept][steady], atol=0.1)
            assert set(expected.status[expected.confirmed]) <= {TrackStatus.COASTING}
            assert set(expected.detection) <= {-1}
    assert [(e.kind, e.id) for e in each_thrice.events] == [(e.kind, e.id) for e in once.events]
    assert sum(event.kind == "confirmed" for event in once.events) >= 2


def test_blind_frames_of_any_time_change_nothing() -> None:
    scene = Scene()
    for i in range(30):
        scene(moving(i), time=i / RATE)
        for time in (-1.0, np.nan, np.inf, 1e9):
            tracks = scene(moving(i), time=time, blind=True)
            assert np.isfinite([tracks.x, tracks.y, tracks.vx, tracks.vy]).all()
    tracks = scene(moving(30), time=30 / RATE)
    assert (tracks.id.tolist(), tracks.age.tolist()) == ([1], [31])
    np.testing.assert_allclose([tracks.vx[0], tracks.vy[0]], [40, -10], atol=5)


def test_a_first_frame_that_is_blind_is_empty() -> None:
    assert len(Scene()(moving(0), blind=True)) == 0


def test_after_the_clock_is_set_back_tracks_end_and_begin_as_ever() -> None:
    scene = Scene()
    for i in range(60):
        scene(moving(i), time=2000 + i / RATE)
    for i in range(60):
        tracks = scene(*([moving(i, x=200, y=200)] if i >= 40 else []), time=1000 + i / RATE)
    assert [(e.kind, e.id) for e in scene.events] == [("confirmed", 1), ("dropped", 1), ("confirmed", 2)]
    assert 1001 < scene.events[1].time < 1001.1
    assert tracks.id.tolist() == [2]


def test_a_frame_of_no_known_time_ends_nothing() -> None:
    scene = Scene()
    for i in range(60):
        tracks = scene(moving(i), time=np.nan if i in (0, 40) else i / RATE)
    assert tracks.id.tolist() == [1]
    assert [e.kind for e in scene.events] == ["confirmed"]


@pytest.mark.parametrize("kind", ["nearest", "joint"])
def test_a_detection_beside_its_target_does_not_keep_it_from_being_confirmed(kind: str) -> None:
    """Off by several standard deviations, it starts a second track of the same target."""
    for seed in range(20):
        rng, scene = np.random.default_rng(seed), Scene(KINDS[kind])
        scene.score = 0.99
        for i in range(12):
            x, y = moving(i) + rng.normal(0, 0.3, 2) + (rng.choice([-2.5, 2.5], 2) if i == 2 else 0)
            tracks = scene((x, y))
            seen = tracks.detection[tracks.detection >= 0]
            assert len(set(seen)) == len(seen), "two tracks hold one detection to be theirs"
        assert [event.kind for event in scene.events] == ["confirmed"]


@every_kind
def test_after_a_second_gap_too_nothing_is_taken_for_an_old_track(settings: TrackerSettings) -> None:
    """Soon after two minutes without frames, which are not what is usual between them."""
    scene = Scene(settings)
    for i in range(60):
        scene(moving(i))
    for i in range(15):
        tracks = scene(moving(i), time=120 + i / RATE)
    (before,) = tracks.id[tracks.confirmed]
    tracks = scene(moving(150, y=80), time=125.0)  # about where it would be
    assert before not in tracks.id


def test_after_a_gap_of_minutes_nothing_is_taken_for_an_old_track() -> None:
    scene = Scene()
    for i in range(30):
        scene(moving(i))
    tracks = scene((200.0, 200.0), time=300.0)
    assert tracks.id.tolist() == [2]
    assert tracks.status.tolist() == [TrackStatus.TENTATIVE]


@every_kind
@pytest.mark.parametrize("gap", [1.1, 2.0, 9.0, 20.0])
def test_after_a_gap_longer_than_a_track_coasts_nothing_is_taken_for_it(settings: TrackerSettings, gap: float) -> None:
    """Whatever comes into view, however near: nobody has seen that it is the same."""
    scene = Scene(settings)
    for i in range(60):
        scene(moving(i), (200.0, 100.0), (30.0, 200.0))
    tracks = scene(moving(59), (220.0, 120.0), (150.0, 40.0), time=59 / RATE + gap)
    assert tracks.id.tolist() == [4, 5, 6]
    assert set(tracks.status.tolist()) == {TrackStatus.TENTATIVE}
    assert [event.kind for event in scene.events] == ["confirmed"] * 3 + ["dropped"] * 3


@every_kind
def test_over_a_gap_shorter_than_a_track_coasts_it_goes_on(settings: TrackerSettings) -> None:
    scene = Scene(settings)
    for i in range(60):
        scene(moving(i))
    tracks = scene(moving(59 + 24), time=(59 + 24) / RATE)
    assert (tracks.id.tolist(), tracks.status.tolist()) == ([1], [TrackStatus.CONFIRMED])


def test_where_frames_are_rarer_than_a_track_coasts_it_is_followed_all_the_same() -> None:
    scene = Scene()
    for i in range(20):
        tracks = scene(moving(i, vx=20, vy=-5), time=1.25 * SETTINGS.coast_seconds * i)
    assert (tracks.id.tolist(), tracks.status.tolist()) == ([1], [TrackStatus.CONFIRMED])


def test_a_clock_that_stood_still_makes_no_gap_of_frames_that_are_always_rare() -> None:
    scene, apart = Scene(), 1.25 * SETTINGS.coast_seconds
    for i in range(20):
        for _ in range(50 if i == 10 else 1):
            tracks = scene(moving(i, vx=20, vy=-5), time=apart * i)
    assert (tracks.id.tolist(), tracks.status.tolist()) == ([1], [TrackStatus.CONFIRMED])


@pytest.mark.parametrize("bad", ["x", "covariance", "negative", "singular", "score"])
def test_a_detection_that_makes_no_sense_is_left_out(bad: str) -> None:
    scene = Scene()
    for i in range(40):
        good = detections([moving(i), (200.0, 100.0)], 0.99)
        if bad == "negative":
            good.covariance[1] = [-1.0, 0.0, 1.0]
        elif bad == "singular":  # but for rounding
            good.covariance[1] = [0.1, 0.1 * (1 - 1e-16), 0.1]
        else:
            getattr(good, bad)[1] = np.nan
        tracks, _ = scene.tracker.step(Frame(IMAGE, i, i / RATE, "scene"), good)
    assert len(tracks) == 1
    np.testing.assert_allclose([tracks.x[0], tracks.y[0]], moving(39), atol=0.2)


@every_kind
@pytest.mark.parametrize("side", [320, 20])
def test_of_too_many_detections_the_strongest_are_taken(settings: TrackerSettings, side: int) -> None:
    """All over the picture, or in a crowd in which every track could have each of them."""
    rng, tracker = np.random.default_rng(0), Tracker(settings)
    for i in range(5):
        many = detections([moving(i), *map(tuple, rng.uniform([0, 0], [side, side], (10_000, 2)))], 0.4)
        many.score[0] = 0.999
        tracks, _ = tracker.step(Frame(IMAGE, i, i / RATE, "scene"), many)
    assert np.hypot(tracks.x - moving(4)[0], tracks.y - moving(4)[1]).min() < 0.5


PLACES = st.one_of(st.floats(-1e3, 1e3, width=32), st.floats())


@every_kind
@pytest.mark.filterwarnings("error")
@given(
    steps=st.lists(
        st.tuples(
            st.one_of(st.floats(0, 5), st.floats(-1e7, 1e7), st.just(np.nan)),
            st.lists(
                st.tuples(PLACES, PLACES, st.floats(0, 1), st.one_of(st.floats(1e-4, 2500), st.floats())), max_size=6
            ),
        ),
        max_size=20,
    )
)
@examples(max_examples=60, deadline=None)
def test_whatever_comes_tracks_are_sane(
    settings: TrackerSettings, steps: list[tuple[float, list[tuple[float, float, float, float]]]]
) -> None:
    tracker, time, known = Tracker(settings.model_copy(update={"start_score": 0.3})), 0.0, 0
    for index, (gap, rows) in enumerate(steps):
        time = time + gap if np.isfinite(time) else gap
        found = detections([(x, y) for x, y, _, _ in rows], 0.5)
        found.score[:] = [score for _, _, score, _ in rows]
        found.covariance[:] = [[variance, 0, variance] for *_, variance in rows] if rows else found.covariance
        tracks, _ = tracker.step(Frame(IMAGE, index, time, "scene"), found)
        assert len(set(tracks.id.tolist())) == len(tracks)
        assert tracks.id.max(initial=0) <= (known := known + len(rows))
        for values in (tracks.x, tracks.y, tracks.vx, tracks.vy, tracks.covariance):
            assert np.isfinite(values).all()
        xx, xy, yy = tracks.covariance.T
        assert ((xx > 0) & (yy > 0) & (xx * yy > xy**2)).all()
        assert ((tracks.hits >= 1) & (tracks.hits <= tracks.age)).all()


def test_a_shaking_camera_breaks_no_track_when_its_motion_is_known() -> None:
    rng, confirmed = np.random.default_rng(4), []
    shakes = rng.uniform(-10, 10, (90, 2))
    for known in (True, False):
        tracker, events = Tracker(SETTINGS), list[TrackEvent]()
        for i, shake in enumerate(shakes):
            matrix = np.eye(3)
            if i and known:
                matrix[:2, 2] = shake - shakes[i - 1]
            seen = detections([tuple(np.add(moving(i), shake))], 0.99)
            tracks, new = tracker.step(Frame(IMAGE, i, i / RATE, "scene"), seen, CameraMotion(matrix, known))
            events += new
        confirmed.append([e.kind for e in events])
        if known:
            assert tracks.hits.tolist() == [90]
            np.testing.assert_allclose([tracks.vx[0], tracks.vy[0]], [40, -10], atol=5)
    assert confirmed[0] == ["confirmed"] != confirmed[1]


@every_kind
def test_a_target_that_a_shaking_camera_loses_now_and_then_keeps_its_track(settings: TrackerSettings) -> None:
    """At the picture's edge it is outside in half of the frames, for up to some 10 at a time."""
    rng, scene = np.random.default_rng(1), Scene(settings)
    offset, hits, outside = np.zeros(2), 0, 0
    for i in range(150):
        step = rng.uniform(-10, 10, 2) - offset
        offset += step
        matrix = np.eye(3)
        matrix[:2, 2] = step
        place = offset + np.array([0.0, 100 + i / RATE])
        there = place[0] >= -0.5
        hits, outside = hits + there, outside + (not there)
        seen = detections([tuple(place)] if there else [], 0.99)
        tracks, events = scene.tracker.step(Frame(IMAGE, i, i / RATE, "scene"), seen, CameraMotion(matrix, known=True))
        scene.events += events
        assert (tracks.x >= -0.5).all()
        if there:
            assert tracks.id.tolist() == [1]
            np.testing.assert_allclose([tracks.x[0], tracks.y[0]], place, atol=1)
            assert tracks.hits[0] == hits
    assert outside > 50
    assert [e.kind for e in scene.events] == ["confirmed"]


@every_kind
def test_a_target_that_the_camera_swings_away_from_comes_back_under_its_id(settings: TrackerSettings) -> None:
    swing, scene = CameraMotion(np.array([[1.0, 0, -200], [0, 1, 0], [0, 0, 1]]), known=True), Scene(settings)
    for i in range(30):
        scene(moving(i))
    away = Frame(IMAGE, 30, 30 / RATE, "scene")
    assert len(scene.tracker.step(away, detections([], 0.9), swing)[0]) == 0
    back = CameraMotion(np.array([[1.0, 0, 200], [0, 1, 0], [0, 0, 1]]), known=True)
    for i in range(40, 42):
        tracks, _ = scene.tracker.step(
            Frame(IMAGE, i, i / RATE, "scene"), detections([moving(i)], 0.95), back if i == 40 else STANDS_STILL
        )
    assert tracks.id.tolist() == [1]
    assert tracks.status.tolist() == [TrackStatus.CONFIRMED]


@every_kind
def test_tracks_turn_and_grow_with_the_scene(settings: TrackerSettings) -> None:
    """A quarter turn about the origin and a zoom of two, at once and between two frames."""
    scene = Scene(settings)
    for i in range(30):
        before = scene((100 + 30 * i / RATE, 50.0))
    motion = CameraMotion(np.array([[0.0, -2, 200], [2, 0, 0], [0, 0, 1]]), known=True)
    big = Frame(np.zeros((600, 800), np.uint8), 30, 29 / RATE, "scene")
    after, _ = scene.tracker.step(big, detections([], 0.9), motion)
    np.testing.assert_allclose([after.x[0], after.y[0]], [200 - 2 * before.y[0], 2 * before.x[0]])
    np.testing.assert_allclose([after.vx[0], after.vy[0]], [-2 * before.vy[0], 2 * before.vx[0]])
    np.testing.assert_allclose(after.covariance[0], 4 * before.covariance[0][[2, 1, 0]] * [1, -1, 1], atol=1e-9)


def test_a_target_that_accelerates_steadily_is_expected_to() -> None:
    errors = []
    for settings in (SETTINGS, KINDS["accelerating"]):
        scene = Scene(settings)
        for i in range(60):
            scene((20 + 0.5 * 60 * (i / RATE) ** 2, 60.0))
        ahead = scene(*[], time=80 / RATE)  # not seen for a while
        errors.append(abs(ahead.x[0] - (20 + 0.5 * 60 * (80 / RATE) ** 2)))
    assert errors[1] < 0.5 * errors[0]


def test_a_target_that_turns_is_expected_to_turn_on_to_either_side() -> None:
    errors = {}
    for rate in (0.0, 90.0):
        for side in (-1, 1):
            scene, turn = Scene(TrackerSettings(turn_rate=rate)), side * np.deg2rad(90)
            angles = turn * np.arange(65) / RATE
            path = np.array([160.0, 128]) + 60 / turn * np.column_stack([np.sin(angles), 1 - np.cos(angles)])
            for place in path[:50]:
                scene(tuple(place))
            for _ in range(15):  # not seen for a while
                tracks = scene()
            errors[rate, side] = np.hypot(*(tracks.position[0] - path[-1]))
    assert errors[90, 1] == pytest.approx(errors[90, -1], abs=1e-6)
    assert errors[90, 1] < 0.6 * errors[0, 1]


def test_a_doubtful_detection_moves_a_joint_track_less() -> None:
    """Clutter beside the target: the nearest takes one of both whole, the joint some of each."""
    moves = []
    for settings in (SETTINGS, KINDS["joint"]):
        scene = Scene(settings)
        for i in range(40):
            scene(moving(i))
        there = np.array(moving(40))
        tracks = scene((there[0] + 0.5, there[1]), (there[0] - 0.6, there[1]))
        moves.append(abs(tracks.x[0] - there[0]))
    assert moves[1] < 0.5 * moves[0]


@every_kind
def test_innovations_are_as_large_as_is_said(settings: TrackerSettings) -> None:
    rng, squares = np.random.default_rng(5), []
    for _ in range(20):
        scene = Scene(settings)
        for i in range(60):
            tracks = scene(tuple(np.array(moving(i)) + rng.normal(0, 0.3, 2)))
            squares += tracks.nis[tracks.hits > 10].tolist()
    # Between manoeuvres, which a track always reckons with, they are somewhat smaller.
    assert 1.5 < np.mean(squares) < 2.1
    assert np.isnan(scene().nis).all()


def test_detections_whose_columns_do_not_fit_are_refused_by_name() -> None:
    good = detections([(10, 20), (30, 40)], 0.9)
    with pytest.raises(ValueError, match=r"covariance of shape \(2, 2, 2\); expected \(2, 3\)"):
        replace(good, covariance=good.noise)
    with pytest.raises(ValueError, match=r"y of shape \(1,\); expected \(2,\), a row for each x"):
        replace(good, y=good.y[:1])
