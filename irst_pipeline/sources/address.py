"""Addresses of live sources: their kinds, and what of them may be said."""

import os
import re
from pathlib import Path
from urllib.parse import parse_qsl

NETWORK = ("rtsp", "rtsps", "rtp", "udp", "tcp", "http", "https")
ADDRESS = rf"([A-Za-z][\w+.-]*):/+|({'|'.join(NETWORK)}):"  # how one begins, also with slashes too few
QUERY = r"\?|=|%(?:25)*3[FD]"  # what begins one, or a value in it, also percent-encoded, however often
DEVICES = ("gige", "usb3", "v4l2", "fifo", "stdin")  # give each of their frames once
LOCAL = (*DEVICES, "raw")  # without passwords


def scheme_of(uri: str) -> str | None:
    """The word before ://, in lower case; None for a path. Standard input may be written as - alone."""
    if uri == "-":
        return "stdin"
    found = re.match(r"([A-Za-z][\w+.-]*)://", uri)
    return found[1].lower() if found else None


def is_live(uri: str) -> bool:
    """Whether it is meant to be a live source, and not a recording."""
    return scheme_of(uri) not in (None, "raw")


def path_and_fields(uri: str) -> tuple[str, dict[str, str]]:
    """The path of an address of `LOCAL`, and the fields behind its ?."""
    path, _, query = uri.partition("://")[2].partition("?")
    return path, dict(parse_qsl(query, keep_blank_values=True))


def named_after(pattern: str, uri: str) -> Path:
    """The file that `pattern` names for the recording `uri`: {} in it is the recording's path without its suffix, of
    which a folder has none."""
    recording = Path(path_and_fields(uri)[0] if scheme_of(uri) == "raw" else uri)
    plain = recording if recording.is_dir() else recording.parent / recording.stem
    return Path(pattern.replace("{}", str(plain)))


def redact(uri: str) -> str:
    """`uri` as it may be shown and stored: of a network address, user and password are gone, and what follows ? or =.

    All up to the last @ counts as a password that may hold any sign, and what is percent-encoded as what it stands for.
    Other addresses and paths stay as they are.
    """
    scheme = re.match(ADDRESS, uri, re.IGNORECASE)
    if not scheme or (scheme[1] or "").lower() in LOCAL:
        return uri
    rest = re.sub(r".*(@|%(25)*40)", "***@", uri[scheme.end() :], flags=re.DOTALL)
    return scheme[0] + re.sub(f"({QUERY}).*", r"\1***", rest, flags=re.DOTALL | re.IGNORECASE)


def printable(name: str) -> str:
    """A file's name, which may be of any bytes, with a sign for each that is not UTF-8."""
    return os.fsencode(name).decode(errors="replace")


def without_passwords(text: str) -> str:
    """A line with what may be a user's name and password left out, wherever an address has got into it."""
    user = r"(?<![\w/.-])(?://)?[A-Za-z][\w+.-]*:"  # without a scheme before it; no colon within a path
    return re.sub(rf"({ADDRESS}|{user})[^\s/]\S*@", r"\1***@", text, flags=re.IGNORECASE)
