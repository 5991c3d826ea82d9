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


def unsigned(value: int) -> str:
    """The bits of an Exp-Golomb code (ITU-T H.264, section 9.1)."""
    digits = f"{value + 1:b}"
    return "0" * (len(digits) - 1) + digits


def signed(value: int) -> str:
    return unsigned(2 * value - 1 if value > 0 else -2 * value)


def unit(head: int, bits: str) -> bytes:
    count = len(bits) // 8 + 1
    whole = int(bits + "1", 2) << (8 * count - len(bits) - 1)
    return b"\0\0\1" + bytes([head]) + whole.to_bytes(count).replace(b"\0\0", b"\0\0\3")


SCALINGS: dict[str, list[list[int] | None]] = {
    "even": [*6 * [[8, *15 * [0]]], *2 * [[8, *63 * [0]]]],
    "some": [None, [-8], [4, *range(1, 8), *range(-8, 0)], None, [100, 100, 48], None, [2, -12, *62 * [-1]], None],
}
"""For each of a sequence's eight lists the differences from one weight to the next, from 8 on, up to where a weight is
0 modulo 256; None for a list that is not given (section 7.3.2.1.1.1)."""


@pytest.mark.parametrize("lists", SCALINGS)
def test_numbers_are_read_of_a_sequence_that_has_weights_of_its_own(lists: str) -> None:
    bits = f"{100:08b}{0:08b}{30:08b}" + unsigned(0) + unsigned(1) + 2 * unsigned(0) + "01"
    for differences in SCALINGS[lists]:
        bits += "0" if differences is None else "1" + "".join(map(signed, differences))
    bits += unsigned(1) + unsigned(2) + unsigned(1) + "0"  # numbers of 5 bits; order; pictures kept; none left out
    packets = [unit(0x67, bits) + unit(0x65, unsigned(0) + unsigned(7) + unsigned(0) + f"{0:05b}" + 20 * "01")]
    for number in range(1, 70):
        packets.append(unit(0x61, unsigned(0) + unsigned(5) + unsigned(0) + f"{number % 32:05b}" + 20 * "01"))
    assert all_follow(packets)
    for lost in range(2, 69):
        assert not all_follow(packets[:lost] + packets[lost + 1 :])


def test_of_a_sender_that_numbers_in_its_own_way_nothing_is_missed() -> None:
    assert all_follow(coded("gray", ALONE)[::2])


def test_what_is_broken_off_or_no_picture_at_all_is_not_missed() -> None:
    packets, noise = coded("gray", ALONE, 4), np.random.default_rng(0)
    numbers = FrameNumbers(packets[0])
    for length in range(60):
        assert numbers.follows(packets[0][:length])
        numbers.follows(b"\0\0\1\x67" + noise.bytes(length))
        numbers.follows(b"\0\0\1\x61" + noise.bytes(length))
