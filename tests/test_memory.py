"""What the C library does with memory that is freed, and which errors say that there is too little."""

import platform
import subprocess
import sys

import pytest

from irst_pipeline.memory import lacks_memory

IMAGES_IN_THREADS = """
import resource, threading
import numpy as np
from irst_pipeline.memory import resident_bytes, share_freed_memory

def images():
    for _ in range(20):
        [np.ones((512, 640), np.float32) for _ in range(8)]

def faults():
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt

def threads(count):
    for _ in range(count):
        thread = threading.Thread(target=images)
        thread.start()
        thread.join()

share_freed_memory()
threads(5)
before = faults(), resident_bytes()
threads(50)
print(faults() - before[0], resident_bytes() - before[1])
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc is told")
def test_images_of_threads_that_come_and_go_take_the_same_memory_again() -> None:
    told = subprocess.run([sys.executable, "-c", IMAGES_IN_THREADS], capture_output=True, text=True, check=True).stdout
    faults, grown = map(int, told.split())
    assert faults < 1000, "pages that the system had to clear, of 2,500,000 in all images"
    assert grown < 1 << 20


@pytest.mark.parametrize(
    ("error", "lacks"),
    [
        (MemoryError(), True),
        (RuntimeError("[enforce fail at alloc_cpu.cpp:127] DefaultCPUAllocator: can't allocate memory"), True),
        (RuntimeError("std::bad_alloc"), True),
        (RuntimeError("CUDA out of memory. Tried to allocate 2.00 GiB"), True),
        (RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"), True),
        (RuntimeError("can't start new thread"), True),
        (RuntimeError("GET was unable to find an engine to execute this computation"), True),
        (RuntimeError("CUDA error: an illegal memory access was encountered"), False),
        (RuntimeError("CUDA error: unspecified launch failure"), False),
    ],
)
def test_a_lack_of_memory_is_told_from_other_failures(error: Exception, lacks: bool) -> None:
    assert lacks_memory(error) == lacks
