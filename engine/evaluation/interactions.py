"""Files -> interactions in arrays: sequence files, period folders and tables; knows nothing of models.

Rows are numbered from 1 in the order in which items first appear. Legend: N interactions of the data set.
"""

import gzip
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import numpy as np
import polars as pl
from numpy.typing import NDArray

from engine.batch import HistoryBatch

_USUAL_NAMES: Final = {
    "user": ("user_id", "user", "customerid", "customer_id", "visitorid", "session_id", "session"),
    "item": ("item_id", "item", "stockcode", "itemid", "product_id", "parent_asin", "movieid"),
    "time": ("timestamp", "time", "invoicedate", "date", "datetime", "event_time"),
    "type": ("type", "event", "event_type"),
    "title": ("title", "description", "item_name", "product_name"),
}
_MILLISECONDS_FROM: Final = 10**11
"""Greater numbers are epoch milliseconds: as seconds they would lie after the year 5138."""


class DataError(ValueError):
    """A file that cannot be read as interactions; the message says which and what to do."""


@dataclass(frozen=True)
class Columns:
    """Which column of a table is which; the usual names are found without it."""

    user: str = ""
    item: str = ""
    time: str = ""
    type: str = ""
    title: str = ""
    exclude: Sequence[tuple[str, str]] = ()
    """Column and prefix: lines whose value begins so are left out, such as ("InvoiceNo", "C") for cancellations."""


@dataclass(frozen=True)
class Interactions:
    """A data set: parallel arrays, in the order in which things happened as far as it is known."""

    users_N: NDArray[np.int64]
    rows_N: NDArray[np.int32]
    types_N: NDArray[np.uint8]
    times_N: NDArray[np.int64]
    """Epoch seconds; 0 where the file has no clock time."""
    periods_N: NDArray[np.int64]
    """Period folder only: which file; else 0."""
    items: Sequence[str]
    """Item id of each row; row 0 is no item."""
    ordered: bool
    """Whether the order across users is known, not only within each."""
    titles: Sequence[str] = ()
    """What each row's item says of itself; empty where the file has no such column."""
    left_out: Mapping[str, int] = field(default_factory=dict)
    """Lines that were not read, by reason."""

    def __len__(self) -> int:
        return len(self.rows_N)

    @property
    def rows(self) -> int:
        """Size of an item table for this data set, row 0 included."""
        return len(self.items)

    def histories(self, kept_N: NDArray[np.bool_] | None = None) -> tuple[HistoryBatch, NDArray[np.int64]]:
        """History of each user, and where in N each of its interactions lies."""
        index_N = np.arange(len(self)) if kept_N is None else np.flatnonzero(kept_N)
        order_T = index_N[np.argsort(self.users_N[index_N], kind="stable")]
        _, lengths_B = np.unique(self.users_N[order_T], return_counts=True)
        batch = HistoryBatch(
            self.rows_N[order_T], self.types_N[order_T], self.times_N[order_T], lengths_B.astype(np.int32)
        )
        return batch, order_T


def read(
    path: Path, columns: Columns | None = None, limit: int | None = None, types: Mapping[str, int] | None = None
) -> Interactions:
    """Reads a data set in whichever of the three formats it is.

    Args:
        path: `.txt` or `.txt.gz` with lines `user item item …`; a folder of such files with lines `session item`, one
            file a period, sorted by name; or a `.csv`, `.csv.gz` or `.parquet` table.
        columns: Mapping for a table.
        limit: Interactions to read at most, after those left out.
        types: Code of each interaction type; other types are 0.

    Raises:
        DataError: It is none of them, or a column is missing.
    """
    if path.is_dir():
        files = sorted(child for child in path.iterdir() if child.name.endswith((".txt", ".txt.gz")))
        if not files:
            raise DataError(f"{path} holds no .txt or .txt.gz file: name a folder of periods")
        return _read_lines(files, ordered=True, limit=limit)
    if path.name.endswith((".txt", ".txt.gz")):
        return _read_lines([path], ordered=False, limit=limit)
    if path.name.endswith((".csv", ".csv.gz", ".parquet")):
        return _read_table(path, columns or Columns(), limit, types or {})
    raise DataError(f"{path} is no .txt, .csv or .parquet file nor a folder of periods: convert it to one of them")


def _read_lines(files: Sequence[Path], *, ordered: bool, limit: int | None) -> Interactions:
    users: dict[str, int] = {}
    items: dict[str, int] = {"": 0}
    user_of, row_of, period_of = [], [], []
    for period, path in enumerate(files):
        for line in _lines(path):
            user, *row = line.split()
            code = users.setdefault(user, len(users))
            for item in row:
                row_of.append(items.setdefault(item, len(items)))
                user_of.append(code)
                period_of.append(period)
    count = len(row_of)
    return Interactions(
        np.array(user_of[:limit], np.int64),
        np.array(row_of[:limit], np.int32),
        np.zeros(min(limit or count, count), np.uint8),
        np.zeros(min(limit or count, count), np.int64),
        np.array(period_of[:limit], np.int64),
        list(items),
        ordered,
    )


def _lines(path: Path) -> Iterator[str]:
    with gzip.open(path, "rt") if path.suffix == ".gz" else path.open() as lines:
        yield from (line for line in lines if line.strip())


def _read_table(path: Path, columns: Columns, limit: int | None, types: Mapping[str, int]) -> Interactions:
    table = pl.read_parquet(path) if path.suffix == ".parquet" else pl.read_csv(path, infer_schema_length=0)
    user, item = _column(table, columns.user, "user"), _column(table, columns.item, "item")
    time, kind, title = (
        _column(table, named, meaning, needed=False)
        for named, meaning in ((columns.time, "time"), (columns.type, "type"), (columns.title, "title"))
    )
    if not user or not item:
        missing = "user" if not user else "item"
        raise DataError(
            f"{path} has no column for the {missing} among {', '.join(table.columns)}: name it in the mapping"
        )
    left_out = {}
    for column, prefix in columns.exclude:
        before = len(table)
        table = table.filter(~pl.col(column).cast(pl.String).str.starts_with(prefix).fill_null(value=False))
        left_out[f"{column} begins with {prefix}"] = before - len(table)
    before = len(table)
    present = pl.col(user).cast(pl.String).fill_null("").ne("") & pl.col(item).cast(pl.String).fill_null("").ne("")
    table = table.filter(present)
    left_out["no user or item"] = before - len(table)
    if time:
        table = table.with_columns(_seconds(table[time]).alias(time)).sort(time, maintain_order=True)
    table = table.head(limit) if limit else table
    rows_N, items = _codes(table[item])
    count = len(table)
    return Interactions(
        _codes(table[user])[0].astype(np.int64),
        rows_N,
        np.array([types.get(value, 0) for value in table[kind]], np.uint8) if kind else np.zeros(count, np.uint8),
        table[time].to_numpy().astype(np.int64) if time else np.zeros(count, np.int64),
        np.zeros(count, np.int64),
        items,
        ordered=True,
        titles=_titles(rows_N, table[title]) if title else (),
        left_out=left_out,
    )


def _titles(rows_N: NDArray[np.int32], values: pl.Series) -> list[str]:
    """The first title that each row has."""
    titles = [""] * (int(rows_N.max(initial=0)) + 1)
    for row, title in zip(rows_N.tolist(), values.cast(pl.String).to_list(), strict=True):
        titles[row] = titles[row] or title or ""
    return titles


def _column(table: pl.DataFrame, named: str, meaning: str, *, needed: bool = True) -> str:
    if named and named not in table.columns:
        raise DataError(f"the table has no column {named} for the {meaning}, only {', '.join(table.columns)}")
    usual = [column for column in table.columns if column.lower() in _USUAL_NAMES[meaning]]
    return named or next(iter(usual), "") if needed or named or usual else ""


def _seconds(values: pl.Series) -> pl.Series:
    if values.dtype == pl.String:
        numbers = values.cast(pl.Float64, strict=False)
        values = numbers if numbers.null_count() <= values.null_count() else values.str.to_datetime(strict=False)
    if values.dtype.is_temporal():
        return values.cast(pl.Datetime("us")).dt.epoch("s").fill_null(0)
    return pl.Series(
        [int(value / 1000) if value > _MILLISECONDS_FROM else int(value) for value in values.fill_null(0).to_list()]
    )


def _codes(values: pl.Series) -> tuple[NDArray[np.int32], list[str]]:
    codes: dict[Any, int] = {"": 0}
    rows_N = np.array([codes.setdefault(value, len(codes)) for value in values.cast(pl.String).to_list()], np.int32)
    return rows_N, list(codes)
