"""Where results go: folders that are claimed before a run, cleared of earlier results, and locked while it writes."""

import fcntl
import logging
import os
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from itertools import count
from pathlib import Path
from tempfile import TemporaryFile

from irst_pipeline.errors import IrstError, UsageError

log = logging.getLogger("irst")


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
