"""What is sent over the network while a run lasts, to whoever listens: tracks and the annotated video, by UDP.

Nothing waits for a listener, and none can hold the run up. Where a frame cannot be sent it is counted, and said once.
"""

import logging
import socket
from abc import ABC, abstractmethod
from contextlib import suppress
from time import sleep
from typing import Any

import av

from irst_pipeline.errors import IrstError
from irst_pipeline.sinks.annotate import Annotator
from irst_pipeline.sinks.base import RunHeader, Sink, utc_text
from irst_pipeline.sinks.encode import H264
from irst_pipeline.sinks.jsonl import SCHEMA, lines, records_of
from irst_pipeline.state import State, Stateful, part_of
from irst_pipeline.types import Frame, FrameResult

log = logging.getLogger("irst")

DATAGRAM_BYTES = 1400
"""Of text in a datagram: a larger one is cut to pieces on its way, and lost with any of them."""
VIDEO_BYTES = 7 * 188
"""Of MPEG-TS in a datagram: as many of its packets as fit."""
SEND_SECONDS = 0.1
"""A datagram that the system does not take for so long is given up."""
BURST, PAUSE_SECONDS = 48, 0.001
"""Datagrams sent at once, and the wait before the next ones: a listener's socket holds some 90 by default."""


class Sender(Stateful, ABC):
    """Sends something of every frame to an address."""

    kept = ("missed",)

    def __init__(self, what: str, address: str, _header: RunHeader, state: State | None) -> None:
        """`what`: the setting that asks for it. Raises IrstError where the host has no address."""
        self._what = f"{what}: {address}"
        self._socket, self._to = _socket_to(self._what, address)
        self._failing = False
        self.missed = 0
        if state is not None:
            self.restore(state)

    @abstractmethod
    def datagrams(self, result: FrameResult) -> list[bytes]:
        """What is sent of a frame, in its order."""

    def write(self, result: FrameResult) -> None:
        datagrams = self.datagrams(result)
        try:
            for number, datagram in enumerate(datagrams, 1):
                self._socket.sendto(datagram, self._to)
                if number % BURST == 0:
                    sleep(PAUSE_SECONDS)
        except OSError as error:
            if not self._failing:
                why = error.strerror or error
                log.warning("%s: cannot send (%s); frames are counted until it can", self._what, why)
            self._failing = True
            self.missed += 1
            return
        if self._failing:
            log.warning("%s: it goes on; %d frames in all could not be sent", self._what, self.missed)
        self._failing = False

    def close(self) -> None:
        self._socket.close()


class SentTracks(Sender):
    """The records of `tracks.jsonl` in datagrams of whole lines, each after one that says of which frame they are.

    A frame without a track is sent too, so that a listener knows that the run lives.
    """

    def datagrams(self, result: FrameResult) -> list[bytes]:
        first = lines([_frame_record(result.frame)])
        datagrams = [first]
        for record in records_of(result):
            line = lines([record])
            if len(datagrams[-1]) + len(line) > DATAGRAM_BYTES:
                datagrams.append(first)
            datagrams[-1] += line
        return datagrams


# Of a frame whose length it is told a player knows the end without the next one, and is one frame less behind.
_MUXER = {"flush_packets": "1", "omit_video_pes_length": "0"}


class SentVideo(Sender):
    """The annotated video as H.264 in MPEG-TS, of the first frame's size. A player can begin at any second."""

    def __init__(self, what: str, address: str, header: RunHeader, state: State | None) -> None:
        super().__init__(what, address, header, state)
        self._annotated, self._muxed = Annotator(header.settings.video), _Muxed()
        self._container = av.open(self._muxed, "w", format="mpegts", container_options=_MUXER)
        self._encoder = H264(self._container, header.frame_rate)

    def datagrams(self, result: FrameResult) -> list[bytes]:
        try:
            self._encoder.write(self._annotated(result), result.frame.time)
        except av.FFmpegError as error:
            raise IrstError(f"{self._what}: cannot encode it ({error.strerror}); run without it") from None
        muxed = self._muxed.taken()
        return [muxed[at : at + VIDEO_BYTES] for at in range(0, len(muxed), VIDEO_BYTES)]

    def close(self) -> None:
        with suppress(av.FFmpegError):
            self._container.close()
        super().close()


def open_senders(header: RunHeader, state: State | None = None) -> dict[str, Sink[FrameResult]]:
    """What the settings say is to be sent, by the setting's name; with a `state` that has its counters, they go on.

    Raises IrstError, one line, for a host without an address.
    """
    send = header.settings.send
    wanted = {"send.tracks": (SentTracks, send.tracks), "send.video": (SentVideo, send.video)}
    return {
        what: kind(what, address, header, part_of(state or {}, what) or None)
        for what, (kind, address) in wanted.items()
        if address
    }


class _Muxed:
    """A file that a container is written to; holds what has not been taken yet."""

    def __init__(self) -> None:
        self._bytes = bytearray()

    def write(self, data: bytes) -> int:
        self._bytes += data
        return len(data)

    def taken(self) -> bytes:
        data = bytes(self._bytes)
        self._bytes.clear()
        return data


def _socket_to(what: str, address: str) -> tuple[socket.socket, tuple[Any, ...]]:
    """A socket, and where to send from it."""
    host, _, port = address.removeprefix("udp://").rpartition(":")
    try:
        found = socket.getaddrinfo(host.strip("[]"), port, type=socket.SOCK_DGRAM)
        # Of a name with both, as localhost, the IPv4 address: there most listeners wait, unless told otherwise.
        family, kind, protocol, _, to = min(found, key=lambda each: each[0] != socket.AF_INET)
        sender = socket.socket(family, kind, protocol)
    except (OSError, UnicodeError) as error:  # the latter for a name that can be none, as of an empty or long label
        why = error.strerror if isinstance(error, OSError) else "no name of a host is like this"
        raise IrstError(f"{what}: the host has no address here ({why}); give another name, or its address") from None
    sender.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)
    sender.settimeout(SEND_SECONDS)
    return sender, to


def _frame_record(frame: Frame) -> dict[str, Any]:
    height, width = frame.image.shape
    return {
        "record": "frame",
        "schema": SCHEMA,
        "source": frame.source,
        "frame": frame.index,
        "time": round(frame.time, 6),
        "utc": utc_text(frame),
        "width": width,
        "height": height,
    }
