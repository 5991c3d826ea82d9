"""AVI files of uncompressed 16-bit grey levels, which FFmpeg does not know or takes for colours of 5 bits."""

import struct
from pathlib import Path

from av.video.codeccontext import VideoCodecContext

HEAD_BYTES = 1 << 16
FORMAT = struct.Struct("<4xii2xH4s")  # of a BITMAPINFOHEADER: width, height, bits of a pixel, FOURCC


def grey16_decoder(path: Path) -> VideoCodecContext | None:
    """A decoder of the frames of an AVI that has the FOURCC Y16, as recorders of 16-bit cameras write it, or none and
    lines from top to bottom, as FFmpeg writes grey (Windows writes colours of 16 bits upwards); None for other files.
    """
    with path.open("rb") as file:
        head = file.read(HEAD_BYTES)
    at = head.find(b"strf", head.find(b"vids")) + 8
    if not (head.startswith(b"RIFF") and head[8:12] == b"AVI " and at >= 8 and len(head) >= at + FORMAT.size):
        return None
    width, height, bits, fourcc = FORMAT.unpack_from(head, at)
    if bits != 16 or not (fourcc == b"Y16 " or (fourcc == bytes(4) and height < 0)):
        return None
    decoder = VideoCodecContext.create("rawvideo", "r")
    decoder.width, decoder.height, decoder.pix_fmt = width, abs(height), "gray16le"
    return decoder
