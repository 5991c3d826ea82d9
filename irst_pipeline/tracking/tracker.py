"""The multi-target tracker: predict, associate, update, and the life of a track."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.special import chdtri, expit

from irst_pipeline.config import DetectionSettings, TrackerSettings
from irst_pipeline.state import Stateful
from irst_pipeline.tracking.association import Pairs, Shares, assign, gate
from irst_pipeline.tracking.clutter import SIDES, Spots, regions
from irst_pipeline.tracking.existence import (
    DIM_SPEED_MIN,
    FADED_GAIN,
    FADED_SCORE,
    FADED_SNR,
    LASTING_HITS,
    LASTING_MAX,
    MEMORY_FRAMES,
    SET_BACK,
    UNCHANGED_MIN,
    Persistence,
    ScoreModel,
    independence,
    visible_though_missed,
    weak_gain,
    where_lasting,
)
from irst_pipeline.tracking.imm import inside, placed, predicted, updated_softly
from irst_pipeline.tracking.joint import joint_shares
from irst_pipeline.tracking.jumps import gone_on
from irst_pipeline.tracking.kalman import innovations, mahalanobis, positions
from irst_pipeline.tracking.line import begun, carried, extended, fly, misfit_to
from irst_pipeline.tracking.measurements import DetectionStatistics, Measurements, usable_rows
from irst_pipeline.tracking.motion import beyond, manoeuvres, moved
from irst_pipeline.tracking.population import Population, doubled
from irst_pipeline.tracking.unresolved import contested, each_of_two, expected_places, seen_as_one
from irst_pipeline.types import (
    STANDS_STILL,
    CameraMotion,
    Detections,
    Floats,
    Frame,
    Integers,
    TrackEvent,
    Tracks,
)

STEP_SECONDS_MAX = 1e5
"""From one frame to the next; nothing is known any more after so long, nor after longer."""
HOPELESS = np.log(0.05)
"""Evidence below which a tentative track is given up."""
GAP_INTERVALS = 3.0
"""A frame that comes so many times later than frames usually do comes after a gap."""
INTERVAL_SHARE = 0.1
"""Of what frames usually are apart, how much the last one says."""


class ConfirmationEvidence(NamedTuple):
    """Evidence that confirms a track."""

    strong: float
    """By the strong detections."""
    weak: float
    """By all, of a dim target."""


class Tracker(Stateful):
    """Interacting multiple models, one-to-one or joint probabilistic association, a sequential probability ratio test.

    With the association `nearest`, confirmed tracks choose their detections first and tentative ones share what is
    left; with `joint`, each takes every detection in its gate as far as it is likely its own, and a tentative track
    takes from others only as far as it is likely to be of a target. The detections that are left then start new tracks,
    strong ones also where only a tentative track of weak ones wants them. A track is confirmed once so much evidence
    speaks for it that clutter as dense as it is here would reach it no more often than the settings allow. A confirmed
    track that is not seen coasts on its prediction until it has not been seen for too long. After a gap in the frames
    that was longer than it may coast, nothing is taken for it; where frames are that rare anyhow, it is followed from
    each to the next. Out of the picture nothing can be seen of a target: that it is not speaks against no track, so one
    that the camera swings away from coasts there, unreported, and goes on when it is back.

    Weak detections, of which an image has many, are for targets that are dim or fade: a track may take them while half
    of its detections are weak, or step by step from a strong one. One that they began or carry is confirmed only if it
    flies straight across the scene, and where the weak detections come and go as noise does; one that has done neither
    for long is given up. What else persists from frame to frame is of the scene. Strongly compressed video keeps rests
    of its noise from frame to frame as well: where they are many, each detection is less evidence.

    Two confirmed tracks with one detection for both, too near to be seen apart, are both led by it. It counts as the
    elder's; the younger coasts, so that of two tracks which stay on one target it ends.

    A bright target that is suddenly elsewhere keeps its track: the one that begins there goes on under its id.
    """

    kept = ("_tracks", "_time", "_behind", "_interval", "_next_id", "_strong", "_weak")

    def __init__(self, settings: TrackerSettings, weak_below: float = DetectionSettings().threshold) -> None:
        """`weak_below`: score of detections that are weak."""
        s = self._settings = settings
        self._weak_below = weak_below
        self._motion = manoeuvres(s)
        self._gate = float(chdtri(2, 1 - s.gate_probability))
        self._scores = ScoreModel(s.target_score, s.clutter_score)
        # Bright targets are found where they stand still, dim ones only where they fly.
        self._strong = DetectionStatistics(s.false_alarms, Spots(spared=1, sides=SIDES), Persistence(0.0))
        self._weak = DetectionStatistics(s.weak_false_alarms, Spots(spared=0, sides=SIDES[-1:]), Persistence(1.0))
        self._tracks = Population.empty(*self._motion.transition(0.0).shape[:2])
        self._time: float | None = None
        self._behind = 0.0  # s by which the frames' clock has been set back in all; `_time` goes on from before
        self._interval: float | None = None
        self._next_id = 1

    def step(
        self, frame: Frame, detections: Detections, motion: CameraMotion = STANDS_STILL
    ) -> tuple[Tracks, tuple[TrackEvent, ...]]:
        """Take the detections of the next frame, and how the camera has moved since the one before that was not blind.

        A frame that is not later than the one before it, or of no known time, adds no evidence; those after it count
        from its time. Detections that are not finite, or whose covariance is not positive definite, or of a place or a
        variance that no image has, are left out. A blind frame says nothing: the tracks are told as they are expected
        by then, and for the frames after it, it is as if it had not been.
        """
        time, behind, dt = self._clock(frame.time)
        shape = frame.image.shape
        if frame.blind:
            return self._expected(dt, shape), ()
        self._time, self._behind = time, behind
        usable = usable_rows(detections)
        if len(usable) < len(detections):
            detections = detections.take(usable)
        for kind in self._kinds:
            kind.spots.carry(time, motion)
        measurements = self._measurements(detections, shape)
        tracks, after_gap = self._predicted(dt, motion), self._after_gap(dt)
        needed = ConfirmationEvidence(
            *(k.starts.evidence_needed(self._settings.false_tracks_per_hour) for k in self._kinds)
        )
        may_be_seen = ~(after_gap & (time - tracks.last_seen > self._settings.coast_seconds))
        detected = self._settings.detection_probability * inside(tracks.mixture, shape) * may_be_seen
        shares = self._associate(tracks, measurements, may_be_seen, detected, needed)
        compressed = frame.unchanged > UNCHANGED_MIN
        self._watch(tracks, shares.pairs.take(shares.own), measurements.weak, compressed)
        founders = self._founders(tracks, shares, measurements, shape, dt)
        tracks = self._updated(tracks, shares, measurements, detected, dt)
        tracks, events = self._aged(tracks, frame, time, needed)
        self._tracks = tracks.join(self._born(measurements, founders, time))
        return self._tracks.reported(shape, usable), events

    def _watch(self, tracks: Population, own: Pairs, weak: NDArray[np.bool_], compressed: bool) -> None:
        """Learn how many detections, `weak` (k,) and strong ones, go on from frame to frame: those that are a track's
        `own`.

        The strong ones of confirmed tracks are left out, for those of targets do. Of the others, noise does not; what
        `compressed` video leaves of it does.
        """
        of_weak, confirmed = weak[own.detections], tracks.confirmed[own.tracks]
        lasting = of_weak & (tracks.hits[own.tracks] >= LASTING_HITS)
        self._weak.persistence.add(int(weak.sum()), int(lasting.sum()))
        others, lasting = (~weak).sum() - (~of_weak & confirmed).sum(), ~of_weak & ~confirmed & compressed
        self._strong.persistence.add(int(others), int(lasting.sum()))

    def _clock(self, stamp: float) -> tuple[float, float, float]:
        """The time of a frame on a clock that never runs backwards, the seconds by which the frames' own has been set
        back by then, and those since the frame before."""
        before, behind = self._time, self._behind
        now = stamp + behind if np.isfinite(stamp) else before or 0.0
        if before is not None and now < before:
            behind += before - now
            now = before
        return now, behind, 0.0 if before is None else min(now - before, STEP_SECONDS_MAX)

    def _expected(self, dt: float, shape: tuple[int, ...]) -> Tracks:
        """The tracks `dt` seconds after the last frame that was new, of images (H, W)."""
        unseen = np.full_like(self._tracks.detection, -1)
        tracks = self._predicted(dt, STANDS_STILL)
        tracks = tracks._replace(age=self._tracks.age, detection=unseen, nis=np.full(len(unseen), np.nan))
        return tracks.reported(shape, np.empty(0, np.int64))

    def _after_gap(self, dt: float) -> bool:
        """Whether frames are usually much less apart than these `dt` seconds; learns how much that is."""
        if not dt:  # a clock that stands still says nothing of it
            return False
        usual = self._interval or dt
        self._interval = usual + INTERVAL_SHARE * (min(dt, GAP_INTERVALS * usual) - usual)
        return dt > GAP_INTERVALS * usual

    @property
    def _kinds(self) -> tuple[DetectionStatistics, DetectionStatistics]:
        return self._strong, self._weak

    def _founders(
        self, tracks: Population, shares: Shares, measurements: Measurements, shape: tuple[int, ...], dt: float
    ) -> Integers:
        """Rows of the detections that start tracks; counts these, and those of clutter."""
        pairs, count = shares.pairs, len(measurements.score)
        confirmed, weakly = tracks.confirmed[pairs.tracks], tracks.begun_weakly[pairs.tracks]
        # Which detections are of confirmed tracks, of tracks that a bright detection began, and of any.
        by_confirmed, by_bright, by_any = (
            np.bincount(pairs.detections, shares.probability * of_these, count) > 0.5
            for of_these in (confirmed, ~weakly, 1)
        )
        clutter, bright = ~by_confirmed, measurements.bright
        # A tentative track that no bright detection began is too likely clutter to keep a bright target from its own.
        starts = bright & ~by_bright, ~bright & ~by_any
        for kind, looked, started in zip(self._kinds, (~measurements.weak, measurements.weak), starts, strict=True):
            false = (clutter & looked).nonzero()[0]
            kind.add(measurements.position[false], measurements.region[false], shape, dt)
            kind.starts.add(int(started.sum()), dt)
        return (starts[0] | starts[1]).nonzero()[0]

    def _measurements(self, detections: Detections, shape: tuple[int, ...]) -> Measurements:
        s, measured, score, snr = self._settings, detections.position, detections.score, detections.snr
        noise, region, weak = detections.noise, regions(measured, shape), score < self._weak_below
        bright = (score >= s.start_score) | (~weak & (snr >= s.start_snr))
        clutter = self._strong.density(measured, region, shape)
        score_gain = np.array([self._scores.gain(score), weak_gain(score)])
        if weak.any():
            score_gain[0, weak] = score_gain[1, weak]
            clutter[weak] = self._weak.density(measured[weak], region[weak], shape)
        size, misfit = detections.box[:, 2:], misfit_to(measured, noise)
        return Measurements(measured, noise, size, score, snr, weak, bright, score_gain, clutter, region, misfit)

    def _predicted(self, dt: float, motion: CameraMotion) -> Population:
        mixture = predicted(self._tracks.mixture, self._motion, dt)
        mean, covariance = moved(mixture.by_model, motion) if motion.moved else mixture.by_model
        fresh, misfit = ~self._tracks.confirmed, self._tracks.misfit
        if fresh.any():
            misfit = misfit.copy()
            misfit[fresh] = carried(misfit[fresh], dt, motion)
        return self._tracks._replace(
            mean=mean,
            covariance=covariance,
            weight=mixture.weight,
            misfit=misfit,
            age=self._tracks.age + 1,
            unbroken=self._tracks.unbroken + 1,
        )

    def _associate(
        self,
        tracks: Population,
        measurements: Measurements,
        may_be_seen: NDArray[np.bool_],
        detected: Floats,
        needed: ConfirmationEvidence,
    ) -> Shares:
        """`may_be_seen` (n,): tracks that may take detections; `detected` (n,): how probably their targets are seen."""
        pairs, density = gate(tracks.mixture, measurements.position, measurements.noise, self._gate)
        wanted, fading = may_be_seen[pairs.tracks], np.zeros(len(density))
        if measurements.weak.any():
            # A bright target fades step by step; one that is gone, or has left the picture, does not look like a dim
            # one instead. One that fades faster is rare, and where it was not seen since, it was missed by chance.
            dimmed = measurements.weak[pairs.detections] & ~tracks.may_be_dim[pairs.tracks]
            gone = measurements.score[pairs.detections] < FADED_SCORE * tracks.score[pairs.tracks]
            gone |= (detected < 0.5 * self._settings.detection_probability)[pairs.tracks]
            wanted &= ~(dimmed & gone)
            faded = dimmed & (measurements.snr[pairs.detections] < FADED_SNR * tracks.snr[pairs.tracks])
            missed = tracks.missed[pairs.tracks] * np.log(1 - self._settings.detection_probability)
            fading = np.where(faded, FADED_GAIN + missed, 0.0)
        if not wanted.all():
            pairs, density, fading = pairs.take(wanted.nonzero()[0]), density[wanted], fading[wanted]
        score_gain = measurements.score_gain[tracks.begun_weakly[pairs.tracks].astype(int), pairs.detections]
        clutter = measurements.clutter[pairs.detections]
        gain = np.log(self._settings.detection_probability / clutter) + density + score_gain + fading
        # One that was missed again and again is hidden or gone, and what is far from its place rather clutter.
        gain += np.log(tracks.visible)[pairs.tracks]
        both = contested(pairs, tracks.confirmed, tracks.id)
        if len(both):
            which, at = pairs.tracks[both], pairs.detections[both[:, 0]]
            places, missed = expected_places(tracks.mixture, which), 1 - detected[which]
            shared = measurements.position[at], measurements.noise[at], measurements.size[at]
            both = both[seen_as_one(places, density[both], missed, *shared)]
        of_one = np.ones(len(measurements.score), bool)
        of_one[pairs.detections[both]] = False
        rest = of_one[pairs.detections].nonzero()[0]
        single = self._shares(tracks, pairs.take(rest), gain[rest], detected, needed)
        return single.join_unresolved(pairs.take(both.ravel())) if len(both) else single

    def _shares(
        self, tracks: Population, pairs: Pairs, gain: Floats, detected: Floats, needed: ConfirmationEvidence
    ) -> Shares:
        """Of detections that are of one target each."""
        if self._settings.association == "joint":
            # A tentative track is as likely of a target as the test it has to pass says.
            lead = np.maximum(tracks.evidence - needed.strong, tracks.dim_evidence - needed.weak)
            existence = np.where(tracks.confirmed, 1.0, expit(lead))
            return joint_shares(pairs, gain, existence, detected * tracks.visible)
        # A target that turns back at the border is not expected there: to take it up again, its track need not be sure
        # that it is in the picture.
        missed = np.log(1 - self._settings.detection_probability * tracks.visible)[pairs.tracks]
        evidence = np.log(1 - detected)
        free = np.ones(pairs.detections.max(initial=-1) + 1, bool)
        chosen = [np.empty(0, np.int64)]
        order = np.where(tracks.confirmed, 0, 1 + tracks.dim)
        for group in (order == turn for turn in range(3)):
            open_ = (group[pairs.tracks] & free[pairs.detections]).nonzero()[0]
            if not len(open_):
                continue
            kept = open_[assign(pairs.take(open_), gain[open_] - missed[open_])]
            free[pairs.detections[kept]] = False
            chosen.append(kept)
        rows = np.concatenate(chosen)
        evidence[pairs.tracks[rows]] = gain[rows]
        return Shares(pairs.take(rows), np.ones(len(rows)), evidence)

    def _updated(
        self, tracks: Population, shares: Shares, measurements: Measurements, detected: Floats, dt: float
    ) -> Population:
        columns = {name: column.copy() for name, column in tracks._asdict().items()}
        touched = np.bincount(shares.pairs.tracks, minlength=len(tracks.id)).nonzero()[0]
        which = touched.searchsorted(shares.pairs.tracks)
        near = shares.pairs.detections
        measured, noise = measurements.position[near], measurements.noise[near]
        if len(both := shares.unresolved):
            expected = expected_places(tracks.mixture, shares.pairs.tracks[both])
            measured[both], noise[both] = each_of_two(expected, measured[both[:, 0]], noise[both[:, 0]])
        states = updated_softly(tracks.mixture.take(touched), which, shares.probability, measured, noise)
        for name, values in states._asdict().items():
            columns[name][touched] = values
        own = shares.own
        rows, seen = shares.pairs.tracks[own], near[own]
        if self._settings.speed_min or measurements.weak.any() or tracks.begun_weakly.any():  # else none has to fly
            fresh = ~tracks.confirmed[rows]
            new = rows[fresh]
            columns["misfit"][new], columns["in_line"][new] = extended(
                tracks.misfit[new], tracks.in_line[new], measurements.misfit[seen[fresh]], self._settings.speed_sd
            )
        # What is seen weakly is for the strong evidence as if it had not been seen.
        share, count = shares.probability, len(tracks.id)
        weakly = np.bincount(shares.pairs.tracks, np.where(measurements.weak[near], share, -share), count) > 0
        by_strong = np.where(weakly, np.log(1 - detected), shares.evidence)
        says = where_lasting(self._strong.persistence.but_for(tracks.strong_hits, tracks.age))
        columns["evidence"] += says * independence(dt, self._settings.clutter_seconds) * by_strong
        columns["dim_evidence"] += independence(dt, self._settings.weak_clutter_seconds) * shares.evidence
        for name in ("size", "score", "snr"):
            columns[name][rows] = getattr(measurements, name)[seen]
        columns["hits"][rows] += 1
        columns["missed"] += 1
        columns["missed"][rows] = columns["missed"][shares.pairs.tracks[both]] = 0
        columns["strong_hits"][rows] += ~measurements.weak[seen]
        # What a network misses once it often misses again.
        independent = independence(dt, self._settings.weak_clutter_seconds)
        known = tracks.confirmed & (columns["missed"] > 0)
        columns["visible"] = np.where(known, visible_though_missed(tracks.visible, detected, independent), 1.0)
        columns["last_seen"][rows] = self._time
        columns["detection"] = np.full(count, -1)
        columns["detection"][rows] = seen
        expected = placed(tracks.mixture.take(rows))
        columns["nis"] = np.full(count, np.nan)
        columns["nis"][rows] = mahalanobis(innovations(expected, measured[own], noise[own]))
        return Population(**columns)

    def _aged(
        self, tracks: Population, frame: Frame, time: float, needed: ConfirmationEvidence
    ) -> tuple[Population, tuple[TrackEvent, ...]]:
        """Confirm and drop. `time`: the tracker's own."""
        s, (strong, weak), shape = self._settings, needed, frame.image.shape
        confirm = ~tracks.confirmed & (tracks.evidence >= strong)
        if s.speed_min:
            rows = confirm.nonzero()[0]
            confirm[rows] = fly(tracks.misfit[rows], tracks.in_line[rows], s.speed_min)
        dim = ~tracks.confirmed & ~confirm & tracks.dim
        dim_evidence = np.where(tracks.confirmed, np.minimum(tracks.dim_evidence, weak), tracks.dim_evidence)
        if len(rows := (dim & (dim_evidence >= weak)).nonzero()[0]):
            weak_hits = (tracks.hits - tracks.strong_hits)[rows]
            lasting = self._weak.persistence.but_for(weak_hits, tracks.age[rows])
            of_noise = (weak_hits == 0) | (lasting <= LASTING_MAX)  # its weak ones, if it has any
            confirm[rows] = of_noise & fly(tracks.misfit[rows], tracks.in_line[rows], max(s.speed_min, DIM_SPEED_MIN))
            # Noise may line up by chance: what does not fly yet has to show that it does when it is seen again.
            dim_evidence[rows[~confirm[rows]]] = weak - SET_BACK
        confirmed = tracks.confirmed | confirm
        # Once it is confirmed, strong detections count for a track that they did not begin, too.
        evidence = np.minimum(np.where(confirm, np.maximum(tracks.evidence, 0), tracks.evidence), strong)
        # Weak detections are too many for a track to live on any that come near.
        astray = (tracks.dim | (tracks.score < self._weak_below)) & (np.maximum(evidence, dim_evidence) < 0)
        doubtful = np.where(tracks.may_be_dim, np.maximum(evidence, dim_evidence), evidence) < HOPELESS
        of_scene = dim & (evidence < HOPELESS) & (tracks.age > MEMORY_FRAMES)
        lost = np.where(confirmed, astray, doubtful | of_scene)
        unseen = time - tracks.last_seen > s.coast_seconds
        # No shake takes a target so far out; a pan past a right angle would bring it back as its mirror image.
        far = beyond(positions(tracks.mixture.by_model).mean[:, 0], shape) > max(shape)
        drop = lost | unseen | far
        if s.association == "joint":
            drop |= doubled(tracks)
        confirm &= ~drop
        gone, events, at = np.zeros_like(drop), [], (frame.index, frame.time)
        if confirm.any():
            old, new = gone_on(tracks, confirm, shape, s.speed_sd)
            was, tracks = tracks.id[new], tracks.continued(old, new)
            events += [TrackEvent("jumped", int(i), *at, int(j)) for i, j in zip(tracks.id[new], was, strict=True)]
            gone[old], confirm[new] = True, False
        events += [TrackEvent("confirmed", int(i), *at) for i in tracks.id[confirm]]
        events += [TrackEvent("dropped", int(i), *at) for i in tracks.id[tracks.confirmed & drop & ~gone]]
        drop |= gone
        tracks = tracks._replace(confirmed=confirmed, evidence=evidence, dim_evidence=dim_evidence)
        return tracks.take((~drop).nonzero()[0]) if drop.any() else tracks, tuple(events)

    def _born(self, measurements: Measurements, rows: Integers, time: float) -> Population:
        """A tentative track for each of these rows of the measurements."""
        n, models, dimensions = len(rows), len(self._motion.shares), self._tracks.mean.shape[-1]
        order = dimensions // 2
        mean, covariance = np.zeros((n, models, dimensions)), np.zeros((n, models, dimensions, dimensions))
        mean[..., ::order] = measurements.position[rows, None]
        covariance[..., ::order, ::order] = measurements.noise[rows, None]
        for derivative, sd in enumerate((self._settings.speed_sd, self._settings.acceleration_sd)[: order - 1], 1):
            unknown = [derivative, derivative + order]
            covariance[..., unknown, unknown] = sd**2
        first, self._next_id = self._next_id, self._next_id + n
        weakly, (bright, dim) = ~measurements.bright[rows], measurements.score_gain[:, rows]
        return Population(
            id=np.arange(first, first + n),
            confirmed=np.zeros(n, bool),
            mean=mean,
            covariance=covariance,
            weight=np.full((n, models), self._motion.shares),
            misfit=begun(measurements.misfit[rows], self._settings.speed_sd),
            in_line=np.ones(n, np.int64),
            evidence=np.where(weakly, -np.inf, bright),
            dim_evidence=np.where(weakly, dim, bright),
            size=measurements.size[rows],
            score=measurements.score[rows],
            snr=measurements.snr[rows],
            age=np.ones(n, np.int64),
            unbroken=np.ones(n, np.int64),
            hits=np.ones(n, np.int64),
            strong_hits=(~measurements.weak[rows]).astype(np.int64),
            missed=np.zeros(n, np.int64),
            visible=np.ones(n),
            last_seen=np.full(n, time),
            detection=rows,
            nis=np.full(n, np.nan),
        )
