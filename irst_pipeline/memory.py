"""How much memory a process has, what FFmpeg may take, what the C library keeps, and what is said of too little."""

import ctypes
import os
import platform
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import av

from irst_pipeline.errors import IrstError

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD, M_ARENA_MAX = -1, -3, -8  # of malloc.h
KEPT_FREE, LARGE = 64 << 20, 8 << 20  # bytes
PACKET_MAX = 1 << 26
"""bytes. A packet may claim to be of any length, and FFmpeg would take it all in before anyone sees it."""
_FFMPEG = ctypes.CDLL(av._core.__file__)
OUT_OF_MEMORY = ("memory", "alloc", "unable to find an engine", "start new thread")
"""What PyTorch's, CUDA's, OpenVINO's and Python's errors say of it, which are mostly of no kind of their own."""
OF_ANOTHER_KIND = "illegal memory access"  # a fault of CUDA's


def share_freed_memory() -> None:
    """Have glibc keep up to 64 MiB of freed memory for the next that is asked for, by whatever thread.

    By itself it keeps it in an arena per thread: a run whose connections come and go, each with threads of its own,
    grows for hours. With all blocks of images returned to the system as soon as they are free, it would not; but the
    system clears the pages of each anew, which takes a third of the time a frame of 640x512 does. Elsewhere nothing is
    changed.
    """
    if platform.libc_ver()[0] == "glibc":
        c_library = ctypes.CDLL(None)
        for limit, value in ((M_ARENA_MAX, 1), (M_TRIM_THRESHOLD, KEPT_FREE), (M_MMAP_THRESHOLD, LARGE)):
            c_library.mallopt(limit, value)


def limit_ffmpeg(largest: int = PACKET_MAX) -> None:
    """Have FFmpeg take no block of memory that is larger, bytes.

    PyAV has no call for that, but its module is linked to the library that has: so the module's handle finds it.
    """
    _FFMPEG.av_max_alloc(ctypes.c_size_t(largest))


@contextmanager
def room_for_ffmpeg(largest: int) -> Iterator[None]:
    """Let FFmpeg take a block of so many bytes meanwhile, where that is more than it may else."""
    limit_ffmpeg(max(PACKET_MAX, largest))
    try:
        yield
    finally:
        limit_ffmpeg()


def resident_bytes() -> int:
    """The memory of this process; 0 where the system does not tell, as only Linux does."""
    try:
        pages = int(Path("/proc/self/statm").read_text().split()[1])
    except OSError:
        return 0
    return pages * os.sysconf("SC_PAGE_SIZE")


def lacks_memory(error: Exception) -> bool:
    """Whether it says that there is too little memory, of this machine or of a GPU."""
    said = str(error).lower()
    return isinstance(error, MemoryError) or (OF_ANOTHER_KIND not in said and any(s in said for s in OUT_OF_MEMORY))


@contextmanager
def told_out_of_memory(who: object, shape: Sequence[int]) -> Iterator[None]:
    """Turns a lack of memory for frames (H, W) into an IrstError of one line, which begins with whose it is."""
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        if not lacks_memory(error):
            raise
        raise IrstError(
            f"{who}: out of memory with frames of {shape[1]}x{shape[0]}; use smaller ones, or end other programs"
        ) from None
