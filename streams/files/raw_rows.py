"""One row of a file, before anybody knows what its columns mean."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import msgspec

from streams.errors import RejectedEventError


class RawRow(msgspec.Struct, gc=False):
    """One row as the file has it."""

    line: int
    """From 1; in a parquet file the row."""
    mark: str
    """What identifies it: the content up to here, and the line."""
    cells: Mapping[str, Any]
    raw: bytes = b""
    """The line of a text file."""
    problem: RejectedEventError | None = None
    """Why the row cannot be understood."""
    note: str = ""
    """What was odd, though it could be understood."""


@dataclass(frozen=True)
class RawTable:
    """A file that is open."""

    header: list[str]
    whole: bool
    """The header is all there is; else only the first rows were looked at."""
    rows: Iterator[RawRow]
