"""What the C library keeps of the memory that a run gives back."""

import ctypes
import platform

M_MMAP_THRESHOLD = -3  # of malloc.h
LARGE = 1 << 20  # bytes; most images and maps are larger


def give_back_large_blocks() -> None:
    """Have glibc return blocks of over 1 MiB to the system as soon as they are free.

    By itself it moves that limit up to 32 MiB as blocks are freed, and then keeps free ones in an arena per thread:
    a run whose connections come and go, each with threads of its own, grows for hours. Elsewhere nothing is changed.
    """
    if platform.libc_ver()[0] == "glibc":
        ctypes.CDLL(None).mallopt(M_MMAP_THRESHOLD, LARGE)
