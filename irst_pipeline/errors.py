"""The one family of errors whose message is the line the user sees."""


class IrstError(Exception):
    """Something went wrong in a way the user can mend; the message names what and how. Exit code 1."""

    exit_code = 1


class UsageError(IrstError):
    """A command line or a config that cannot be carried out as written. Exit code 2."""

    exit_code = 2


class FrameError(IrstError):
    """One frame could not be read; the next ones may be. Counted and reported, the run goes on."""
