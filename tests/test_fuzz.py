"""Files that nobody vouches for: a result or one clear line, whatever is in them."""

import struct
import subprocess
import sys
import zlib
from pathlib import Path

from tests.running import ROOT


def test_no_mutated_file_crashes_or_hangs_what_reads_it(tmp_path: Path) -> None:
    command = [sys.executable, "tools/fuzz.py", "--cases", "260", "--seed", "7", "--out", str(tmp_path / "out")]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stdout
    lines = [line.split() for line in done.stdout.splitlines()]
    assert sum(int(line[1]) for line in lines) > 20, "some are still read"
    assert sum(int(line[3]) for line in lines) > 100, "most are refused"
    assert not list((tmp_path / "out").glob("[0-9]*")), "only the files of failures are kept"


def test_a_small_file_that_unpacks_to_a_huge_image_is_refused(tmp_path: Path) -> None:
    width, height = 12_000, 6_000

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    rows = zlib.compress(bytes(height * (width + 1)), 1)
    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    file = tmp_path / "huge.png"
    file.write_bytes(b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", rows) + chunk(b"IEND", b""))
    assert file.stat().st_size < 1 << 20
    # The limit is read when OpenCV is imported: it has to hold in a process that begins as `irst` does.
    command = [sys.executable, "-m", "irst_pipeline.cli", "run", str(file), "--out", str(tmp_path / "out")]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=100, check=False)
    assert done.returncode == 1
    assert f"irst: {file.name}: not a readable image" in done.stderr
    assert "not one frame could be read" in done.stderr
