"""Cameras on the network, for tests. Run as a script it is one: cameras.py PORT sends numbered frames, 25 a second."""

import io
import socket
import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing, suppress
from fractions import Fraction
from io import RawIOBase
from itertools import count
from typing import IO, Any

import av
import numpy as np
from numpy.typing import NDArray

RATE = 25
HEIGHT, WIDTH = 48, 64


def thermal(number: int, size: tuple[int, int] = (HEIGHT, WIDTH), bits: int = 14) -> NDArray[np.uint16]:
    """Frame of that number: noise over all levels of the depth, the number in its first pixel."""
    image = np.random.default_rng(number).integers(0, 1 << bits, size).astype(np.uint16)
    image[0, 0] = number
    return image


def paced(first: int = 0) -> Iterator[NDArray[np.uint16]]:
    for number in count(first):
        yield thermal(number)
        time.sleep(1 / RATE)


def transmit(
    out: IO[bytes] | RawIOBase | str,
    images: Iterable[NDArray[Any]],
    size: tuple[int, int] = (HEIGHT, WIDTH),
    container: str = "nut",
    codec: str = "rawvideo",
    pixels: str = "gray16le",
    options: dict[str, str] | None = None,
) -> None:
    """Send frames to a file, a socket's file or an address of FFmpeg's, each as soon as it is there."""
    with av.open(out, "w", format=container, container_options={"flush_packets": "1"}) as muxer:
        stream = muxer.add_stream(codec, rate=RATE, options=options)
        assert isinstance(stream, av.VideoStream)
        stream.height, stream.width = size
        stream.pix_fmt = pixels
        for number, image in enumerate(images):
            frame = av.VideoFrame.from_ndarray(image, format=pixels)
            frame.pts, frame.time_base = number, Fraction(1, RATE)
            muxer.mux(stream.encode(frame))
        muxer.mux(stream.encode(None))


def recorded(images: Sequence[NDArray[np.uint16]], container: str = "nut", codec: str = "rawvideo") -> bytes:
    out = io.BytesIO()
    transmit(out, images, images[0].shape, container, codec)
    return out.getvalue()


def main(port: int) -> None:
    with socket.create_server(("127.0.0.1", port)) as server:
        while True:
            connection, _ = server.accept()
            with suppress(OSError, av.FFmpegError), closing(connection), connection.makefile("wb", buffering=0) as out:
                transmit(out, paced())


if __name__ == "__main__":
    main(int(sys.argv[1]))
