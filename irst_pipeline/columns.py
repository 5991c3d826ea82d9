"""Numbers in named columns of a CSV, as of a logger beside a camera."""

import csv
import math
from array import array
from collections.abc import Callable
from itertools import chain
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from irst_pipeline.errors import UsageError
from irst_pipeline.settings import read_lines
from irst_pipeline.types import Floats

FRAME, TIME = "frame", "time_s"
"""What a column of indices of frames, from 0, is called, and one of times, s."""


class Columns(NamedTuple):
    """Those columns of a CSV that were wanted; n rows, k columns."""

    path: Path
    names: list[str]
    """(k,)"""
    lines: list[int]
    """(n,) the line of each row, from 1."""
    table: Floats
    """(n, k), all finite."""

    def refuse(self, bad: NDArray[np.bool_], what: str) -> None:
        """Raises UsageError for the first row that is `bad` (n,)."""
        if bad.any():
            raise _wrong(self.path, self.lines[int(bad.argmax())], what)

    def refuse_unsorted(self, name: str) -> None:
        """Raises UsageError for the first row in which a column does not increase."""
        falls = np.diff(self.table[:, self.names.index(name)], prepend=-np.inf) <= 0
        self.refuse(falls, f"{name} does not increase; sort the rows, one for each {name}")

    def frames(self) -> list[int]:
        """The column FRAME (n,); raises UsageError for the first row that holds no index."""
        column = self.table[:, self.names.index(FRAME)]
        self.refuse((column < 0) | (column % 1 != 0), f"{FRAME} is no index; count from 0")
        return [int(number) for number in column.tolist()]


def read_columns(path: Path, wanted: Callable[[list[str]], list[str]]) -> Columns:
    """The columns of a CSV with a header line that are `wanted` of those that it names, in letters of any case.

    Between columns are commas, semicolons or tabs, as the header line has them; decimals may have commas where columns
    have none, as spreadsheets write them in many countries. `wanted` takes the names in lower case, and raises
    ValueError where it lacks one. Raises UsageError, one line, for a file that cannot be read, a column that is there
    twice, and a row without a number in one of them.
    """
    text = read_lines(path)
    header = next(text, "")
    separator = max(";,\t", key=header.count)  # one column alone has none
    decimal = "." if separator == "," else ","
    reader = csv.reader(chain([header], text), delimiter=separator, skipinitialspace=True)
    lines, numbers = list[int](), array("d")
    try:
        present = [name.strip().lower() for name in next(reader, [])]
        names = _named(path, present, wanted)
        places = [present.index(name) for name in names]
        for row in reader:
            if not row:
                continue
            line = reader.line_num
            if any(row[len(present) :]):  # as where decimals have commas, so that one number fills two cells
                raise _wrong(path, line, "more cells than columns; if decimals have commas, columns need semicolons")
            for name, place in zip(names, places, strict=True):
                cell = row[place] if place < len(row) else ""
                numbers.append(_number(cell, decimal, path, line, name))
            lines.append(line)
    except csv.Error as error:
        raise _wrong(path, reader.line_num, f"cannot read it ({error})") from None
    return Columns(path, names, lines, np.reshape(numbers, (len(lines), len(names))))


def require(present: list[str], *names: str) -> list[str]:
    """These columns; raises ValueError, as `wanted` should, for the first that is not `present`."""
    if missing := next((name for name in names if name not in present), None):
        raise ValueError(f"no column {missing}; name the columns there, apart by commas, semicolons or tabs")
    return [*names]


def _named(path: Path, present: list[str], wanted: Callable[[list[str]], list[str]]) -> list[str]:
    try:
        names = wanted(present)
    except ValueError as error:
        raise _wrong(path, 1, str(error)) from None
    if twice := [name for name in names if present.count(name) > 1]:
        raise _wrong(path, 1, f"column {twice[0]} is there {present.count(twice[0])} times; keep one")
    return names


def _number(cell: str, decimal: str, path: Path, line: int, name: str) -> float:
    try:
        number = float(cell.replace(decimal, "."))
    except ValueError:
        number = math.nan
    if not math.isfinite(number):
        what = repr(cell) if cell else "missing"
        raise _wrong(path, line, f"{name} is {what}; expected a number, or strike the row out")
    return number


def _wrong(path: Path, line: int, what: str) -> UsageError:
    return UsageError(f"{path} line {line}: {what}")
