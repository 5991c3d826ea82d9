"""Frames that show nothing new, as a camera of 9 Hz has them that is recorded or converted at 27 or 30 frames/s."""

from dataclasses import replace

from irst_pipeline.sources import checksum
from irst_pipeline.state import Stateful
from irst_pipeline.types import Frame

REPEAT_SECONDS = 0.25
"""After the last new picture; two periods of the slowest thermal cameras, of 8.3 to 9 Hz. One that stays for longer is
of a scene in which nothing moves, as compressed video shows it, and what is seen there is seen again and again."""


class Repeats(Stateful):
    """Finds the frames that repeat the one before. It is to be shown those that are worked on, and no others: what
    repeats one that was dropped is new."""

    kept = ("_checksum", "_since")

    def __init__(self) -> None:
        self._checksum: int | None = None  # of the last picture
        self._since = 0.0  # s, time of the frame that first showed it

    def marked(self, frame: Frame) -> Frame:
        """The next frame, which says whether it repeats the one before."""
        shown = checksum(frame)
        if shown != self._checksum:
            self._checksum, self._since = shown, frame.time
            return frame
        return replace(frame, repeats=frame.time - self._since <= REPEAT_SECONDS)
