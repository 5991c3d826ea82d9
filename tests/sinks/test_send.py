"""What is sent while a run lasts reaches whoever listens, and holds nobody up where it does not."""

import json
import re
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from itertools import islice
from pathlib import Path
from threading import Thread
from typing import Any

import av
import numpy as np
import pytest

from irst_pipeline.cli import main
from irst_pipeline.config import SendSettings, VideoSettings
from irst_pipeline.errors import IrstError, UsageError
from irst_pipeline.settings import validate
from irst_pipeline.sinks import Sink, open_senders, open_sinks
from irst_pipeline.sinks.annotate import Annotator
from irst_pipeline.sinks.send import VIDEO_BYTES, SentVideo
from irst_pipeline.sources import open_source
from irst_pipeline.types import Frame, FrameResult, TrackEvent
from tests.running import HORIZON, ROOT, program_of_readme, read_jsonl, report, wait_until, write_video
from tests.sinks.sink_streams import RATE, header, result, tracks
from tools.streaming import free_port


class Listener:
    """A socket on loopback, and what has come there."""

    def __init__(self) -> None:
        self.socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 24)
        self.socket.bind(("127.0.0.1", 0))
        self.socket.settimeout(0.5)
        self.port: int = self.socket.getsockname()[1]
        self.address = f"udp://127.0.0.1:{self.port}"

    def datagrams(self) -> list[bytes]:
        """All, until none comes for half a second."""
        found = []
        try:
            while True:
                found.append(self.socket.recv(1 << 16))
        except TimeoutError:
            return found

    def close(self) -> None:
        self.socket.close()


@pytest.fixture
def listener() -> Iterator[Listener]:
    with closing(Listener()) as listener:
        yield listener


@contextmanager
def sender(**send: str) -> Iterator[Sink[FrameResult]]:
    (sink,) = open_senders(header(send=SendSettings(**send))).values()
    with closing(sink):
        yield sink


def records(datagram: bytes) -> list[dict[str, Any]]:
    return [json.loads(line) for line in datagram.splitlines()]


def test_each_frame_is_a_datagram_with_what_the_log_has_of_it(tmp_path: Path, listener: Listener) -> None:
    dropped_one = TrackEvent("dropped", 2, 1, 1 / 30)
    results = [result(0, tracks([5, 40], [6, 30])), result(1, events=(dropped_one,)), result(2)]
    (log,) = open_sinks(["tracks_jsonl"], tmp_path, header()).values()
    with closing(log), sender(tracks=listener.address) as sink:
        for each in results:
            log.write(each)
            sink.write(each)
    found = [records(datagram) for datagram in listener.datagrams()]
    assert [[record["record"] for record in frame] for frame in found] == [
        ["frame", "track", "track"],
        ["frame", "event"],
        ["frame"],
    ]
    first = {"record": "frame", "schema": "irst.tracks/1", "source": "clip", "frame": 1, "time": 0.033333}
    assert found[1][0] == first | {"utc": None, "width": 80, "height": 64}
    assert [record for frame in found for record in frame[1:]] == read_jsonl(tmp_path / "tracks.jsonl")[1:]


def test_many_tracks_are_several_datagrams_that_each_say_their_frame(listener: Listener) -> None:
    shown = tracks(range(300), range(300))
    with sender(tracks=listener.address) as sink:
        sink.write(result(7, shown))
    datagrams = listener.datagrams()
    assert len(datagrams) > 50
    assert max(map(len, datagrams)) <= 1472  # what an Ethernet carries whole
    found = [records(datagram) for datagram in datagrams]
    assert all((lines[0]["record"], lines[0]["frame"]) == ("frame", 7) for lines in found)
    assert [record["id"] for lines in found for record in lines[1:]] == shown.id.tolist()


def test_of_a_camera_it_says_when_the_frame_came(listener: Listener) -> None:
    with sender(tracks=listener.address) as sink:
        sink.write(result(0, utc=1764471600.25))
    ((frame,),) = map(records, listener.datagrams())
    assert frame["utc"] == "2025-11-30T03:00:00.250+00:00"


def test_no_listener_is_needed(listener: Listener) -> None:
    address = listener.address
    listener.close()
    with sender(tracks=address) as sink:
        for index in range(20):
            sink.write(result(index))
    assert sink.missed == 0


def alone(namespace: str) -> list[str]:
    """What a command is to begin with, to run in a namespace of its own."""
    command = ["unshare", "--map-root-user", namespace]
    there = shutil.which("unshare") is not None
    if not there or subprocess.run([*command, "true"], capture_output=True, check=False).returncode:
        pytest.skip(f"NOT TESTED: what is sent in a namespace of its own; `{' '.join(command)}` cannot be run here")
    return command


WITHOUT_NETWORK = """
import fcntl, logging, socket, struct, sys
from irst_pipeline.config import SendSettings, VideoSettings
from irst_pipeline.sinks import open_senders
from tests.sinks.sink_streams import RATE, header, result, tracks

logging.basicConfig(format="%(message)s")
listener = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
listener.bind(("127.0.0.1", 0))
listener.settimeout(5)
send = {sys.argv[1]: f"udp://127.0.0.1:{listener.getsockname()[1]}"}
(sink,) = open_senders(header(send=SendSettings(**send))).values()
for index in range(3):
    sink.write(result(index))
print(sink.missed)
fcntl.ioctl(listener, 0x8914, struct.pack("16sh14x", b"lo", 1))  # SIOCSIFFLAGS, IFF_UP
for index in range(2):
    sink.write(result(index))
print(sink.missed, len(listener.recv(2048)) > 100)
"""


@pytest.mark.parametrize("what", ["tracks", "video"])
def test_where_there_is_no_network_frames_are_counted_and_it_is_said_once(what: str) -> None:
    """In a network of its own, of which even the loopback is down at first."""
    command = [*alone("--net"), sys.executable, "-c", WITHOUT_NETWORK, what]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.splitlines() == ["3", "3 True"]
    lost, back = done.stderr.splitlines()
    assert re.fullmatch(
        rf"send.{what}: udp://127.0.0.1:\d+: cannot send \(Network is unreachable\); frames are .*", lost
    )
    assert back.endswith("it goes on; 3 frames in all could not be sent")


def test_counters_go_on_where_a_run_is_resumed_and_begin_where_it_did_not_send() -> None:
    send = header(send=SendSettings(tracks="udp://127.0.0.1:9"))
    for state, missed in (({"send.tracks.missed": np.array(5)}, 5), ({}, 0)):
        with closing(open_senders(send, state)["send.tracks"]) as again:
            assert again.missed == missed
            assert again.state() == {"missed": missed}


def test_whoever_turns_the_video_on_late_sees_it_within_a_second_or_so() -> None:
    address = f"udp://127.0.0.1:{free_port(socket.SOCK_DGRAM)}"
    results = [result(index, tracks([index % 60 + 10], [index % 40 + 10])) for index in range(300)]
    seen: list[Frame] = []

    def watch() -> None:
        with closing(open_source(address)) as source:
            seen.extend(islice(source, 20))

    watcher = Thread(target=watch)
    with sender(video=address) as sink:
        for index, each in enumerate(results):
            sink.write(each)
            if index == 100:
                watcher.start()
            if index >= 100 and watcher.is_alive():
                watcher.join(1 / RATE)
    assert len(seen) == 20, "frames 101 to 299 were shown for 6.6 s"
    shows = Annotator(VideoSettings())
    shown = np.array([shows(each)[::4, ::4] @ [0.114, 0.587, 0.299] for each in results])
    shown = shown * 219 / 255 + 16  # as video has it
    for frame in seen:
        errors = np.abs(shown - frame.image[::4, ::4]).mean(axis=(1, 2))
        assert errors.min() < 1
        assert errors.argmin() > 100


def test_a_player_is_one_frame_behind_from_the_first_on() -> None:
    """FFmpeg shows a frame when the next one begins: that of a minute ago, where one comes a minute, but none older."""
    with sender(video="udp://127.0.0.1:9") as sink:
        assert isinstance(sink, SentVideo)
        sent = Sent([sink.datagrams(result(index, time=60.0 * index)) for index in range(8)])
    options = {"fpsprobesize": "0"}
    with av.open(sent, "r", format="mpegts", options=options, buffer_size=VIDEO_BYTES) as player:
        shown = [(frame.time, sent.frame) for frame in islice(player.decode(video=0), 5)]
    assert shown == [(60.0 * index, index + 1) for index in range(5)]


class Sent:
    """The datagrams of frames as a file, and from which frame the last one that was read is."""

    def __init__(self, frames: list[list[bytes]]) -> None:
        self._left = iter([(index, datagram) for index, frame in enumerate(frames) for datagram in frame])
        self.frame = -1

    def read(self, _size: int) -> bytes:
        self.frame, datagram = next(self._left, (self.frame, b""))
        return datagram


LISTEN = """
import socket, sys
listener = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 106_496)
listener.bind(("127.0.0.1", 0))
print(listener.getsockname()[1], flush=True)
while True:
    count = 0
    listener.settimeout(None)
    try:
        while listener.recv(2048):
            count += 1
            listener.settimeout(0.5)
    except TimeoutError:
        print(count, flush=True)
"""


def test_a_large_picture_reaches_a_listener_with_a_buffer_of_the_usual_size() -> None:
    """Of 208 kB, as Linux gives to a socket; how fast it is emptied is the listener's own affair."""
    noise = np.random.default_rng(0).integers(0, 256, (1024, 1280), dtype=np.uint8)
    results = [result(index, image=noise, time=index) for index in range(5)]
    with sender(video="udp://127.0.0.1:9") as sink:
        assert isinstance(sink, SentVideo)
        sent = [len(sink.datagrams(each)) for each in results]
    with subprocess.Popen([sys.executable, "-c", LISTEN], stdout=subprocess.PIPE, text=True) as listener:
        assert listener.stdout is not None
        came = []
        with sender(video=f"udp://127.0.0.1:{int(listener.stdout.readline())}") as sink:
            for each in results:
                sink.write(each)
                came.append(int(listener.stdout.readline()))
        listener.kill()
    assert min(sent) > 300
    assert any(all_came == all_sent for all_came, all_sent in zip(came, sent, strict=True)), "on a busy machine, too"


def test_the_listener_in_the_readme_prints_the_tracks(tmp_path: Path) -> None:
    program = program_of_readme(4)
    port, said = free_port(socket.SOCK_DGRAM), tmp_path / "said"
    command = [sys.executable, "-c", program.replace("9200", str(port))]
    with said.open("w") as out, subprocess.Popen(command, stdout=out) as listener:
        with sender(tracks=f"udp://127.0.0.1:{port}") as sink:

            def has_said() -> bool:
                sink.write(result(7, tracks([12.5], [30.25])))
                return said.stat().st_size > 0

            wait_until(has_said)
        listener.kill()
    assert said.read_text().splitlines()[0] == "clip None 1 confirmed 12.5 30.25"


@pytest.mark.parametrize(
    "address",
    [
        "10.0.0.1:99",
        "tcp://10.0.0.1:99",
        "udp://10.0.0.1",
        "udp://10.0.0.1:0",
        "udp://h:65536",
        "udp://h:\u0661\u0662",
        "udp://u:p@h:1",
        "udp://h:1/x",
    ],
)
def test_another_address_is_refused_with_what_is_expected(address: str) -> None:
    with pytest.raises(UsageError, match=r"key `tracks`: expected udp://HOST:PORT"):
        validate(SendSettings, {"tracks": address}, "here")


@pytest.mark.parametrize("address", ["udp://[fe80::1%eth0.100]:9", "udp://[fe80::1%br-lan]:9", "udp://[ff02::1]:9"])
def test_an_address_may_name_an_interface(address: str) -> None:
    assert validate(SendSettings, {"tracks": address}, "here").tracks == address


@pytest.mark.parametrize(
    "host", ["no.such.host.invalid", "[::::]", "[1.2.3.4.5]", "a..b", 64 * "a", "\u2100.invalid", "\0"]
)
def test_a_host_without_an_address_is_one_line_with_the_mend(host: str) -> None:
    with pytest.raises(IrstError) as refused:
        open_senders(header(send=SendSettings(video=f"udp://{host}:9")))
    said, end = f"send.video: udp://{host}:9: the host has no address here (", "); give another name, or its address"
    assert str(refused.value).startswith(said)
    assert str(refused.value).endswith(end)


def test_a_host_without_an_address_costs_no_earlier_results(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    clip, out = write_video(tmp_path / "clip.mp4", 2), tmp_path / "out"
    run = ["run", str(clip), "--out", str(out), "--device", "cpu", "--no-video"]
    assert main(run) == 0
    before = {path: path.read_bytes() for path in out.iterdir()}
    assert main([*run, "--overwrite", "--set", "send.tracks=udp://no..host:9"]) == 1
    assert "send.tracks: udp://no..host:9: the host has no address here" in capsys.readouterr().err
    assert before == {path: path.read_bytes() for path in out.iterdir()}


ONE_NAME = """
from pathlib import Path
from subprocess import run
import sys
from irst_pipeline.config import SendSettings
from irst_pipeline.sinks import open_senders
from tests.sinks.sink_streams import header, result
from tests.sinks.test_send import Listener

hosts = Path(sys.argv[1])
hosts.write_text("::1 both\\n127.0.0.1 both\\n")
run(["mount", "--bind", hosts, "/etc/hosts"], check=True)
listener = Listener()
(sink,) = open_senders(header(send=SendSettings(tracks=f"udp://both:{listener.port}"))).values()
sink.write(result(0))
print(len(listener.datagrams()))
"""


def test_a_name_with_both_addresses_is_sent_to_where_most_listeners_wait(tmp_path: Path) -> None:
    """As `nc -lu` and the program in the README do: at IPv4."""
    command = [*alone("--mount"), sys.executable, "-c", ONE_NAME, str(tmp_path / "hosts")]
    assert subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, timeout=60, check=True).stdout == b"1\n"


def test_a_run_sends_what_it_logs(tmp_path: Path, listener: Listener) -> None:
    send = ["--set", f"send.tracks={listener.address}", "--set", "tracker.false_tracks_per_hour=100"]
    assert main(["run", str(HORIZON), "--out", str(tmp_path / "out"), "--device", "cpu", "--no-video", *send]) == 0
    found = [record for datagram in listener.datagrams() for record in records(datagram)]
    log = read_jsonl(tmp_path / "out/tracks.jsonl")
    assert [record for record in found if record["record"] != "frame"] == log[1:]
    frames = [record["frame"] for record in found if record["record"] == "frame"]
    assert frames == sorted(frames)
    assert set(frames) == set(range(200))
    assert report(tmp_path / "out")["frames_not_written"] == {}


def test_several_sources_say_which_they_are_and_have_a_port_each_for_their_videos(
    tmp_path: Path, listener: Listener
) -> None:
    clips = [str(write_video(tmp_path / f"{name}.mp4", 10)) for name in "ab"]
    out = tmp_path / "out"
    first = free_port(socket.SOCK_DGRAM)
    send = ["--set", f"send.tracks={listener.address}", "--set", f"send.video=udp://127.0.0.1:{first}"]
    assert main(["run", *clips, "--out", str(out), "--device", "cpu", "--no-video", *send]) == 0
    frames = [records(datagram)[0] for datagram in listener.datagrams()]
    assert sorted({(frame["source"], frame["frame"]) for frame in frames}) == [
        (name, index) for name in ("a.mp4", "b.mp4") for index in range(10)
    ]
    ports = [report(out / name)["config"]["send"]["video"].rpartition(":")[2] for name in "ab"]
    assert ports == [str(first), str(first + 1)]


def test_recordings_of_one_name_are_told_apart_and_can_be_resumed_alone(tmp_path: Path, listener: Listener) -> None:
    clips = [tmp_path / folder / "clip.mp4" for folder in "ab"]
    for clip in clips:
        clip.parent.mkdir()
        write_video(clip, 3)
    out, send = tmp_path / "out", ["--device", "cpu", "--no-video", "--set", f"send.tracks={listener.address}"]
    assert main(["run", *map(str, clips), "--out", str(out), *send]) == 0
    frames = [records(datagram)[0] for datagram in listener.datagrams()]
    assert {frame["source"] for frame in frames} == {"clip.mp4", "clip.mp4-2"}
    assert [read_jsonl(out / name / "tracks.jsonl")[0]["source"] for name in ("clip", "clip-2")] == [
        "clip.mp4",
        "clip.mp4-2",
    ]
    assert main(["run", str(clips[1]), "--out", str(out / "clip-2"), *send, "--resume"]) == 0


def test_more_sources_than_ports_are_refused(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    clips = [str(write_video(tmp_path / f"{name}.mp4", 2)) for name in "ab"]
    assert main(["run", *clips, "--set", "send.video=udp://127.0.0.1:65535", "--out", str(tmp_path / "out")]) == 2
    assert "send.video: udp://127.0.0.1:65535: there are not 2 ports from there on" in capsys.readouterr().err
