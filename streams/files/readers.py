"""a file -> raw rows: jsonl, csv (any separator, also .gz) and parquet, each row with its line and what identifies it.

A row is known by what the file holds up to its end, not by the file's name: a copy under another name has the same
marks, and so has the beginning of a file that has grown since.
"""

import csv
from collections.abc import Iterable, Iterator
from itertools import chain, islice, takewhile
from pathlib import Path
from typing import Any, Final

import msgspec
from xxhash import xxh3_64

from streams.errors import RejectedEventError, StartError
from streams.files.csv_rows import csv_table
from streams.files.lines import Lines, open_text
from streams.files.raw_rows import RawRow, RawTable

KINDS: Final = "jsonl, csv or parquet (text also with .gz)"
_SUFFIXES: Final = {
    "jsonl": "jsonl", "ndjson": "jsonl", "csv": "csv", "tsv": "csv", "txt": "csv", "inter": "csv", "parquet": "parquet",
}  # fmt: skip
_PEEKED: Final = 1000
"""Rows of a jsonl file whose names make its header."""
_CHUNK_ROWS: Final = 8192


def kind_of(path: Path) -> str | None:
    """Return jsonl, csv or parquet by the name's ending, None for another."""
    name = path.name.lower().removesuffix(".gz")
    return _SUFFIXES.get(name.rpartition(".")[2])


def open_table(path: Path) -> RawTable:
    """Open a file; its rows are read as they are taken, a chunk in memory.

    Raises:
        StartError: it cannot be read; from the rows, too.
    """
    try:
        table = _READERS[kind_of(path) or "csv"](path)
    except (OSError, EOFError, csv.Error) as exc:
        raise _unreadable(path, exc) from exc
    return RawTable(table.header, table.whole, _told(path, table.rows))


def count_rows(path: Path) -> int:
    """Return how many lines or rows a file has, so that progress can be shown.

    Raises:
        StartError: the file cannot be read.
    """
    try:
        if kind_of(path) == "parquet":
            return _count_parquet(path)
        with open_text(path) as file:
            return sum(block.count(b"\n") for block in iter(lambda: file.read(1 << 20), b""))
    except (OSError, EOFError) as exc:
        raise _unreadable(path, exc) from exc


def known_mark(path: Path, marks: Iterable[str]) -> str:
    """Return the one of these marks that names a line of this file, the last such line; empty when none does.

    Raises:
        StartError: the file cannot be read.
    """
    wanted = {mark: line_of(mark) for mark in marks}
    last = max(wanted.values(), default=0)
    found = ""
    try:
        if kind_of(path) == "parquet" and wanted:
            content = _content(path)
            return max((mark for mark in wanted if mark == f"{content}-{wanted[mark]}"), key=line_of, default="")
        for line in takewhile(lambda line: line.number <= last, Lines(path)) if last else ():
            if line.mark in wanted:
                found = line.mark
    except (OSError, EOFError) as exc:
        raise _unreadable(path, exc) from exc
    return found


def line_of(mark: str) -> int:
    """Return the line that a mark names.

    >>> line_of("2e176d7abd7463d7-51")
    51
    """
    return int(mark.rpartition("-")[2] or 0)


def _jsonl_table(path: Path) -> RawTable:
    rows = (_json_row(number, line, mark) for number, line, mark in Lines(path) if line.strip())
    first = list(islice(rows, _PEEKED))
    return RawTable(list(dict.fromkeys(name for row in first for name in row.cells)), False, chain(first, rows))


def _json_row(number: int, line: bytes, mark: str) -> RawRow:
    try:
        found = msgspec.json.decode(line)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as exc:
        problem = RejectedEventError("undecodable", f"the line is not UTF-8 JSON ({exc})")
        return RawRow(number, mark, {}, line, problem)
    if isinstance(found, dict):
        return RawRow(number, mark, found, line)
    return RawRow(number, mark, {}, line, RejectedEventError("wrong_type", "the line is JSON, but no object"))


def _parquet_table(path: Path) -> RawTable:
    import polars as pl

    try:
        table = pl.scan_parquet(path, low_memory=True)
        header = table.collect_schema().names()
    except pl.exceptions.PolarsError as exc:
        raise _no_parquet(path, exc) from exc
    return RawTable(header, True, _parquet_rows(path, table))


def _parquet_rows(path: Path, table: Any) -> Iterator[RawRow]:  # noqa: ANN401 - polars is imported where needed
    import polars as pl

    content, line = _content(path), 0
    try:
        for chunk in table.collect_batches(chunk_size=_CHUNK_ROWS, maintain_order=True):
            for line, row in enumerate(chunk.iter_rows(named=True), start=line + 1):  # noqa: B020 - goes on counting
                yield RawRow(line, f"{content}-{line}", row)
    except pl.exceptions.PolarsError as exc:
        raise _no_parquet(path, exc) from exc


def _content(path: Path) -> str:
    digest = xxh3_64()
    with path.open("rb") as file:
        for block in iter(lambda: file.read(1 << 20), b""):
            digest.update(block)
    return digest.hexdigest()


_READERS: Final = {"jsonl": _jsonl_table, "csv": csv_table, "parquet": _parquet_table}


def _count_parquet(path: Path) -> int:
    import polars as pl  # takes longer than to count the lines of a text

    try:
        return int(pl.scan_parquet(path).select(pl.len()).collect().item())
    except pl.exceptions.PolarsError as exc:
        raise _no_parquet(path, exc) from exc


def _told(path: Path, rows: Iterator[RawRow]) -> Iterator[RawRow]:
    try:
        yield from rows
    except (OSError, EOFError, csv.Error) as exc:
        raise _unreadable(path, exc) from exc


def _unreadable(path: Path, why: Exception) -> StartError:
    return StartError(f"{path} cannot be read: {why}.")


def _no_parquet(path: Path, why: Exception) -> StartError:
    return StartError(f"{path} is no readable parquet file: {str(why).rstrip('.')}.")
