"""What the numbers of H.264's pictures tell of a stream that has lost some."""

from fractions import Fraction

import av
import numpy as np
import pytest

from irst_pipeline.sources.h264 import FrameNumbers

SIZE = (64, 96)
ALONE = "bframes=0:keyint=12:scenecut=0"


def coded(pixels: str, options: str, count: int = 40) -> list[bytes]:
    """Packets of an encoder, each of one picture."""
    coder = av.VideoCodecContext.create("libx264", "w")
    coder.height, coder.width, coder.pix_fmt = *SIZE, pixels
    coder.time_base, coder.options = Fraction(1, 25), {"preset": "veryfast", "x264-params": options}
    noise, packets = np.random.default_rng(0), []
    for number in range(count):
        image = noise.normal(60, 4, SIZE).astype(np.uint8)
        image[20:24, number : number + 4] = 200
        frame = av.VideoFrame.from_ndarray(image, "gray").reformat(format=pixels)
        frame.pts, frame.time_base = number, coder.time_base
        packets += coder.encode(frame)
    return [bytes(packet) for packet in [*packets, *coder.encode(None)]]


def kind(packet: bytes) -> tuple[bool, bool]:
    """Whether a packet is of a key picture, and whether others are predicted from it."""
    pictures = [unit[0] for unit in packet.split(b"\0\0\1")[1:] if unit[0] & 31 in (1, 5)]
    return pictures[0] & 31 == 5, bool(pictures[0] & 96)


def all_follow(packets: list[bytes]) -> bool:
    numbers = FrameNumbers(b"")
    return all(numbers.follows(packet) for packet in packets)


@pytest.mark.parametrize(
    ("pixels", "options"),
    [
        ("gray", ALONE),
        ("yuv420p", "bframes=3:b-pyramid=normal:keyint=15:ref=6"),
        ("yuv422p10le", f"{ALONE}:cqm=jvt:slices=3"),
        ("yuv444p", f"{ALONE}:open-gop=1"),
        ("yuv420p", "tff=1:keyint=15"),
        ("gray", f"{ALONE}:cqm4=16,18,20,22,18,20,22,24,20,22,24,26,22,24,26,28"),
    ],
)
def test_a_lost_picture_that_the_next_ones_are_predicted_from_is_missed_and_no_other(pixels: str, options: str) -> None:
    packets = coded(pixels, options)
    kinds = [kind(packet) for packet in packets]
    assert all_follow(packets)
    noticed = 0
    for lost in range(3, len(packets) - 1):
        (key, predicted_from), rest = kinds[lost], packets[:lost] + packets[lost + 1 :]
        until_key = next((n for n, (other, _) in enumerate(kinds[lost + 1 :]) if other), len(packets))
        if not key and (until_key == 0 or not predicted_from):
            assert all_follow(rest)
        elif not key and any(of_others for _, of_others in kinds[lost + 1 : lost + 1 + until_key]):
            assert not all_follow(rest)
            noticed += 1
    assert noticed > 10


def test_of_a_sender_that_numbers_in_its_own_way_nothing_is_missed() -> None:
    assert all_follow(coded("gray", ALONE)[::2])


def test_what_is_broken_off_or_no_picture_at_all_is_not_missed() -> None:
    packets, noise = coded("gray", ALONE, 4), np.random.default_rng(0)
    numbers = FrameNumbers(packets[0])
    for length in range(60):
        assert numbers.follows(packets[0][:length])
        numbers.follows(b"\0\0\1\x67" + noise.bytes(length))
        numbers.follows(b"\0\0\1\x61" + noise.bytes(length))
