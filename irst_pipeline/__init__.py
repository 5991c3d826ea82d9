"""Infrared search and track."""

import os

__version__ = "0.1.0"

# These are read when their library is imported, which comes after this. With all cores busy, OpenMP threads that spin
# while they wait make PyTorch several times slower; no image may claim more memory than a frame can need; and what
# cannot be read is said by us.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
os.environ.setdefault("OPENCV_IO_MAX_IMAGE_PIXELS", str(1 << 26))
os.environ.setdefault("OPENCV_LOG_LEVEL", "SILENT")
