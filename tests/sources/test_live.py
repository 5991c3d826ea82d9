"""Live streams over real sockets, pipes and processes, which end, freeze, talk nonsense and come again."""

import io
import os
import resource
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Generator, Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager, suppress
from functools import partial
from http.server import BaseHTTPRequestHandler, SimpleHTTPRequestHandler, ThreadingHTTPServer
from itertools import islice, takewhile
from pathlib import Path
from threading import Event

import numpy as np
import pytest

from irst_pipeline.config import LiveSettings
from irst_pipeline.errors import IrstError
from irst_pipeline.sources import Position, Source, open_source, resume_source
from irst_pipeline.sources.base import Damage, FeedFrame
from irst_pipeline.sources.live import Clock, LiveStream
from irst_pipeline.types import Frame, Image
from tests.running import ROOT, forget_memory_peak, memory_peak, read_jsonl, report, shown, wait_for, wait_until
from tests.sources.cameras import BLOCKS, HEIGHT, WIDTH, jpegs_with_one_cut_short, paced, recorded, repacked, thermal
from tests.sources.servers import LEVELS, camera, datagrams, lossy_rtsp_camera, rtsp_camera, serving
from tools.streaming import LOSSLESS, RATE, free_port, transmit

pytestmark = pytest.mark.alone

QUICK = LiveSettings(open_seconds=2.0, read_seconds=0.5, retry_seconds=0.5)


def raw(images: Sequence[Image]) -> bytes:
    """As gray16le."""
    return b"".join(image.astype("<u2").tobytes() for image in images)


@contextmanager
def frames_of(uri: str) -> Iterator[tuple[Iterator[Frame], Source]]:
    source = open_source(uri, live=QUICK)
    with closing(source):
        yield iter(source), source


def test_of_interlaced_streams_one_field_is_used(caplog: pytest.LogCaptureFixture) -> None:
    images = [np.random.default_rng(index).integers(0, 256, (HEIGHT, WIDTH), np.uint8) for index in range(10)]
    sent = io.BytesIO()
    transmit(sent, images, "mpegts", "libx264", "gray", LOSSLESS | {"flags": "+ilme+ildct"})
    with serving([sent.getvalue()]) as uri, frames_of(uri) as (stream, _):
        frames = list(islice(stream, 9))
    for frame, image in zip(frames, images, strict=False):
        np.testing.assert_array_equal(frame.image[::2], image[::2])
        between = image[:-2:2].astype(float) / 2 + image[2::2] / 2
        np.testing.assert_allclose(frame.image[1:-1:2], between, atol=0.5)
    assert sum("interlaced" in message for message in caplog.messages) == 1


def assert_in_order(frames: Sequence[Frame]) -> None:
    assert (np.diff([frame.index for frame in frames]) > 0).all()
    assert (np.diff([frame.time for frame in frames]) > 0).all()


def assert_genuine(frames: Sequence[Frame], size: tuple[int, int] = (HEIGHT, WIDTH), bits: int = 14) -> None:
    """Each is one that the camera sent, bit for bit."""
    for frame in frames:
        np.testing.assert_array_equal(frame.image, thermal(int(frame.image[0, 0]), size, bits))


def test_14_bits_over_tcp_are_the_same_levels() -> None:
    with serving([recorded(LEVELS)]) as uri, frames_of(uri) as (stream, source):
        assert (source.live, source.frame_count) == (True, None)
        frames = list(islice(stream, 20))
    for frame, sent in zip(frames, LEVELS, strict=True):
        assert frame.image.dtype == np.uint16
        np.testing.assert_array_equal(frame.image, sent)
    assert [frame.index for frame in frames] == list(range(20))
    np.testing.assert_allclose([frame.time for frame in frames], np.arange(20) / RATE, atol=1e-3)
    assert (source.frames_failed, source.reconnects) == (0, 0)


def test_14_bits_over_http_are_the_same_levels(tmp_path: Path) -> None:
    (tmp_path / "ir").write_bytes(recorded(LEVELS))
    handler = partial(SimpleHTTPRequestHandler, directory=str(tmp_path))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        uri = f"http://user:secret@127.0.0.1:{server.server_port}/ir"
        with frames_of(uri) as (stream, source):
            frames = list(islice(stream, 20))
        server.shutdown()
    assert_genuine(frames)
    assert [int(frame.image[0, 0]) for frame in frames] == list(range(20))
    assert source.frames_failed == 0


def test_raw_14_bits_through_a_fifo_are_the_same_levels_and_its_next_writer_is_a_reconnect(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    fifo = tmp_path / "y16"
    os.mkfifo(fifo)

    def write() -> None:
        fifo.write_bytes(raw(LEVELS[:10]))
        wait_until(lambda: "no frames" in caplog.text, "the first writer's end is noticed")
        time.sleep(0.6)
        fifo.write_bytes(raw(LEVELS[10:]))

    writer = threading.Thread(target=write, daemon=True)
    writer.start()
    with frames_of(f"fifo://{fifo}?format=gray16le&size={WIDTH}x{HEIGHT}&fps=50") as (stream, source):
        assert source.frame_rate == 50
        frames = list(islice(stream, 20))
        writer.join()
    for frame, sent in zip(frames, LEVELS, strict=True):
        np.testing.assert_array_equal(frame.image, sent)
    assert_in_order(frames)
    assert source.reconnects == 1
    assert 0.3 < frames[10].time - frames[9].time < 3


def test_a_fifo_is_read_by_a_process_that_has_very_many_files_open(tmp_path: Path) -> None:
    if resource.getrlimit(resource.RLIMIT_NOFILE)[0] < 1200:
        pytest.skip("NOT TESTED: very many files; this machine allows fewer")
    os.mkfifo(fifo := tmp_path / "y16")
    with ExitStack() as opened:
        for _ in range(1100):
            opened.enter_context(Path(os.devnull).open())
        writer = threading.Thread(target=lambda: fifo.write_bytes(raw(LEVELS)))
        writer.start()
        with frames_of(f"fifo://{fifo}?format=gray16le&size={WIDTH}x{HEIGHT}&fps=50") as (stream, _):
            frames = list(islice(stream, 20))
        writer.join()
    for frame, sent in zip(frames, LEVELS, strict=True):
        np.testing.assert_array_equal(frame.image, sent)


def test_12_bit_hevc_in_udp_is_the_same_levels() -> None:
    uri = f"udp://127.0.0.1:{free_port(socket.SOCK_DGRAM)}"
    done = Event()
    images = takewhile(lambda _: not done.is_set(), paced(BLOCKS, 12))
    sent_as = f"{uri}?pkt_size=1316", images, "mpegts", "libx265", "gray12le", LOSSLESS
    sender = threading.Thread(target=transmit, args=sent_as)
    sender.start()
    try:
        with closing(open_source(uri)) as source:
            began = time.time()
            frames = list(islice(source, 10))
    finally:
        done.set()
        sender.join()
    came = [frame.utc or 0.0 for frame in frames]
    moments = [began, *came, time.time()]
    assert moments == sorted(moments)
    assert_genuine(frames, BLOCKS, 12)
    assert_in_order(frames)


def test_12_bits_pushed_by_rtsp_are_the_same_levels_and_the_next_push_is_a_reconnect() -> None:
    address = f"rtsp://127.0.0.1:{free_port()}/live"
    with closing(open_source(f"{address}?listen")) as source:
        assert source.name.endswith("-live")
        stream = iter(source)
        with camera(address):
            frames = list(islice(stream, 10))
        with camera(address):
            frames.extend(takewhile(lambda _: not source.reconnects, stream))
            frames.extend(islice(stream, 10))
    assert_genuine(frames, BLOCKS, 12)
    assert_in_order(frames)
    assert source.reconnects == 1


@pytest.mark.parametrize("codec", ["libx264", "libx265"])
def test_of_a_stream_that_loses_packets_only_frames_as_they_were_sent_are_passed_on(codec: str) -> None:
    noise = np.random.default_rng(5)
    images = [(thermal(number, BLOCKS) >> 6).astype(np.uint8) for number in range(200)]
    out = io.BytesIO()
    fast = {
        "preset": "ultrafast",
        "tune": "zerolatency",
        "g": "10",
        "crf": "35",
        "x265-params": "log-level=none:pools=1",
    }
    transmit(out, images, "mpegts", codec, "gray", fast)
    sent = out.getvalue()
    datagrams = [sent[start : start + 1316] for start in range(0, len(sent), 1316)]
    lossy = b"".join(data for number, data in enumerate(datagrams) if number < 3 or noise.random() > 0.01)
    with serving([sent, lossy, sent]) as uri, frames_of(uri) as (stream, source):
        whole = [next(stream).image.tobytes() for _ in images]
        frames = list(takewhile(lambda _: source.reconnects < 2, stream))
        assert {frame.image.tobytes() for frame in frames} <= set(whole)
        assert_in_order(frames)
        assert source.frames_failed > 5
        assert len(frames) > 10


def without_frame_7(codec: str, bits: int, malformed: bytes) -> bytes:
    """20 frames, a key frame each 5, less one; `malformed` stands before each."""
    images = [thermal(number, BLOCKS, bits) for number in range(20)]
    return repacked(
        images, "nut", codec, f"gray{bits}le", lambda number, frame: b"" if number == 7 else malformed + frame, LOSSLESS
    )


@pytest.mark.parametrize(
    ("codec", "bits", "malformed"),  # SEI, which is none of a picture's matters
    [("libx265", 12, b"\0\0\0\1\x4e\1\5\x08too short"), ("libx264", 10, b"\0\0\0\1\6\5\x08too short")],
)
def test_frames_that_are_predicted_from_one_that_was_lost_whole_are_counted(
    codec: str, bits: int, malformed: bytes
) -> None:
    with serving([without_frame_7(codec, bits, malformed)]) as uri, frames_of(uri) as (frames, source):
        found = list(islice(frames, 12))
        assert source.frames_failed == 2
    assert_genuine(found, BLOCKS, bits)
    assert [int(frame.image[0, 0]) for frame in found] == [*range(7), *range(10, 15)]
    assert [frame.index for frame in found] == [*range(7), *range(9, 14)]


def test_of_a_jpeg_that_is_cut_short_nothing_is_made_up() -> None:
    with serving([jpegs_with_one_cut_short("nut")]) as uri, frames_of(uri) as (frames, source):
        found = list(islice(frames, 18))
        wait_until(lambda: source.frames_failed == 2, "the last one counts too, for nothing says that it is whole")
    assert [frame.index for frame in found] == [*range(7), *range(8, 19)]


@pytest.mark.parametrize(
    ("coding", "codec", "bits", "lost"),
    [
        ("H264", "libx264", 10, {400, 401, 555}),
        ("H265", "libx265", 12, {400, 401, 555}),
        ("H264", "libx264", 10, {7, 25, 50}),  # while FFmpeg finds out what comes
        ("H265", "libx265", 12, {7, 25, 50}),
    ],
)
def test_no_frame_that_lost_a_datagram_is_passed_on(coding: str, codec: str, bits: int, lost: set[int]) -> None:
    images = [thermal(number, BLOCKS, bits) for number in range(40)]  # a key frame each 5
    sent = datagrams(images, codec, f"gray{bits}le")
    assert len(sent) > 15 * len(images)
    with lossy_rtsp_camera(coding, sent, lost) as uri, closing(open_source(uri, live=QUICK)) as source:
        frames = list(takewhile(lambda frame: frame.image[0, 0] < 38, source))
        assert source.frames_failed > 0
    assert_genuine(frames, BLOCKS, bits)
    assert_in_order(frames)
    assert len(frames) > 10


def test_a_stream_that_is_gone_on_with_counts_and_names_its_frames_on(caplog: pytest.LogCaptureFixture) -> None:
    before = Position(frame=99, time=50.0, clock=time.time() - 5, frames_failed=3, reconnects=2, checksum=0)
    with serving([without_frame_7("libx264", 10, b"")]) as uri, frames_of(uri) as (_, source):
        frames = list(islice(resume_source(source, before, Event(), None), 12))
        assert (source.frames_failed, source.reconnects) == (5, 2)
    assert [frame.index for frame in frames] == [*range(100, 107), *range(109, 114)]
    assert frames[0].time == pytest.approx(55, abs=1)
    assert_in_order(frames)
    assert "frame 107 " in caplog.text


def test_a_stream_that_is_gone_on_with_after_the_machines_clock_was_set_back_keeps_its_own_times() -> None:
    before = Position(frame=99, time=50.0, clock=time.time() + 1e6, frames_failed=0, reconnects=0, checksum=0)
    out = io.BytesIO()
    transmit(out, LEVELS, container="nut", codec="ffv1", pixels="gray16le")
    with serving([out.getvalue()]) as uri, frames_of(uri) as (_, source):
        times = [frame.time for frame in islice(resume_source(source, before, Event(), None), 10)]
    assert times[0] == pytest.approx(50, abs=1)
    np.testing.assert_allclose(np.diff(times), 1 / RATE, atol=2e-3)


@pytest.mark.parametrize(
    ("container", "codec", "pixels", "damaged"),
    [
        ("mpegts", "libx265", "gray12le", True),
        ("nut", "libx265", "gray12le", True),
        ("nut", "mjpeg", "yuvj444p", True),
        ("nut", "libx264", "gray10le", True),
        ("matroska", "libx265", "gray12le", False),  # FFmpeg passes on whole blocks only
    ],
)
def test_of_a_stream_that_is_cut_off_in_mid_frame_only_frames_as_they_were_sent_are_passed_on(
    container: str, codec: str, pixels: str, damaged: bool, tmp_path: Path
) -> None:
    images: list[Image] = [thermal(number, BLOCKS, 12) for number in range(8)]
    if pixels == "gray10le":
        images = [(image >> 2).astype(np.uint16) for image in images]
    if pixels == "yuvj444p":
        images = [np.stack([(image >> 4).astype(np.uint8)] * 3) for image in images]
    out = io.BytesIO()
    transmit(out, images, container, codec, pixels, LOSSLESS if codec == "libx265" else {"preset": "ultrafast"})
    sent = out.getvalue()
    recording = tmp_path / f"recording.{container}"
    recording.write_bytes(sent)
    with closing(open_source(str(recording))) as file:
        whole = {frame.image.tobytes() for frame in file}
    cut = [sent[: int(part * len(sent))] for part in (0.41, 0.57, 0.68, 0.93)]
    with serving([*cut, sent]) as uri, frames_of(uri) as (stream, source):
        frames = list(takewhile(lambda _: source.reconnects < len(cut), stream))
    assert len(whole) == len(images)
    assert {frame.image.tobytes() for frame in frames} <= whole
    assert len(frames) > 8
    assert_in_order(frames)
    assert (source.frames_failed >= len(cut)) == damaged


def test_a_killed_camera_that_comes_again_is_one_reconnect_after_a_gap_of_its_length(
    caplog: pytest.LogCaptureFixture,
) -> None:
    port = free_port()
    with frames_of(f"tcp://127.0.0.1:{port}") as (stream, source):
        with camera(port):
            frames = list(islice(stream, 10))
        killed = time.monotonic()
        time.sleep(0.7)
        with camera(port):
            frames.extend(takewhile(lambda frame: frame.image[0, 0] > 0, stream))  # sent before the kill, read after
            gap = time.monotonic() - killed
            last = frames[-1].time
            frames.extend(islice(stream, 10))
            losses = sum("no frames" in message for message in caplog.messages)
        assert losses <= 2  # it was not there yet at first, perhaps
        assert_genuine(frames)
        assert_in_order(frames)
        assert source.reconnects == 1
        assert frames[-10].time - 1 / RATE - last == pytest.approx(gap, abs=0.4)


def test_a_frozen_camera_is_lost_within_the_read_timeout() -> None:
    port = free_port()
    with camera(port) as process, frames_of(f"tcp://127.0.0.1:{port}") as (stream, source):
        first = list(islice(stream, 5))
        process.send_signal(signal.SIGSTOP)
        threading.Timer(1.2, process.send_signal, [signal.SIGCONT]).start()
        later = list(islice(stream, 40))
        assert_genuine(first + later)
        assert_in_order(first + later)
        assert source.reconnects == 1


@pytest.mark.parametrize("answer", [b"", recorded(LEVELS)[: len(recorded(LEVELS)) // 2]], ids=["mute", "half"])
def test_a_server_that_falls_silent_is_asked_again(answer: bytes, caplog: pytest.LogCaptureFixture) -> None:
    whole = recorded(LEVELS)
    with serving([answer, whole], hold=True) as uri, frames_of(uri) as (stream, source):
        frames = list(islice(stream, 12 if answer else 5))
        assert_genuine(frames)
        assert_in_order(frames)
        assert source.reconnects == (1 if answer else 0)
    assert sum("no frames" in message for message in caplog.messages) == 1


def test_a_camera_that_answers_and_sends_nothing_is_asked_again_soon_once_it_has_sent_frames() -> None:
    settings = LiveSettings(open_seconds=30.0, read_seconds=0.5)
    with rtsp_camera([(1.5, 10), (0, 0), (0, 20)]) as (uri, asked), closing(open_source(uri, live=settings)) as source:
        frames = list(islice(source, 20))
        assert len(asked) == 3  # it was slow at first, and waited for
        assert asked[2] - asked[1] < 10
        assert source.reconnects == 1
    assert_in_order(frames)


def test_nonsense_never_ends_the_stream_and_is_never_a_frame() -> None:
    noise = np.random.default_rng(5)
    whole = recorded(LEVELS)
    spoilt = bytearray(recorded(LEVELS, "matroska", "ffv1"))
    for place in noise.integers(600, len(spoilt), 40):
        spoilt[place] ^= 0xFF
    answers = [noise.bytes(100_000), whole[:5000], b"HTTP/1.1 404 Not Found\r\n\r\n", bytes(spoilt), whole]
    with serving(answers) as uri, frames_of(uri) as (stream, source):
        frames = []
        for frame in stream:
            frames.append(frame)
            if len(frames) > 20 and frame.image[0, 0] == 19 and (frames[-20].image == LEVELS[0]).all():
                break
        assert_in_order(frames)
        assert_genuine(frames[-20:])
        assert all(frame.image.shape == (HEIGHT, WIDTH) for frame in frames)
        assert source.reconnects >= 1


def test_a_text_is_never_drawn_as_a_frame(tmp_path: Path) -> None:
    (tmp_path / "ir.txt").write_text(100 * "The camera is busy.\n")
    handler = partial(SimpleHTTPRequestHandler, directory=str(tmp_path))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        uri, settings = f"http://127.0.0.1:{server.server_port}/ir.txt", LiveSettings(give_up_seconds=0.5)
        with closing(open_source(uri, live=settings)) as source, pytest.raises(IrstError, match="text, not a video"):
            next(iter(source))
        server.shutdown()


def test_a_new_size_and_depth_after_a_reconnect_are_taken_up(caplog: pytest.LogCaptureFixture) -> None:
    large = [thermal(number, (80, 100)) for number in range(5)]
    with serving([recorded(LEVELS[:5]), recorded(large)]) as uri, frames_of(uri) as (stream, source):
        frames = list(islice(stream, 10))
    assert [frame.image.shape for frame in frames] == 5 * [(HEIGHT, WIDTH)] + 5 * [(80, 100)]
    assert_in_order(frames)
    assert source.frames_failed == 0
    assert any("100x80 uint16 now, they were 64x48 uint16" in message for message in caplog.messages)


def test_whoever_sends_ever_new_sizes_does_not_fill_the_memory(caplog: pytest.LogCaptureFixture) -> None:
    sizes = [(HEIGHT, WIDTH + number) for number in range(18)]
    each = [recorded([thermal(number, size)]) for number, size in enumerate(sizes)]
    with serving([*each, recorded(LEVELS[:3])]) as uri, frames_of(uri) as (stream, source):
        frames = list(islice(stream, 19))
    assert [frame.image.shape for frame in frames] == [*sizes[:16], *3 * [(HEIGHT, WIDTH)]]
    assert_in_order(frames)
    assert source.frames_failed == 2
    assert any("frame 16 is 80x48 after frames of 16 other sizes" in message for message in caplog.messages)


@pytest.mark.parametrize("size", ["W100000 H100000", "W20000 H10000", "W30000 H64"])
def test_frames_too_large_are_refused_before_they_take_memory(size: str, caplog: pytest.LogCaptureFixture) -> None:
    header = f"YUV4MPEG2 {size} F25:1 Cmono16\nFRAME\n".encode()
    forget_memory_peak()
    before = memory_peak()
    with serving([header + bytes(4_000_000), recorded(LEVELS)]) as uri, frames_of(uri) as (stream, _):
        assert_genuine([next(stream)])
    assert memory_peak() - before < 100_000  # kB
    assert sum("no frames" in message for message in caplog.messages) == 1


def test_a_frame_too_small_for_any_network_does_not_end_the_stream(caplog: pytest.LogCaptureFixture) -> None:
    tiny = [np.full((8, 8), 7, np.uint16)] * 5
    with serving([recorded(tiny), recorded(LEVELS)]) as uri, frames_of(uri) as (stream, _):
        assert_genuine(list(islice(stream, 20)))
    assert "frames of 8x8 px are refused; 16 to 8192 px a side are taken" in caplog.text


CLAIMS = """
import sys, threading
from pathlib import Path
from irst_pipeline.config import LiveSettings
from irst_pipeline.sources import open_source
source = open_source(sys.argv[1], live=LiveSettings(open_seconds=10, read_seconds=10))
threading.Timer(6, source.close).start()
assert not list(source)
peak = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM"))
print(int(peak.split()[1]) // 1024)
"""


class Endless(BaseHTTPRequestHandler):
    """A part of a motion JPEG that claims two gigabytes, and sends zeros for as long as anyone listens."""

    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "multipart/x-mixed-replace; boundary=part")
        self.end_headers()
        self.wfile.write(b"--part\r\nContent-Type: image/jpeg\r\nContent-Length: 2000000000\r\n\r\n")
        with suppress(OSError):
            while True:
                self.wfile.write(bytes(1 << 20))


def test_a_packet_that_claims_gigabytes_does_not_take_them() -> None:
    with ThreadingHTTPServer(("127.0.0.1", 0), Endless) as server:
        server.daemon_threads = True
        threading.Thread(target=server.serve_forever, daemon=True).start()
        uri = f"http://127.0.0.1:{server.server_port}/v"
        ran = subprocess.run(
            [sys.executable, "-c", CLAIMS, uri], cwd=ROOT, capture_output=True, text=True, check=False, timeout=60
        )
        server.shutdown()
    assert ran.returncode == 0, ran.stderr
    assert int(ran.stdout) < 700, ran.stderr  # MB


def test_a_source_that_stays_away_is_given_up_where_that_is_asked_for() -> None:
    settings = LiveSettings(open_seconds=2.0, retry_seconds=0.2, give_up_seconds=1.0)
    with serving([recorded(LEVELS), b""]) as uri, closing(open_source(uri, live=settings)) as source:
        frames: list[Frame] = []
        begun = time.monotonic()
        with pytest.raises(IrstError, match=r"no frames for 1 s \(.*\); given up, as live.give_up_seconds says"):
            frames.extend(source)
        assert len(frames) == 20
        assert 1 < time.monotonic() - begun < 15


def test_a_source_that_says_nothing_is_given_up_after_the_time_set() -> None:
    """However much longer a connection may take to begin."""
    settings = LiveSettings(open_seconds=30.0, give_up_seconds=1.0)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        uri = f"tcp://127.0.0.1:{silent.getsockname()[1]}"
        begun = time.monotonic()
        with closing(open_source(uri, live=settings)) as source, pytest.raises(IrstError, match="given up"):
            next(iter(source))
        assert 1 < time.monotonic() - begun < 15


@pytest.mark.parametrize("frames", [0, 5])
def test_a_fifo_that_stays_silent_is_given_up_where_that_is_asked_for(frames: int, tmp_path: Path) -> None:
    os.mkfifo(fifo := tmp_path / "y16")
    settings = LiveSettings(give_up_seconds=1.0)
    uri = f"fifo://{fifo}?format=gray16le&size={WIDTH}x{HEIGHT}&fps=50"
    with ExitStack() as opened, closing(open_source(uri, live=settings)) as source:
        stream = iter(source)
        if frames:
            begin = threading.Thread(target=lambda: opened.enter_context(fifo.open("wb", 0)).write(raw(LEVELS[:5])))
            begin.start()
            assert_genuine(list(islice(stream, frames)))
            begin.join()
        late = threading.Timer(10, source.close)
        late.start()
        opened.callback(late.cancel)
        with pytest.raises(IrstError, match=r"no frames for 1 s \(nothing came in time\); given up"):
            next(stream)


@pytest.mark.parametrize("answer", [None, b""], ids=["refused", "mute"])
def test_stop_ends_the_waiting_at_once(answer: bytes | None) -> None:
    stop = Event()
    with serving([b""], hold=True) as mute:
        uri = mute if answer is not None else f"tcp://127.0.0.1:{free_port()}"
        with closing(open_source(uri, stop=stop)) as source:
            threading.Timer(0.5, stop.set).start()
            begun = time.monotonic()
            assert list(source) == []
            assert time.monotonic() - begun < 4


def test_times_follow_the_time_stamps_where_these_are_sane_and_else_the_wall_clock() -> None:
    clock = Clock()
    came = np.arange(8) * 0.04
    # a repeat, a step back, none, a jump by an hour
    stamps = [7.0, 7.04, 7.04, 7.0, None, 7.16, 3607.2, 3607.24]
    times = [clock(stamp, now) for stamp, now in zip(stamps, 100 + came, strict=True)]
    np.testing.assert_allclose(times, came, atol=1e-9)
    clock.connected()
    assert clock(0.0, 105.28) == pytest.approx(5.28)  # after a loss of 5 s
    assert clock(2.0, 107.28) == pytest.approx(7.28)  # a pause that time stamps and wall clock both tell
    assert clock(2.04, 107.28) == pytest.approx(7.32)  # two frames at once
    assert clock(2.04, 107.28) == pytest.approx(7.321)  # which say the same time


@pytest.mark.parametrize("step", [0.45, 0.001], ids=["too fast", "too slow"])
def test_time_stamps_of_another_scale_do_not_lead_away_from_the_wall_clock(step: float) -> None:
    clock = Clock()
    times = np.array([clock(step * i, 0.04 * i) for i in range(5000)])
    assert abs(times[-1] - 4999 * 0.04) < 35
    assert (np.diff(times) > 0).all()


@pytest.mark.parametrize("resumed", [False, True])
def test_a_step_of_seconds_is_taken_from_time_stamps_that_are_not_ahead_of_the_wall_clock(resumed: bool) -> None:
    clock = Clock()
    if resumed:
        clock.go_on_from(7.0, 1000.0)
    begun = clock(3.0, 1000.5)
    assert clock(6.0, 1003.6) == pytest.approx(begun + 3.0), "after a pause"
    assert clock(9.0, 1003.7) == pytest.approx(begun + 3.1), "ahead"


def test_time_stamps_of_a_new_connection_have_nothing_to_do_with_those_before() -> None:
    clock = Clock()
    clock(3.0, 1000.0)
    clock.connected()
    assert clock(3.5, 1005.0) == pytest.approx(5.0)


def test_a_camera_whose_clock_is_a_little_off_keeps_its_even_times_for_days() -> None:
    clock = Clock()
    times = np.array([clock(0.04 * (1 + 1e-4) * i, 0.04 * i) for i in range(0, 10**6, 10)])
    np.testing.assert_allclose(np.diff(times), 0.4 * (1 + 1e-4), rtol=1e-6)


def command(*arguments: object) -> list[str]:
    quiet = "--no-video", "--device", "cpu"
    return [sys.executable, "-m", "irst_pipeline.cli", "run", *map(str, arguments), *quiet]


def said_until(process: "subprocess.Popen[str]", words: str) -> list[str]:
    """The lines of a process on standard error up to the first that holds the words."""
    assert process.stderr is not None
    lines = []
    for line in process.stderr:
        lines.append(line)
        if words in line:
            break
    return lines


def test_raw_frames_on_standard_input_are_tracked_to_their_end(tmp_path: Path) -> None:
    uri = f"stdin://?format=gray16le&size={WIDTH}x{HEIGHT}&fps=25"
    sent = b"".join(image.tobytes() for image in LEVELS)
    ran = subprocess.run(
        command(uri, "--out", tmp_path / "out"), cwd=ROOT, input=sent + sent[:99], capture_output=True, check=False
    )
    assert ran.returncode == 0, ran.stderr
    counted = report(tmp_path / "out")
    assert (counted["outcome"], counted["source"], counted["uri"]) == ("complete", "stdin", uri)
    assert (counted["frames_read"], counted["frames_failed"], counted["reconnects"]) == (20, 1, 0)
    told = b"starting; a recording is waited for where it is given as a file" in ran.stdout
    assert told == (counted["frames_dropped"] > counted["frames_processed"])


def test_standard_input_that_cannot_be_gone_on_with_is_told_also_after_frames(tmp_path: Path) -> None:
    sent = io.BytesIO()
    for size in ((48, 64), (32, 8320), (48, 64)):
        part = io.BytesIO()
        transmit(part, [np.full(size, 90, np.uint8)] * 12, "mpegts", "libx264", "gray", {"tune": "zerolatency"})
        sent.write(part.getvalue())
    ran = subprocess.run(
        command("-", "--out", tmp_path / "out"), cwd=ROOT, input=sent.getvalue(), capture_output=True, check=False
    )
    assert ran.returncode == 1
    assert ran.stderr.decode().splitlines()[-1].startswith("irst: error: stdin: frames of 8320x32 px are refused")
    counted = report(tmp_path / "out")
    assert counted["outcome"].startswith("failed: stdin: frames of 8320x32")
    assert counted["frames_processed"] > 0


def test_a_playlist_in_a_pipe_opens_no_file_of_this_machine(tmp_path: Path) -> None:
    (tmp_path / "private.nut").write_bytes(recorded(LEVELS))
    ran = subprocess.run(
        command("-", "--out", "out"),
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        input=b"ffconcat version 1.0\nfile private.nut\n",
        capture_output=True,
        check=False,
    )
    assert ran.returncode == 1
    assert b"not one frame could be read" in ran.stderr
    assert b"send NUT, Matroska or MPEG-TS" in ran.stderr


def test_a_run_on_a_dead_camera_ends_in_order_and_shows_no_password(tmp_path: Path) -> None:
    uri = f"tcp://admin:s3cret@127.0.0.1:{free_port()}/live?token=s3cret"
    process = subprocess.Popen(
        [*command(uri), "--config", ROOT / "configs" / "default.yaml"],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    lines = said_until(process, "no frames (Connection refused)")
    process.send_signal(signal.SIGTERM)
    asked = time.monotonic()
    out, error = process.communicate(timeout=20)
    assert time.monotonic() - asked < 5
    assert process.returncode == 0
    (folder,) = (tmp_path / "runs").iterdir()
    counted = report(folder)
    assert (counted["outcome"], counted["frames_read"]) == ("interrupted", 0)
    assert "\nlatency  unknown\n" in out
    assert counted["uri"].startswith("tcp://***@127.0.0.1")
    names = [str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*")]
    written = [path.read_text() for path in tmp_path.rglob("*") if path.is_file()]
    for text in (out, error, *lines, *names, *written):
        assert "s3cret" not in text
        assert "admin" not in text


def test_a_run_goes_on_over_losses_and_other_sizes_until_it_is_stopped(tmp_path: Path) -> None:
    large = recorded([thermal(number, (80, 100)) for number in range(20)])
    with serving([recorded(LEVELS), large]) as uri:
        arguments = [*command(uri, "--out", tmp_path / "out")]
        arguments.remove("--no-video")
        process = subprocess.Popen(arguments, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        assert process.stderr is not None
        again = (line for line in process.stderr if "frames come again" in line)
        for _ in range(3):
            next(again)
        wait_for(tmp_path / "out" / "checkpoint.safetensors", 0)  # a frame is through, for the network is ready
        process.send_signal(signal.SIGINT)
        out, _ = process.communicate(timeout=20)
    assert process.returncode == 0
    counted = report(tmp_path / "out")
    assert counted["outcome"] == "interrupted"
    assert counted["reconnects"] >= 3
    assert f"{counted['reconnects']} reconnects" in out
    written = read_jsonl(tmp_path / "out" / "tracks.jsonl")
    assert written[0]["uri"] == uri
    assert shown(tmp_path / "out" / "annotated.mp4") == counted["frames_read"] - counted["frames_dropped"] > 0


def test_two_streams_of_one_host_are_told_apart_in_all_that_is_said_of_them(tmp_path: Path) -> None:
    with serving([recorded(LEVELS), recorded(LEVELS), b""]) as uri:
        ran = command(uri, f"{uri}?second", "--set", "live.give_up_seconds=1", "--out", tmp_path / "out")
        found = subprocess.run(ran, cwd=ROOT, capture_output=True, text=True, check=False, timeout=60)
    name = uri.removeprefix("tcp://").replace(".", "-").replace(":", "-")
    assert found.returncode == 1
    for own in (name, f"{name}-2"):
        assert report(tmp_path / "out" / own)["source"] == own
        assert f"irst: {own}: no frames" in found.stderr
        assert f"irst: error: {own}: no frames for 1 s" in found.stderr


def test_frames_that_the_camera_model_is_not_for_do_not_end_a_run_that_had_others(tmp_path: Path) -> None:
    model = tmp_path / "camera.yaml"
    model.write_text(f"width_px: {WIDTH}\nheight_px: {HEIGHT}\nhorizontal_fov_deg: 12\n")
    large = recorded([thermal(number, (80, 100)) for number in range(20)])
    with serving([recorded(LEVELS), large, recorded(LEVELS)]) as uri:
        ran = command(uri, "--camera", model, "--out", tmp_path / "out")
        process = subprocess.Popen(ran, cwd=ROOT, stderr=subprocess.PIPE, text=True)
        said = said_until(process, "frames are 64x48 uint16 now, they were 100x80 uint16")
        said_until(process, "frames come again")  # by then all frames of the connection before have been read
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=20)
    assert process.returncode == 0
    assert "frame 20: frames of 100x80 px, but the camera model is for 64x48 px" in "".join(said)
    counted = report(tmp_path / "out")
    assert counted["outcome"] == "interrupted"
    assert counted["frames_failed"] == 20
    assert counted["frames_read"] == counted["frames_processed"] + counted["frames_dropped"] > 20


def test_a_run_that_fails_ends_while_its_camera_is_silent(tmp_path: Path) -> None:
    fifo, model = tmp_path / "y16", tmp_path / "camera.yaml"
    os.mkfifo(fifo)
    model.write_text("width_px: 256\nheight_px: 192\nhorizontal_fov_deg: 12\n")
    uri = f"fifo://{fifo}?format=gray16le&size={WIDTH}x{HEIGHT}&fps=25"
    ran = command(uri, "--camera", model, "--out", tmp_path / "out")
    with subprocess.Popen(ran, cwd=ROOT, stderr=subprocess.PIPE, text=True) as process, fifo.open("wb") as writer:
        writer.write(LEVELS[0].tobytes())
        writer.flush()
        _, error = process.communicate(timeout=60)
    assert process.returncode == 2
    assert error.startswith(f"irst: error: y16: frames of {WIDTH}x{HEIGHT} px, but the camera model is for 256x192 px")
    assert report(tmp_path / "out")["outcome"].startswith("failed: ")


class DamagedFeed:
    """A camera that sends one whole frame, and then none."""

    name, frame_rate, reopens = "camera", None, True

    def connect(self, _settings: LiveSettings, ended: Event) -> Generator[FeedFrame | Damage | None]:
        yield FeedFrame(np.zeros((32, 32), np.uint8), 0.0, time.perf_counter())
        while not ended.wait(0.05):
            yield Damage("is damaged")


def test_a_camera_of_which_no_whole_frame_comes_is_given_up_in_time() -> None:
    source, begun = LiveStream(DamagedFeed(), 30.0, LiveSettings(give_up_seconds=1.0), Event()), time.perf_counter()
    with closing(source), pytest.raises(IrstError, match=r"no frames for 1 s \(it sends, but no pictures\); given"):
        list(source)
    assert 1 < time.perf_counter() - begun < 4
