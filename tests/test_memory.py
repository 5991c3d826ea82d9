"""What the C library does with memory that is freed."""

import platform
import subprocess
import sys

import pytest

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
