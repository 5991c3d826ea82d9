"""How much memory a process has, and what the C library keeps of what a run gives back."""

import ctypes
import os
import platform
from pathlib import Path

M_MMAP_THRESHOLD = -3  # of malloc.h
LARGE = 1 << 20  # bytes; most images and maps are larger


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
