"""How much memory a process has, what the C library keeps of what a run gives back, and what is said of too little."""

import ctypes
import os
import platform
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from irst_pipeline.errors import IrstError

M_MMAP_THRESHOLD = -3  # of malloc.h
LARGE = 1 << 20  # bytes; most images and maps are larger
OUT_OF_MEMORY = ("memory", "alloc")
"""What PyTorch's and OpenVINO's errors say of it, which are not of its own kind."""


def give_back_large_blocks() -> None:
    """Have glibc return blocks of over 1 MiB to the system as soon as they are free.

    By itself it moves that limit up to 32 MiB as blocks are freed, and then keeps free ones in an arena per thread:
    a run whose connections come and go, each with threads of its own, grows for hours. Elsewhere nothing is changed.
    """
    if platform.libc_ver()[0] == "glibc":
        ctypes.CDLL(None).mallopt(M_MMAP_THRESHOLD, LARGE)


def resident_bytes() -> int:
    """The memory of this process; 0 where the system does not tell, as only Linux does."""
    try:
        pages = int(Path("/proc/self/statm").read_text().split()[1])
    except OSError:
        return 0
    return pages * os.sysconf("SC_PAGE_SIZE")


@contextmanager
def told_out_of_memory(who: object, shape: Sequence[int]) -> Iterator[None]:
    """Turns a lack of memory for frames (H, W) into an IrstError of one line, which begins with whose it is."""
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        if not isinstance(error, MemoryError) and not any(sign in str(error) for sign in OUT_OF_MEMORY):
            raise
        raise IrstError(
            f"{who}: out of memory with frames of {shape[1]}x{shape[0]}; use smaller ones, or end other programs"
        ) from None
