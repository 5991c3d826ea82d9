"""Cameras on the network, for tests. Run as a script it is one, with numbered frames, 25 a second.

cameras.py PORT serves 14 bits by TCP; cameras.py rtsp://ADDRESS pushes 12 bits to whoever listens there.
"""

import io
import socket
import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing, suppress
from fractions import Fraction
from io import RawIOBase
from itertools import count
from typing import IO

import av
import numpy as np
from numpy.typing import NDArray

from irst_pipeline.types import Image

RATE = 25
HEIGHT, WIDTH = 48, 64
BLOCKS = (128, 128)  # px; HEVC takes no smaller frames
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


def thermal(number: int, size: tuple[int, int] = (HEIGHT, WIDTH), bits: int = 14) -> NDArray[np.uint16]:
    """Frame of that number: noise over all levels of the depth, the number in its first pixel."""
    image = np.random.default_rng(number).integers(0, 1 << bits, size).astype(np.uint16)
    image[0, 0] = number
    return image


def on_time(images: Iterable[Image], rate: int = RATE) -> Iterator[Image]:
    """The images, so many a second."""
    begun = time.perf_counter()
    for number, image in enumerate(images):
        time.sleep(max(0.0, begun + number / rate - time.perf_counter()))
        yield image


def paced(size: tuple[int, int] = (HEIGHT, WIDTH), bits: int = 14) -> Iterator[Image]:
    return on_time(thermal(number, size, bits) for number in count())


def transmit(
    out: IO[bytes] | RawIOBase | str,
    images: Iterable[Image],
    size: tuple[int, int] = (HEIGHT, WIDTH),
    container: str = "nut",
    codec: str = "rawvideo",
    pixels: str = "gray16le",
    options: dict[str, str] | None = None,
    rate: int = RATE,
) -> None:
    """Send frames to a file, a socket's file or an address of FFmpeg's, each as soon as it is there."""
    with av.open(out, "w", format=container, container_options={"flush_packets": "1"}) as muxer:
        stream = muxer.add_stream(codec, rate=rate, options=options)
        assert isinstance(stream, av.VideoStream)
        stream.height, stream.width = size
        stream.pix_fmt = pixels
        for number, image in enumerate(images):
            frame = av.VideoFrame.from_ndarray(image, format=pixels)
            frame.pts, frame.time_base = number, Fraction(1, rate)
            muxer.mux(stream.encode(frame))
        muxer.mux(stream.encode(None))


def recorded(images: Sequence[Image], container: str = "nut", codec: str = "rawvideo") -> bytes:
    out = io.BytesIO()
    transmit(out, images, images[0].shape, container, codec)
    return out.getvalue()


def serve(port: int) -> None:
    with socket.create_server(("127.0.0.1", port)) as server:
        while True:
            connection, _ = server.accept()
            with suppress(OSError, av.FFmpegError), closing(connection), connection.makefile("wb", buffering=0) as out:
                transmit(out, paced())


def push(address: str) -> None:
    while True:
        try:
            transmit(address, paced(BLOCKS, 12), BLOCKS, "rtsp", "libx265", "gray12le", LOSSLESS)
        except (OSError, av.FFmpegError):  # nobody listens yet
            time.sleep(0.1)


if __name__ == "__main__":
    if "://" in sys.argv[1]:
        push(sys.argv[1])
    serve(int(sys.argv[1]))
