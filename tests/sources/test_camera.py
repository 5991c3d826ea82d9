"""GigE Vision cameras: Aravis' fake one, in a process of its own on loopback."""

import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from itertools import islice
from threading import Event, Thread

import numpy as np
import pytest

from irst_pipeline.config import LiveSettings
from irst_pipeline.errors import UsageError
from irst_pipeline.sources import open_source
from irst_pipeline.types import Frame
from tests.running import wait_until

FAKE = "arv-fake-gv-camera-0.8"
WIDTH, HEIGHT = 64, 48
SMALL = f"format=Mono16&region=0,0,{WIDTH},{HEIGHT}&fps=50&exposure=10000&gain=0"
QUICK = LiveSettings(open_seconds=2.0, read_seconds=1.0, retry_seconds=0.5)


def aravis_is_here() -> bool:
    try:
        open_source("gige://127.0.0.1")
    except UsageError:
        return False
    return shutil.which(FAKE) is not None


needs_aravis = pytest.mark.skipif(
    not aravis_is_here(),
    reason="NOT TESTED: GigE Vision; it needs Debian's aravis-tools and gir1.2-aravis-0.8, and the extra `gige`",
)


@contextmanager
def fake_camera(lost_per_thousand: int = 0) -> Iterator["subprocess.Popen[bytes]"]:
    process = subprocess.Popen([FAKE, "-i", "127.0.0.1", "-r", str(lost_per_thousand)])
    try:
        time.sleep(0.3)
        assert process.poll() is None, "another fake camera runs here"
        yield process
    finally:
        process.kill()
        process.wait()


def assert_genuine(frames: list[Frame]) -> None:
    """Each is the fake camera's slope of its number, at this exposure and gain, all 16 bits of it."""
    slope = np.add.outer(np.arange(HEIGHT), np.arange(WIDTH))
    for frame in frames:
        number = int(frame.image[0, 0]) * 256 % 65535
        np.testing.assert_array_equal(frame.image, (slope + number) * 256 % 65535)
    assert (np.diff([frame.index for frame in frames]) > 0).all()
    assert (np.diff([frame.time for frame in frames]) > 0).all()


@needs_aravis
def test_16_bits_of_a_gige_camera_are_the_same_levels_at_its_own_times() -> None:
    with fake_camera(), closing(open_source(f"gige://127.0.0.1?{SMALL}", live=QUICK)) as source:
        assert (source.name, source.frame_rate, source.live) == ("127-0-0-1", 50, True)
        frames = list(islice(source, 40))
    assert frames[0].image.dtype == np.uint16
    assert_genuine(frames)
    assert np.median(np.diff([frame.time for frame in frames])) == pytest.approx(1 / 50, abs=1e-3)
    assert (source.frames_failed, source.reconnects) == (0, 0)


@needs_aravis
def test_8_bits_of_a_gige_camera() -> None:
    uri = f"gige://127.0.0.1?{SMALL.replace('Mono16', 'Mono8')}"
    with fake_camera(), closing(open_source(uri, live=QUICK)) as source:
        (frame,) = islice(source, 1)
    assert frame.image.dtype == np.uint8
    slope = np.add.outer(np.arange(HEIGHT), np.arange(WIDTH))
    np.testing.assert_array_equal(frame.image, (slope + int(frame.image[0, 0])) % 255)


@needs_aravis
def test_frames_that_miss_packets_are_counted_and_never_passed_on(caplog: pytest.LogCaptureFixture) -> None:
    with fake_camera(lost_per_thousand=50), closing(open_source(f"gige://127.0.0.1?{SMALL}", live=QUICK)) as source:
        frames = list(islice(source, 60))
    assert_genuine(frames)
    assert source.frames_failed > 0
    assert frames[-1].index + 1 <= len(frames) + source.frames_failed  # the last ones came after the last frame
    assert any("is not whole: missing packets" in message for message in caplog.messages)


@needs_aravis
def test_a_killed_camera_that_comes_again_is_one_reconnect() -> None:
    with closing(open_source(f"gige://127.0.0.1?{SMALL}", live=QUICK)) as source:
        frames = iter(source)
        with fake_camera():
            before = list(islice(frames, 10))
        killed = time.monotonic()
        time.sleep(1.2)
        with fake_camera():
            later = [next(frame for frame in frames if source.reconnects)]
            gap = time.monotonic() - killed
            later.extend(islice(frames, 10))
    assert_genuine(before + later)
    assert source.reconnects == 1
    assert later[0].time - before[-1].time == pytest.approx(gap, abs=0.5)


@needs_aravis
@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ("exposure=99999999", "exposure=1e+08: it takes 10 to 1e+07"),
        ("gain=99", "gain=99: it takes 0 to 10"),
        ("format=Mono12", "'Mono12' not an entry"),
        ("region=0,0,9000,20", "9000x20 px are refused"),
    ],
)
def test_what_a_camera_does_not_take_is_said(asked: str, said: str, caplog: pytest.LogCaptureFixture) -> None:
    stop = Event()

    def stop_once_said() -> None:
        try:
            wait_until(lambda: said in caplog.text)
            time.sleep(0.5)  # it is not said again
        finally:
            stop.set()

    with fake_camera(), closing(open_source(f"gige://127.0.0.1?{asked}", live=QUICK, stop=stop)) as source:
        Thread(target=stop_once_said).start()
        assert list(source) == []
    assert said in caplog.text
    assert sum("no frames" in message for message in caplog.messages) == 1


def test_without_aravis_a_camera_is_refused_in_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("irst_pipeline.sources.camera.Aravis", None)
    with pytest.raises(UsageError, match=r"127\.0\.0\.1: cameras need Aravis"):
        open_source("gige://127.0.0.1")
