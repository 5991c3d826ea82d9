"""A recording replayed at its own rate."""

import threading
import time
from contextlib import closing
from itertools import islice
from pathlib import Path

import cv2
import numpy as np
import pytest

from irst_pipeline.sources import Position, checksum, open_source, resume_source
from tests.running import CLOUDS

pytestmark = pytest.mark.alone


def test_frames_come_when_their_time_has_come() -> None:
    with closing(open_source(str(CLOUDS), realtime=True)) as source, closing(open_source(str(CLOUDS))) as recording:
        assert source.live
        assert not recording.live
        assert (source.name, source.frame_rate) == (recording.name, recording.frame_rate)
        came = []
        for frame, same in zip(source, recording, strict=True):
            came.append((time.perf_counter(), frame.arrived, frame.time))
            assert (frame.index, frame.time) == (same.index, same.time)
            np.testing.assert_array_equal(frame.image, same.image)
    assert came[0][1] is None  # it was there already
    clock, due, times = np.array(came[1:]).T.astype(float)
    np.testing.assert_allclose(due - due[0], times - times[0], atol=1e-6)
    assert due[0] - came[0][0] == pytest.approx(1 / source.frame_rate, abs=0.02)
    assert -1e-3 < (clock - due).min() < 0.5 / source.frame_rate


def test_the_clock_does_not_start_before_the_second_frame_is_asked_for() -> None:
    with closing(open_source(str(CLOUDS), realtime=True)) as source:
        frames = iter(source)
        first = next(frames)
        time.sleep(0.5)
        asked = time.perf_counter()
        second = next(frames)
        assert first.arrived is None
        assert first.utc is not None
        assert second.arrived is not None
        assert second.arrived > asked
        assert second.utc is not None
        assert time.time() - second.utc == pytest.approx(time.perf_counter() - second.arrived, abs=0.01)
        assert second.utc - first.utc > 0.5


def test_a_late_consumer_is_not_made_to_wait_again() -> None:
    with closing(open_source(str(CLOUDS), realtime=True)) as source:
        frames = iter(source)
        first, _ = next(frames), next(frames)
        time.sleep(0.5)
        before = time.monotonic()
        passed = [frame for frame, _ in zip(frames, range(10), strict=False)]
        assert passed[-1].time - first.time < 0.5
        assert time.monotonic() - before < 0.3


def test_one_that_is_gone_on_with_does_not_wait_for_what_is_behind(tmp_path: Path) -> None:
    for number in range(8):
        cv2.imwrite(str(tmp_path / f"{number}.png"), np.full((20, 20), number, np.uint8))
    with closing(open_source(str(tmp_path), image_rate=1.0)) as source:
        sixth = next(islice(source, 5, None))
    before, stop = Position(5, sixth.time, time.time(), 0, 0, checksum(sixth)), threading.Event()
    with closing(open_source(str(tmp_path), image_rate=1.0, realtime=True, stop=stop)) as source:
        begun, later = time.perf_counter(), resume_source(source, before, stop, None)
        came = [(frame.index, time.perf_counter() - begun) for frame in later]
    assert [index for index, _ in came] == [6, 7]
    assert came[0][1] < 0.9 < came[1][1], "each a second after the one before"


@pytest.mark.parametrize("how", ["stop", "stop_waiting"])
def test_nobody_waits_for_a_frame_that_is_not_wanted_any_more(how: str, tmp_path: Path) -> None:
    for number in range(3):
        cv2.imwrite(str(tmp_path / f"{number}.png"), np.full((20, 20), number, np.uint8))
    stop = threading.Event()
    with closing(open_source(str(tmp_path), image_rate=0.01, realtime=True, stop=stop)) as source:
        threading.Timer(0.5, stop.set if how == "stop" else source.stop_waiting).start()
        begun = time.monotonic()
        assert len(list(source)) == 1
        assert time.monotonic() - begun < 2
