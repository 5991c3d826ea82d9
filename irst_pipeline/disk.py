"""How everything is written to disk: every error one line, nothing lost that was there.

What is written is the system's at once, so that a process that is killed loses none of it. When the system puts it on
the disk is its own affair: a power cut may lose the last seconds.
"""

import csv
import errno
import io
import json
import os
import resource
import shutil
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from glob import escape
from pathlib import Path
from typing import Any

from irst_pipeline.errors import IrstError

_MENDS = {
    errno.ENOSPC: "free some space on that disk, or choose a folder on another one",
    errno.EDQUOT: "your quota is used up: free some of it, or choose a folder on another disk",
    errno.EACCES: "choose a folder you may write to",
    errno.EPERM: "choose a folder you may write to",
    errno.EROFS: "choose a folder on a disk that can be written",
    errno.EFBIG: "files may not be so large here: raise that limit (ulimit -f), or of a run set rotate.megabytes",
    errno.ENAMETOOLONG: "its name is too long here: shorten it",
    errno.ENOENT: "create that folder first, or choose another",
}


def allow_many_files() -> None:
    """As many files may be open as the system lets this process have: what it starts with is few for many recordings,
    of which each, its folder and its results are open."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    with suppress(OSError, ValueError):  # a system may set a bound of its own below what it says
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


class OutputFile:
    """A file that holds all of a `write` once that returns, even if the process is then killed, and that ends with a
    whole one even when the disk is full.

    Replaces a file of that name, and begins with `head`; with a `size` it goes on after so many bytes of the file that
    is there. Every disk error is an IrstError that names the file and the mend; after it the file stays as it was
    before that write, and what follows is ignored until `failed` is set back.
    """

    def __init__(self, path: Path, head: bytes = b"", size: int | None = None) -> None:
        self.path = path
        self.failed = False
        self.size = size or 0
        with self._one_line():
            if size is not None:
                os.truncate(path, size)
            self._file = path.open("wb" if size is None else "ab", buffering=0)
        try:
            self.write(head)
        except IrstError:
            self._file.close()
            if size is None:
                path.unlink(missing_ok=True)  # an empty file would be taken for results
            raise

    def write(self, data: bytes) -> int:
        """Write all of `data` and return its length."""
        if not self.failed:
            with self._one_line():
                rest = memoryview(data)
                while rest:
                    rest = rest[self._file.write(rest) :]
                self.size = max(self.size, self._file.tell())
        return len(data)

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Go to a place in the file, for formats that complete their beginning at the end."""
        return self._file.seek(offset, whence)

    def tell(self) -> int:
        """The place in the file."""
        return self._file.tell()

    def close(self) -> None:
        """Let the file go as it is; quiet when called again."""
        with self._one_line():
            self._file.close()

    @contextmanager
    def _one_line(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            self.failed = True
            with suppress(OSError, AttributeError, ValueError):  # a device, or never opened, or closed already
                os.truncate(self._file.fileno(), self.size)
                self._file.seek(self.size)
            raise _cannot_write(self.path, error) from None


def free_space(path: Path) -> int:
    """Bytes left on the disk of a file; raises IrstError where its folder is gone."""
    try:
        return shutil.disk_usage(path.parent).free
    except OSError as error:
        raise _cannot_write(path, error) from None


def _cannot_write(path: Path, error: OSError) -> IrstError:
    mend = _MENDS.get(error.errno or 0, "check that disk, or choose a folder on another one")
    return IrstError(f"{path}: cannot write it ({error.strerror or error}); {mend}")


def write_file(path: Path, data: bytes) -> None:
    """Write a file whole, in the place of one that is there; raises IrstError that names it and the mend.

    Whenever the process is killed, all of either the old one or the new one is there.
    """
    fresh, _ = beside(path)
    try:
        fresh.write_bytes(data)
        fresh.replace(path)
    except OSError as error:
        with suppress(OSError):
            fresh.unlink(missing_ok=True)
        raise _cannot_write(path, error) from None


def with_sorted_header(file: bytes) -> bytes:
    """A safetensors file with its header in the order of the alphabet: who writes one leaves that of the metadata to
    chance, and what holds the same should be the same file."""
    end = 8 + int.from_bytes(file[:8], "little")
    header = json.dumps(json.loads(file[8:end]), sort_keys=True, separators=(",", ":")).encode()
    header += b" " * (-len(header) % 8)  # data stay aligned
    return len(header).to_bytes(8, "little") + header + file[end:]


def rewrite_file(path: Path, data: bytes) -> None:
    """As `write_file`, for what is written again and again and is to be there also once the disk is full: it is written
    over the one before the last, whose place is kept in a file `beside` it.
    """
    spare, old = beside(path)
    try:
        with spare.open("r+b" if spare.exists() else "wb") as file:
            file.write(data)
            file.truncate()
        with suppress(OSError):  # the first time, or on a file system without links: then no place is kept
            old.unlink(missing_ok=True)
            old.hardlink_to(path)
        spare.replace(path)
        with suppress(OSError):
            old.replace(spare)
    except OSError as error:
        raise _cannot_write(path, error) from None


def beside(path: Path) -> tuple[Path, Path]:
    """Where a file is written before it takes its place, and where the last one is for a moment."""
    return path.with_name(f".{path.name}.new"), path.with_name(f".{path.name}.old")


def write_json(path: Path, report: Mapping[str, Any]) -> None:
    """Write a report that people read as well, as `write_file` does."""
    write_file(path, f"{json.dumps(report, indent=2)}\n".encode())


def write_table(path: Path, header: list[str], rows: Iterable[list[Any]]) -> None:
    """Write a CSV, as `write_file` does."""
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows([header, *rows])
    write_file(path, text.getvalue().encode())


def part_file(path: Path, number: int) -> Path:
    """Where part `number`, from 1, of a file in parts is set aside; the last one has the file's own name."""
    return path.with_name(f"{path.stem}-{number:06}{path.suffix}")


def parts_set_aside(path: Path) -> list[Path]:
    """The parts of a file that are complete, in their order."""
    return sorted(path.parent.glob(f"{escape(path.stem)}-{6 * '[0-9]'}{escape(path.suffix)}"))


def all_parts(path: Path) -> list[Path]:
    """Those, and the last one, which need not be there."""
    return [*parts_set_aside(path), path]


def set_aside(path: Path, number: int) -> None:
    """Make a file that is complete part `number`."""
    try:
        path.replace(part_file(path, number))
    except OSError as error:
        raise _cannot_write(path, error) from None
