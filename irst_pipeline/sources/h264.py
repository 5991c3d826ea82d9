"""Which pictures of H.264 are missing from a stream: FFmpeg decodes those predicted from them without a word.

Pictures are numbered (`frame_num`; ITU-T H.264, sections 7.3.2.1, 7.3.3 and 7.4.3): each has the number of the last one
before it that others are predicted from, plus one.
"""

UNIT = b"\0\0\1"  # what a unit of a stream begins behind
HEADER_BYTES = 512  # of a unit; what is read of it lies within
SLICE, KEY_SLICE, SEQUENCE = 1, 5, 7  # kinds of units
HIGH_PROFILES = {44, 83, 86, 100, 110, 118, 122, 128, 134, 135, 138, 139, 244}  # whose sequences say more


class FrameNumbers:
    """The numbers of the pictures of one stream, as its packets come."""

    def __init__(self, headers: bytes) -> None:
        """`headers`: what is known of the stream before its first packet."""
        self._size: int | None = None  # bits of a number; None where numbers say nothing
        self._last = 0  # of the last picture that others are predicted from
        self._counted = False  # whether one has ever followed the last; there are senders that number as they like
        self.follows(headers)

    def follows(self, packet: bytes) -> bool:
        """Whether all has come that the pictures of this packet are predicted from, as far as numbers tell."""
        try:
            return all(self._unit_follows(unit) for unit in packet.split(UNIT)[1:] if unit)
        except ValueError:  # it is broken off
            return True

    def _unit_follows(self, unit: bytes) -> bool:
        kind = unit[0] & 31
        if kind == SEQUENCE:
            self._size = _number_size(_Bits(unit))
        if kind not in (SLICE, KEY_SLICE) or self._size is None:
            return True
        bits = _Bits(unit)
        for _ in ("first block", "type", "settings"):
            bits.coded()
        number, count = bits.take(self._size), 1 << self._size
        step = 0 if kind == KEY_SLICE else (number - self._last) % count
        if unit[0] & 96:  # others are predicted from it
            self._last = number
            self._counted |= step == 1
        return step <= 1 or not self._counted


def _number_size(bits: "_Bits") -> int | None:
    """Bits of the numbers in a sequence; None where they may leave some out, or colours are coded apart."""
    profile, _, _ = bits.take(8), bits.take(16), bits.coded()
    if profile in HIGH_PROFILES:
        colours = bits.coded()
        if colours == 3 and bits.take(1):
            return None
        bits.coded(), bits.coded(), bits.take(1)  # depths
        if bits.take(1):
            for length in [16] * 6 + [64] * (6 if colours == 3 else 2):
                if bits.take(1):
                    _skip_scaling(bits, length)
    size, order = bits.coded() + 4, bits.coded()
    if order == 0:
        bits.coded()
    elif order == 1:
        bits.take(1), bits.coded(), bits.coded()
        for _ in range(bits.coded()):
            bits.coded()
    bits.coded()
    return None if bits.take(1) else size


def _skip_scaling(bits: "_Bits", length: int) -> None:
    scale = 8
    for _ in range(length):
        code = bits.coded()
        scale = (scale + (code + 1) // 2 * (1 if code % 2 else -1)) % 256
        if not scale:
            return


class _Bits:
    """The bits of a unit behind its kind, from the first on; raises ValueError behind the last."""

    def __init__(self, unit: bytes) -> None:
        data = unit[1:HEADER_BYTES].replace(b"\0\0\3", b"\0\0")  # the 3 keeps what looks like a unit's beginning apart
        self._bits, self._at = bin(int.from_bytes(b"\1" + data))[3:], 0

    def take(self, count: int) -> int:
        """A number of `count` bits."""
        bits = self._bits[self._at : self._at + count]
        if len(bits) < count:
            raise ValueError("no more bits")
        self._at += count
        return int(bits, 2)

    def coded(self) -> int:
        """A number in an Exp-Golomb code (section 9.1)."""
        zeros = self._bits.index("1", self._at) - self._at
        self._at += zeros
        return self.take(zeros + 1) - 1
