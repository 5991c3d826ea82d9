"""The one family of errors whose message is the line the user sees."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager


class IrstError(Exception):
    """Something went wrong in a way the user can mend; the message names what and how. Exit code 1."""

    exit_code = 1


class UsageError(IrstError):
    """A command line or a config that cannot be carried out as written. Exit code 2."""

    exit_code = 2


class FrameError(IrstError):
    """One frame could not be read; the next ones may be. Counted and reported, the run goes on."""


def refusal(error: OSError) -> str:
    """The line for what the file system refuses, which is the user's to mend, wherever it comes up."""
    return f"{error.filename or 'a file'}: {error.strerror or error}"


def reason_of(error: BaseException) -> str:
    """What an error says, or of what kind it is where it says nothing."""
    return str(error) or type(error).__name__


@contextmanager
def told_in_one_line(program: str) -> Iterator[None]:
    """Ends the process with the line and the exit code where something goes wrong that the user can mend."""
    try:
        yield
    except FileExistsError as error:
        sys.exit(f"{program}: error: {error.filename}: is there already; choose another place with --out")
    except OSError as error:
        sys.exit(f"{program}: error: {refusal(error)}")
    except IrstError as error:
        print(f"{program}: error: {error}", file=sys.stderr)
        sys.exit(error.exit_code)
    except KeyboardInterrupt:
        sys.exit(130)
