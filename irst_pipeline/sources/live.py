"""Live cameras and streams, which may be lost and come again."""

import math
import random
import time
from collections.abc import Iterator
from contextlib import closing
from threading import Event
from time import perf_counter

from irst_pipeline.config import LiveSettings
from irst_pipeline.errors import IrstError
from irst_pipeline.sources.base import Damage, Feed, FeedFrame, Position, Reader, describe, log, utc_of
from irst_pipeline.stage import POLL_SECONDS, Stage
from irst_pipeline.types import Frame

RETRY_SECONDS = 0.25  # from one try to connect to the next; each time twice as long
PATIENCE = 0.25  # of the time since the last frame, which a connection may take to begin
SIZES_MAX = 16  # of frames, in a run: a network takes a second and 30 MB for each, so any more could be an attack
PIPED = "send NUT, Matroska or MPEG-TS, or say what raw frames are with ?format=gray16le&size=640x512"
JUMP_SECONDS = 1.0
AHEAD_SECONDS, FADE_SECONDS = 10.0, 100.0
STEP_SECONDS = 1e-3
JOIN_SECONDS = 1.0  # FFmpeg may be in the middle of a read that nothing but its timeout ends


class Clock:
    """Times of a live source's frames, in seconds since its first one; they always increase.

    A frame is later than the one before it by as much as their time stamps say, unless that is nothing or less, or more
    than JUMP_SECONDS and ahead of this machine's clock, or all such steps together leave it by AHEAD_SECONDS (which the
    clock of a camera that is a little too fast does not, for the lead fades). Then, and where a time stamp is missing
    or the connection is a new one, it is later by the time that this machine saw pass between them, and at least by
    STEP_SECONDS. Its clock is that of `time.perf_counter`, which nobody sets.
    """

    def __init__(self) -> None:
        self._stamp: float | None = None
        self._time: float | None = None
        self._start = self._came = self._ahead = 0.0

    def go_on_from(self, time: float, came: float) -> None:
        """The last frame was at `time` and came at `came` on this machine's clock (s), maybe in an earlier process."""
        self._time, self._came, self._start = time, came, came - time

    def connected(self) -> None:
        """Time stamps to come have nothing to do with those before."""
        self._stamp = None

    def __call__(self, stamp: float | None, now: float) -> float:
        """The time of a frame with this time stamp (s) that came at `now` on this machine's clock (s)."""
        if self._time is None:
            self._time, self._start = 0.0, now
        else:
            passed = now - self._came
            step = stamp - self._stamp if stamp is not None and self._stamp is not None else 0.0
            ahead = self._ahead * math.exp(-passed / FADE_SECONDS) - passed
            near = abs(ahead + step) < AHEAD_SECONDS if step <= JUMP_SECONDS else self._time + step <= now - self._start
            if step <= 0 or not near:
                step = max(STEP_SECONDS, passed)
            self._time += step
            self._ahead = ahead + step
        self._came, self._stamp = now, stamp
        return self._time


class LiveStream(Reader):
    """The frames of a live source as they come, across any number of losses.

    A thread of its own connects, reads and decodes, and connects again at intervals that double, with jitter, for as
    long as it takes, or as the settings allow; so that whoever iterates can stop at once, whatever FFmpeg is waiting
    for. Indices count frames that came, also those that were not whole. Size and depth may change from one frame to the
    next. By itself only standard input comes to an end.
    """

    live = True

    def __init__(self, feed: Feed, image_rate: float, settings: LiveSettings, stop: Event) -> None:
        super().__init__(feed.name, feed.frame_rate or image_rate, None)
        most = settings.give_up_seconds or math.inf  # what ends a run ends a connection, too
        limits = {key: min(getattr(settings, key), most) for key in ("open_seconds", "read_seconds")}
        self._feed, self._settings, self._stop = feed, settings.model_copy(update=limits), stop
        self._ended = Event()  # nobody wants more frames
        self._clock = Clock()
        self._index = -1
        self._kind: str | None = None  # size and depth of the frames; None before the first
        self._sizes = set[tuple[int, ...]]()  # of all frames that were taken
        self._last: float | None = None  # when the newest frame came
        self._lost_since: float | None = None

    def go_on_from(self, position: Position) -> None:
        """Count frames, failures and times on from where an earlier process came to; before it is iterated."""
        self._index = position.frame
        self.frames_failed, self.reconnects = position.frames_failed, position.reconnects
        passed = max(0.0, time.time() - position.clock)  # the machine's clock may have been set back
        self._clock.go_on_from(position.time, perf_counter() - passed)

    def stop_waiting(self) -> None:
        self._ended.set()

    def close(self) -> None:
        self.stop_waiting()

    def __iter__(self) -> Iterator[Frame]:
        coming = Stage(self._connections(), 1, abandoned=self._ended)
        try:
            while not (self._stop.is_set() or self._ended.is_set()):
                if coming.ready(POLL_SECONDS):
                    if (frame := next(coming, None)) is None:
                        break
                    yield frame
        finally:
            coming.close(JOIN_SECONDS)

    def _connections(self) -> Iterator[Frame]:
        """The frames of one connection after the other; raises IrstError at the end of one without any."""
        pause = RETRY_SECONDS
        while not self._ended.is_set():
            reason = "it ended"
            begun = perf_counter()
            try:
                self._clock.connected()
                limits = self._settings.model_copy(update={"open_seconds": self._patience()})
                with closing(self._feed.connect(limits, self._ended)) as arrivals:
                    for frame in self._frames(arrivals):
                        pause = RETRY_SECONDS
                        yield frame
            except IrstError as error:
                reason = str(error).removeprefix(f"{self._feed.name}: ")
                if self._kind is not None and not self._feed.reopens:
                    raise IrstError(f"{self.name}: {reason}") from None
            if not self._feed.reopens:
                break
            self._say_lost(reason, begun)
            self._give_up(reason)
            # What has been waited for already needs no pause: a frozen server, a sender that is to call.
            self._ended.wait(max(0.0, begun + pause * random.uniform(0.5, 1.0) - perf_counter()))
            pause = min(2 * pause, self._settings.retry_seconds)
        if self._kind is None and not self._ended.is_set():
            mend = "" if self._feed.reopens else "; " + PIPED
            raise IrstError(f"{self.name}: not one frame could be read ({reason}, {self.frames_failed} failed){mend}")

    def _patience(self) -> float:
        """How long (s) a connection may take to begin: the longer, the longer ago the last frame is.

        A server that has yet to notice the loss may answer and then send nothing. One that is slow to begin is given
        enough time in the end.
        """
        longest, now = self._settings.open_seconds, perf_counter()
        if (limit := self._settings.give_up_seconds) is not None and self._lost_since is not None:
            longest = min(longest, max(limit - (now - self._lost_since), RETRY_SECONDS))
        if self._last is None:
            return longest
        return min(longest, max(self._settings.read_seconds, PATIENCE * (now - self._last)))

    def _frames(self, arrivals: Iterator[FeedFrame | Damage | None]) -> Iterator[Frame]:
        """The whole frames of one connection; raises IrstError after too long a time without any."""
        seen = perf_counter()
        for arrival in map(self._of_known_size, arrivals):
            if self._ended.is_set():
                return
            if isinstance(arrival, FeedFrame):
                self._index += 1
                yield self._frame(arrival)
                seen = perf_counter()  # whoever took it may have been long about it
                continue
            if isinstance(arrival, Damage):
                self._index += 1
                self.fail(f"frame {self._index} {arrival.reason}")
            if perf_counter() - seen > self._settings.open_seconds:
                raise IrstError("it sends, but no pictures")

    def _of_known_size(self, arrival: FeedFrame | Damage | None) -> FeedFrame | Damage | None:
        """What came, or what it counts as: a picture of one more size than is taken is as good as a damaged one."""
        if isinstance(arrival, FeedFrame):
            height, width = shape = arrival.image.shape
            if shape not in self._sizes and len(self._sizes) == SIZES_MAX:
                return Damage(f"is {width}x{height} after frames of {SIZES_MAX} other sizes; no more sizes are taken")
            self._sizes.add(shape)
        return arrival

    def _frame(self, picture: FeedFrame) -> Frame:
        arrived = picture.arrived
        when = self._clock(picture.time, arrived)
        frame = Frame(picture.image, self._index, when, self.name, arrived, utc_of(arrived))
        self._last = arrived
        if self._lost_since is not None:
            again = self._kind is not None
            self.reconnects += again
            what = "frames come again" if again else "frames come"
            log.warning("%s: %s after %.1f s", self.name, what, arrived - self._lost_since)
            self._lost_since = None
        if describe(frame) != self._kind:
            if self._kind is not None:
                log.warning("%s: frames are %s now, they were %s", self.name, describe(frame), self._kind)
            self._kind = describe(frame)
        return frame

    def _say_lost(self, reason: str, begun: float) -> None:
        """Once for each loss, however often it is tried to connect again; `begun` is when it was first tried."""
        if self._lost_since is None and not self._ended.is_set():
            self._lost_since = begun if self._last is None else self._last
            log.warning("%s: no frames (%s); connecting again until they come", self.name, reason)

    def _give_up(self, reason: str) -> None:
        """Raises IrstError once a loss has lasted for longer than is waited for."""
        limit = self._settings.give_up_seconds
        if limit is not None and self._lost_since is not None and perf_counter() - self._lost_since > limit:
            why = f"no frames for {limit:g} s ({reason}); given up, as live.give_up_seconds says"
            raise IrstError(f"{self.name}: {why}")
