"""Cameras on the network, for tests. Run as a script it is one, with numbered frames, 25 a second.

cameras.py PORT serves 14 bits by TCP; cameras.py rtsp://ADDRESS pushes 12 bits to whoever listens there.
"""

import io
import socket
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, suppress
from itertools import count

import av
import numpy as np
from numpy.typing import NDArray

from irst_pipeline.types import Image
from tools.streaming import LOSSLESS, on_time, transmit

HEIGHT, WIDTH = 48, 64
BLOCKS = (128, 128)  # px; HEVC takes no smaller frames


def thermal(number: int, size: tuple[int, int] = (HEIGHT, WIDTH), bits: int = 14) -> NDArray[np.uint16]:
    """Frame of that number: noise over all levels of the depth, the number in its first pixel."""
    image = np.random.default_rng(number).integers(0, 1 << bits, size).astype(np.uint16)
    image[0, 0] = number
    return image


def paced(size: tuple[int, int] = (HEIGHT, WIDTH), bits: int = 14) -> Iterator[Image]:
    return on_time(thermal(number, size, bits) for number in count())


def recorded(images: Sequence[Image], container: str = "nut", codec: str = "rawvideo") -> bytes:
    out = io.BytesIO()
    transmit(out, images, container, codec)
    return out.getvalue()


def repacked(
    images: Sequence[Image],
    container: str,
    codec: str,
    pixels: str,
    change: Callable[[int, bytes], bytes],
    options: dict[str, str] | None = None,
) -> bytes:
    """Images as they are coded, each as `change` makes it of its number and bytes; left out where it leaves none."""
    coded, out = io.BytesIO(), io.BytesIO()
    transmit(coded, images, "nut", codec, pixels, options)
    with av.open(io.BytesIO(coded.getvalue()), "r") as whole, av.open(out, "w", format=container) as changed:
        stream = changed.add_stream_from_template(whole.streams.video[0])
        for number, packet in enumerate(whole.demux(video=0)):
            if packet.size and (left := change(number, bytes(packet))):
                sent = av.Packet(left)
                sent.pts, sent.dts, sent.time_base = packet.pts, packet.dts, packet.time_base
                sent.stream, sent.is_keyframe = stream, packet.is_keyframe
                changed.mux(sent)
    return out.getvalue()


def jpegs_with_one_cut_short(container: str) -> bytes:
    """20 frames, of which only the first half of frame 7 is there."""
    images = [np.stack([(thermal(number) >> 6).astype(np.uint8)] * 3) for number in range(20)]
    return repacked(
        images, container, "mjpeg", "yuvj444p", lambda number, jpeg: jpeg[: len(jpeg) // 2] if number == 7 else jpeg
    )


def serve(port: int) -> None:
    with socket.create_server(("127.0.0.1", port)) as server:
        while True:
            connection, _ = server.accept()
            with suppress(OSError, av.FFmpegError), closing(connection), connection.makefile("wb", buffering=0) as out:
                transmit(out, paced())


def push(address: str) -> None:
    while True:
        try:
            transmit(address, paced(BLOCKS, 12), "rtsp", "libx265", "gray12le", LOSSLESS)
        except (OSError, av.FFmpegError):  # nobody listens yet
            time.sleep(0.1)


if __name__ == "__main__":
    if "://" in sys.argv[1]:
        push(sys.argv[1])
    serve(int(sys.argv[1]))
