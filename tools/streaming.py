"""Frames sent as a camera on the network sends them, for soaks and for tests."""

import socket
import time
from collections.abc import Iterable, Iterator
from fractions import Fraction
from io import RawIOBase
from typing import IO

import av

from irst_pipeline.types import Image

RATE = 25
LOSSLESS = {
    "preset": "ultrafast",
    "tune": "zerolatency",
    "x264-params": "qp=0:keyint=5:scenecut=0",
    "x265-params": "lossless=1:keyint=5:log-level=none:pools=1",
}


def free_port(kind: socket.SocketKind = socket.SOCK_STREAM) -> int:
    with socket.socket(socket.AF_INET, kind) as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def on_time(images: Iterable[Image], rate: int = RATE) -> Iterator[Image]:
    """The images, so many a second."""
    begun = time.perf_counter()
    for number, image in enumerate(images):
        time.sleep(max(0.0, begun + number / rate - time.perf_counter()))
        yield image


def transmit(
    out: IO[bytes] | RawIOBase | str,
    images: Iterable[Image],
    container: str = "nut",
    codec: str = "rawvideo",
    pixels: str = "gray16le",
    options: dict[str, str] | None = None,
    rate: int = RATE,
) -> None:
    """Send images of one size to a file, a socket's file or an address of FFmpeg's, each as soon as it is there.

    `pixels` is FFmpeg's name of what they hold.
    """
    with av.open(out, "w", format=container, container_options={"flush_packets": "1"}) as muxer:
        stream = muxer.add_stream(codec, rate=rate, options=options)
        assert isinstance(stream, av.VideoStream)
        stream.pix_fmt = pixels
        for number, image in enumerate(images):
            frame = av.VideoFrame.from_ndarray(image, format=pixels)
            if number == 0:
                stream.height, stream.width = frame.height, frame.width
            frame.pts, frame.time_base = number, Fraction(1, rate)
            muxer.mux(stream.encode(frame))
        muxer.mux(stream.encode(None))
