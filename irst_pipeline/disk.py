"""How everything is written to disk: every error one line, nothing lost that was there.

What is written is the system's at once, so that a process that is killed loses none of it. When the system puts it on
the disk is its own affair: a power cut may lose the last seconds.
"""

import csv
import errno
import fcntl
import io
import json
import logging
import os
import resource
import shutil
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from glob import escape
from itertools import count
from pathlib import Path
from tempfile import TemporaryFile
from typing import Any

from irst_pipeline.errors import IrstError, UsageError

log = logging.getLogger("irst")

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


@contextmanager
def held(folder: Path) -> Iterator[int | None]:
    """Lock a folder, so that no other run writes there meanwhile; raises UsageError while another one has locked it.

    Yields the descriptor that holds the lock, also in a process that inherits it, where the file system has locks; None
    for a folder that cannot be opened.
    """
    handle = None
    with ExitStack() as opened:
        with suppress(OSError):  # one that cannot be opened, or on a file system without locks
            handle = os.open(folder, os.O_RDONLY)
            opened.callback(os.close, handle)
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                mend = "wait for its end, or choose another folder with --out"
                raise UsageError(f"{folder}: another run is writing there; {mend}") from None
        yield handle


def let_go(handle: int | None) -> None:
    """Unlock a folder that is `held` by this descriptor."""
    if handle is not None:
        with suppress(OSError):  # a file system without locks
            fcntl.flock(handle, fcntl.LOCK_UN)


def claim_file(path: Path, inputs: Iterable[Path], overwrite: bool) -> None:
    """Make the folder for a result of this name, and leave what is in it.

    Raises UsageError for one that is there already, unless to `overwrite`, and where that would replace an input;
    IrstError where nothing can be written.
    """
    if path.is_dir():
        raise UsageError(f"{path}: is a folder; give a file with --out")
    if path.exists():
        if not overwrite:
            raise UsageError(f"{path}: is there already; add --overwrite, or choose another name with --out")
        if path.resolve() in {each.resolve() for each in inputs}:
            raise UsageError(f"{path}: is among the inputs; choose another name with --out")
    make_folder(path.parent)
    try:
        with TemporaryFile(dir=path.parent):
            pass
    except OSError as error:
        raise _no_folder(path.parent, error) from None


def claim_folder(folder: Path, names: Iterable[str], inputs: Iterable[Path], overwrite: bool) -> list[Path]:
    """Make the folder for results of these names, and leave what is in it; returns the results' paths.

    Raises UsageError for a folder that holds something already, unless to `overwrite`, and where results would replace
    an input; IrstError where the folder cannot be made.
    """
    if folder.is_dir() and any(folder.iterdir()) and not overwrite:
        raise UsageError(
            f"{folder}: not empty; add --overwrite to replace the results in it, or choose another folder with --out"
        )
    results = {path.resolve(): path for path in (folder / name for name in names)}
    for path in inputs:
        if path.resolve() in results:
            raise UsageError(f"{path}: would be replaced by the results; choose another folder with --out")
    make_folder(folder)
    return list(results.values())


def prepare_folder(folder: Path, names: Iterable[str], inputs: Iterable[Path], overwrite: bool) -> None:
    """Make the folder as `claim_folder` does, and remove the results of an earlier run from it."""
    clear_folder(folder, claim_folder(folder, names, inputs, overwrite))


def clear_folder(folder: Path, results: Iterable[Path], keep: bool = False) -> None:
    """Remove the results of an earlier run from the folder, or with `keep` move them into one in it.

    `results` are their paths, as `claim_folder` returns them. Raises IrstError where that cannot be.
    """
    try:
        if keep:
            _keep_aside(folder, [path for path in results if path.exists()])
        else:
            for path in results:
                path.unlink(missing_ok=True)
    except OSError as error:
        raise _no_folder(folder, error) from None


def _keep_aside(folder: Path, found: list[Path]) -> None:
    """Move files of a folder, if there are any, into a new one in it."""
    if found:
        aside = next(path for number in count(1) if not (path := folder / f"before-{number}").exists())
        log.warning("%s: holds results from which no run can go on; they are kept in %s", folder, aside.name)
        aside.mkdir()
        for path in found:
            path.replace(aside / path.name)


def make_folder(folder: Path) -> None:
    """Make a folder for results, if it is not there; raises UsageError for a file, IrstError where it cannot be."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except FileExistsError:
        raise UsageError(f"{folder}: is a file; give a folder with --out") from None
    except OSError as error:
        raise _no_folder(folder, error) from None


def _no_folder(folder: Path, error: OSError) -> IrstError:
    return IrstError(f"{folder}: cannot write there ({error.strerror}); choose another folder with --out")


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
