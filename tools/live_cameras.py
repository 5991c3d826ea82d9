"""Two cameras that see the same point before noise, 25 frames/s in H.264, for soaks of live streams.

    live_cameras.py rtsp PORT BEGUN         serves rtsp://127.0.0.1:PORT/ir; for Debian's Python, which has GStreamer
    live_cameras.py udp PORT LOSS BEGUN     sends MPEG-TS to udp://127.0.0.1:PORT, but not a share LOSS of its datagrams
    live_cameras.py check                   fails, with a line, where the first one cannot work

The point is where it belongs by the clock since BEGUN (s, of the epoch), whenever the camera started.
"""

import math
import random
import socket
import sys
import time
from collections.abc import Callable
from fractions import Fraction
from itertools import count
from typing import Any

WIDTH, HEIGHT = 192, 128
RATE = 25
NOISE, LEVEL, PEAK, SIZE = 3.0, 60, 150, 1.2  # grey levels; px
DATAGRAM = 1316  # bytes: seven packets of MPEG-TS


def place(seconds: float) -> tuple[float, float]:
    """Where the point is, px: to the right at 1 px/s, and up and down."""
    return 30 + seconds, 64 + 30 * math.sin(seconds / 10)


class Scene:
    """Pictures as bytes of grey levels, by rows; without NumPy, which Debian's Python may lack."""

    def __init__(self, begun: float) -> None:
        self._begun = begun
        chance = random.Random(1)
        steps = range(-10, 11)
        shares = [math.exp(-0.5 * (step / NOISE) ** 2) for step in steps]
        self._noise = [
            bytes(LEVEL + step for step in chance.choices(steps, shares, k=WIDTH * HEIGHT)) for _ in range(2 * RATE)
        ]

    def __call__(self) -> bytes:
        now = time.time()
        image = bytearray(self._noise[round(now * RATE) % len(self._noise)])
        x, y = place(now - self._begun)
        for row in range(max(0, round(y) - 4), min(HEIGHT, round(y) + 5)):
            for column in range(max(0, round(x) - 4), min(WIDTH, round(x) + 5)):
                glow = PEAK * math.exp(-((column - x) ** 2 + (row - y) ** 2) / (2 * SIZE**2))
                image[row * WIDTH + column] = min(255, image[row * WIDTH + column] + round(glow))
        return bytes(image)


def gstreamer() -> Any:
    """Its modules: GLib, Gst and GstRtspServer; ends the process with a line where they or the coder are missing."""
    try:
        import gi

        gi.require_version("Gst", "1.0")
        gi.require_version("GstRtspServer", "1.0")
        from gi.repository import GLib, Gst, GstRtspServer
    except (ImportError, ValueError) as error:
        sys.exit(f"no GStreamer here: {error}")
    Gst.init(None)
    if not Gst.ElementFactory.find("x264enc") or not Gst.ElementFactory.find("rtph264pay"):
        sys.exit("no GStreamer here: x264enc or rtph264pay is missing")
    return GLib, Gst, GstRtspServer


def rtsp(port: str, begun: str) -> None:
    GLib, Gst, GstRtspServer = gstreamer()  # noqa: N806 (modules)
    scene = Scene(float(begun))
    chroma = bytes([128]) * (WIDTH * HEIGHT // 2)
    caps = f"video/x-raw,format=I420,width={WIDTH},height={HEIGHT},framerate={RATE}/1"
    coder = f"x264enc tune=zerolatency speed-preset=ultrafast key-int-max={RATE} bitrate=2000"
    factory = GstRtspServer.RTSPMediaFactory(shared=True)
    source = f"appsrc name=camera is-live=true do-timestamp=true format=time caps={caps}"
    factory.set_launch(f"( {source} ! {coder} ! rtph264pay name=pay0 pt=96 )")

    def begin(_: Any, media: Any) -> None:
        camera = media.get_element().get_by_name_recurse_up("camera")

        def push() -> bool:
            sent = camera.emit("push-buffer", Gst.Buffer.new_wrapped(scene() + chroma))
            return bool(sent != Gst.FlowReturn.FLUSHING)

        GLib.timeout_add(1000 // RATE, push)

    factory.connect("media-configure", begin)
    server = GstRtspServer.RTSPServer(address="127.0.0.1", service=port)
    server.get_mount_points().add_factory("/ir", factory)
    server.attach(None)
    print("ready", flush=True)
    GLib.MainLoop().run()


class Lossy:
    """A file for FFmpeg that sends what is written as datagrams, but for a share of them."""

    def __init__(self, port: int, loss: float) -> None:
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.connect(("127.0.0.1", port))
        self._loss, self._chance = loss, random.Random(1)

    def write(self, data: bytes) -> int:
        for start in range(0, len(data), DATAGRAM):
            if self._chance.random() >= self._loss:
                try:
                    self._socket.send(data[start : start + DATAGRAM])
                except ConnectionRefusedError:  # nobody listens yet
                    continue
        return len(data)


def udp(port: str, loss: str, begun: str) -> None:
    import av
    import numpy as np

    scene = Scene(float(begun))
    out: Any = Lossy(int(port), float(loss))
    with av.open(out, "w", format="mpegts", container_options={"flush_packets": "1"}) as muxer:
        quick = {"preset": "ultrafast", "tune": "zerolatency", "g": "12", "crf": "23"}
        stream = muxer.add_stream("libx264", rate=RATE, options=quick)
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        started = time.monotonic()
        for number in count():
            image = np.frombuffer(scene(), np.uint8).reshape(HEIGHT, WIDTH)
            frame = av.VideoFrame.from_ndarray(image, format="gray").reformat(format="yuv420p")
            frame.pts, frame.time_base = number, Fraction(1, RATE)
            muxer.mux(stream.encode(frame))
            time.sleep(max(0.0, started + number / RATE - time.monotonic()))


if __name__ == "__main__":
    verbs: dict[str, Callable[..., object]] = {"check": gstreamer, "rtsp": rtsp, "udp": udp}
    verbs[sys.argv[1]](*sys.argv[2:])
