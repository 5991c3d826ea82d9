"""Servers on this machine that send frames as they are told to, for tests."""

import io
import socket
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Container, Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from socketserver import StreamRequestHandler, ThreadingTCPServer

import numpy as np

from irst_pipeline.types import Image
from tests.running import ROOT, wait_until
from tests.sources.cameras import thermal
from tools.streaming import LOSSLESS, RATE, on_time, transmit

LEVELS = [thermal(number) for number in range(20)]


@contextmanager
def serving(answers: Sequence[bytes], hold: bool = False) -> Iterator[str]:
    """Address of a TCP server that gives each connection the next answer, the last one again and again.

    With `hold` it then keeps the connection and says nothing more.
    """
    server = socket.create_server(("127.0.0.1", 0))
    held: list[socket.socket] = []

    def work() -> None:
        number = 0
        while True:
            try:
                connection, _ = server.accept()
            except OSError:  # closed
                return
            with suppress(OSError):
                connection.sendall(answers[min(number, len(answers) - 1)])
            number += 1
            held.append(connection)
            if not hold:
                connection.close()

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    yield f"tcp://127.0.0.1:{server.getsockname()[1]}"
    server.shutdown(socket.SHUT_RDWR)
    server.close()
    thread.join(5)
    for connection in held:
        connection.close()


class RtspCamera(StreamRequestHandler):
    """Answers what is asked of a camera; what it sends when it is to play, a subclass says."""

    coding = "H264"
    by_udp = False

    def handle(self) -> None:
        with suppress(OSError):
            while request := b"\n".join(iter(lambda: self.rfile.readline().strip(), b"")).decode():
                self.answer(request.split()[0], request)

    def answer(self, verb: str, request: str) -> None:
        media = f"m=video 0 RTP/AVP 96\r\na=rtpmap:96 {self.coding}/90000\r\n"
        body = f"v=0\r\no=- 0 0 IN IP4 127.0.0.1\r\ns=ir\r\nt=0 0\r\n{media}" if verb == "DESCRIBE" else ""
        status, transport = "200 OK", "RTP/AVP/TCP;interleaved=0-1"
        if verb == "SETUP" and self.by_udp:
            _, asked, ports = request.partition("client_port=")
            status = "200 OK" if asked else "461 Unsupported Transport"
            self.port = int(ports.partition("-")[0]) if asked else 0
            transport = f"RTP/AVP;unicast;client_port={self.port}-{self.port + 1};server_port=6970-6971"
        number = request.partition("CSeq: ")[2].split()[0]
        head = f"Session: 1\r\nTransport: {transport}\r\nContent-Length: {len(body)}"
        self.wfile.write(f"RTSP/1.0 {status}\r\nCSeq: {number}\r\n{head}\r\n\r\n{body}".encode())
        if verb == "PLAY":
            self.play()

    def play(self) -> None:
        raise NotImplementedError


@contextmanager
def rtsp(camera: type[RtspCamera]) -> Iterator[str]:
    """Address of such a camera."""
    with ThreadingTCPServer(("127.0.0.1", 0), camera) as server:
        server.daemon_threads = True
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"rtsp://127.0.0.1:{server.server_address[1]}/ir"
        server.shutdown()


@contextmanager
def rtsp_camera(answers: Sequence[tuple[float, int]]) -> Iterator[tuple[str, list[float]]]:
    """Address of a camera that sends H.264 by RTSP, and when (s) it was asked to.

    Each time it waits so many seconds, sends so many frames (up to 20), and then nothing; the last answer repeats.
    """
    out, asked = io.BytesIO(), list[float]()
    options = {"tune": "zerolatency", "threads": "1", "g": "5"}
    images = [(image >> 6).astype(np.uint8) for image in LEVELS]
    transmit(out, images, container="h264", codec="libx264", pixels="gray", options=options)
    units = out.getvalue().replace(b"\0\0\0\1", b"\0\0\1").split(b"\0\0\1")[1:]

    class Camera(RtspCamera):
        def play(self) -> None:
            asked.append(time.monotonic())
            pause, frames = answers[min(len(asked), len(answers)) - 1]
            time.sleep(pause)
            sent = 0
            for number, unit in enumerate(units):
                if sent == frames:
                    break
                slice_ = unit[0] & 31 in (1, 5)  # each is a frame
                kind = 96 | slice_ << 7  # with RTP's marker of a frame's end
                rtp = struct.pack("!BBHII", 0x80, kind, number, sent * 90_000 // RATE, 1) + unit
                self.wfile.write(struct.pack("!cBH", b"$", 0, len(rtp)) + rtp)
                sent += slice_

    with rtsp(Camera) as uri:
        yield uri, asked


def datagrams(images: Sequence[Image], codec: str, pixels: str) -> list[bytes]:
    """Images as FFmpeg sends them by RTP, without what is not of the video."""
    sent = list[bytes]()

    def receive() -> None:
        sent.extend(iter(partial(receiver.recv, 1 << 16), b""))

    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as receiver:
        receiver.bind(("127.0.0.1", 0))
        receiving = threading.Thread(target=receive)
        receiving.start()
        try:
            address = f"rtp://127.0.0.1:{receiver.getsockname()[1]}?pkt_size=1200"
            transmit(address, on_time(images, 100), "rtp", codec, pixels, LOSSLESS)
        finally:
            receiver.sendto(b"", receiver.getsockname())  # the last one
            receiving.join()
    return [datagram for datagram in sent if datagram[1] & 127 == 96]


def waiting(port: int) -> int:
    """Bytes that have come to a UDP port and are yet to be read there."""
    sockets = [line.split() for line in Path("/proc/net/udp").read_text().splitlines()[1:]]
    return sum(int(columns[4][-8:], 16) for columns in sockets if columns[1].endswith(f":{port:04X}"))


@contextmanager
def lossy_rtsp_camera(coding: str, sent: Sequence[bytes], lost: Container[int]) -> Iterator[str]:
    """Address of a camera that sends datagrams by UDP alone, some of which never come."""

    class Camera(RtspCamera):
        by_udp = True

        def play(self) -> None:
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
                for number, datagram in enumerate(sent):
                    wait_until(lambda: waiting(self.port) < 50_000)  # else the system would drop others
                    if number not in lost:
                        sender.sendto(datagram, ("127.0.0.1", self.port))
                    time.sleep(1e-3)

    Camera.coding = coding
    with rtsp(Camera) as uri:
        yield uri


@contextmanager
def camera(where: int | str) -> Iterator["subprocess.Popen[bytes]"]:
    """A camera in a process of its own, at a port or for an address, which is killed in the end."""
    process = subprocess.Popen([sys.executable, "-m", "tests.sources.cameras", str(where)], cwd=ROOT)
    try:
        yield process
    finally:
        process.kill()
        process.wait()
