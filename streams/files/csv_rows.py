"""a csv file -> raw rows: whatever separates its fields, whatever its quotes do."""

import csv
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Final

from streams.errors import RejectedEventError, StartError
from streams.files.lines import Line, Lines
from streams.files.raw_rows import RawRow, RawTable

_SEPARATORS: Final = ",;\t|"
_QUOTED_LINES: Final = 1000
"""A quoted field that runs longer was never closed."""


def csv_table(path: Path) -> RawTable:
    """Open a csv file; its first line that is not empty is the header.

    Raises:
        StartError: it has no line.
    """
    lines = Lines(path)
    first = next((line for _, line, _ in lines if line.strip()), None)
    if first is None:
        raise StartError(f"{path} is empty; its first line must name the columns.")
    text = first.decode("utf-8", "backslashreplace")
    separator = separator_of(text)
    header = [name.strip() for name in cells_of(text, separator)]
    return RawTable(header, True, _csv_rows(lines, header, separator))


def _csv_rows(lines: Lines, header: list[str], separator: str) -> Iterator[RawRow]:
    for number, line, mark in lines:
        if not line.strip():
            continue
        text = line.decode("utf-8", "surrogateescape")  # what is not UTF-8 is for the cell to say
        problem, note = None, ""
        if '"' in text:
            cells, note = _quoted(lines, Line(number, line, mark), text, len(header), separator)
        else:
            cells = text.split(separator)
        if len(cells) > len(header) and not any(cells[len(header) :]):
            cells = cells[: len(header)]
        if len(cells) != len(header):
            why = note or f"{len(cells)} fields where the header has {len(header)}"
            problem = RejectedEventError("undecodable", why)
        found = {} if problem else dict(zip(header, cells, strict=True))
        yield RawRow(number, mark, found, line, problem, "" if problem else note)


def _quoted(lines: Lines, first: Line, text: str, width: int, separator: str) -> tuple[list[str], str]:
    """Return the fields of a record that may go on over the next lines, and what is wrong with its quotes.

    A quote that is never closed must not swallow the rows after it: where what it holds is a row of its own, or runs
    to the end, the line stands alone and the rows after it are read as such.
    """
    taken = [first]

    def record() -> Iterator[str]:
        yield f"{text}\n"
        for line in islice(lines, _QUOTED_LINES):
            taken.append(line)
            more = line.value.decode("utf-8", "surrogateescape")
            if width > 1 and more.count('"') % 2 == 0 and len(cells_of(more, separator)) == width:
                return
            yield f"{more}\n"

    try:
        return next(csv.reader(record(), delimiter=separator, strict=True)), ""
    except csv.Error:
        lines.put_back(taken[1:])
        try:
            return cells_of(text, separator), f"line {first.number} has a stray quote: double it inside a quoted field"
        except csv.Error as exc:
            return [], str(exc)


def cells_of(line: str, separator: str) -> list[str]:
    """Return the fields of one line, quotes taken as they come."""
    return next(csv.reader([line], delimiter=separator), [])


def separator_of(header: str) -> str:
    """Return what a header is cut at: the character that makes most fields."""
    return max(_SEPARATORS, key=lambda separator: len(cells_of(header, separator)))
