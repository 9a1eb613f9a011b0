"""files -> interactions and items: jsonl, csv (also .gz) and parquet, row by row, with columns mapped to fields."""

import csv
import gzip
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timezone
from pathlib import Path
from typing import IO, Any, Final, Self, cast

import msgspec

from streams.errors import RejectedEventError, SettingsError, StartError
from streams.records import Interaction, Item, decode_interaction, encode, epoch_ms

FIELDS: Final = ("event_id", "user_id", "item_id", "type", "timestamp", "value")
_NEEDED: Final = ("user_id", "item_id", "type", "timestamp")
ITEM_FIELDS: Final = ("title", "text", "category", "price")
QUANTITY: Final = "quantity"
"""Not on the wire: a negative quantity makes the interaction a `remove`, as in a list of invoices and cancellations."""

SHOP: Final = "online-retail"
"""Instead of a file: the shop that comes with Headrace."""
_SHOP_FILE: Final = Path(__file__).parent / "data" / "online_retail.parquet"
_CHUNK_ROWS: Final = 8192


@dataclass(frozen=True)
class Columns:
    """Which column holds which field; a column written `=word` stands for the word itself."""

    of: Mapping[str, str] = field(default_factory=dict)
    """Field to column. A field that is not named here is looked for under its own name."""

    @classmethod
    def parse(cls, text: str) -> Self:
        """Return the mapping that `user_id=CustomerID,item_id=StockCode,type==purchase` describes.

        Raises:
            SettingsError: a part is no field=column, or the field is unknown.
        """
        known = (*FIELDS, *ITEM_FIELDS, QUANTITY)
        pairs = [part.strip().partition("=") for part in text.split(",") if part.strip()]
        for name, equals, column in pairs:
            if name not in known or not equals or not column:
                raise SettingsError(
                    f"--columns {name}{equals}{column} is no field=column; fields are {', '.join(known)}, and "
                    "type==purchase gives every row the type purchase."
                )
        return cls({name: column for name, _, column in pairs})

    def pick(self, row: Mapping[str, Any], name: str) -> Any:  # noqa: ANN401 - as the file has it
        """Return a field of a row, None when it is empty or has no column."""
        column = self.of.get(name, name)
        found = column[1:] if column.startswith("=") else row.get(column)
        return None if found == "" else found

    def missing(self, header: list[str]) -> list[str]:
        """Return the columns that were named, or that no event can do without, and that a file lacks."""
        wanted = {**{name: name for name in _NEEDED}, **self.of}.values()
        return [column for column in wanted if not column.startswith("=") and column not in header]


SHOP_COLUMNS: Final = Columns({
    "user_id": "CustomerID", "item_id": "StockCode", "timestamp": "InvoiceDate", "type": "=purchase",
    "value": "UnitPrice", "quantity": "Quantity", "title": "Description", "price": "UnitPrice",
})  # fmt: skip


@dataclass(frozen=True, slots=True)
class FileRow:
    """One row of a file, as it goes onto the wire; whether it is a valid event is for decode_interaction to say."""

    line: int
    """Of the file, from 1; in a parquet file the row."""
    value: bytes | None
    """The interaction, JSON; None is a tombstone, which a topic may hold."""
    user_id: str | None
    """The key on the wire."""
    timestamp: int | None
    """Event time in epoch milliseconds, None when the row has no readable one."""
    item: Item | None
    """What the row tells of its item, None when that is no more than the id."""


def open_events(file: str, columns: Columns | None = None) -> tuple[Path, Columns]:
    """Return path and columns for what a user typed: a file, or the word online-retail.

    Raises:
        StartError: there is no such file, or it is of no known kind.
    """
    path = _SHOP_FILE if file == SHOP else Path(file)
    if file == SHOP:
        columns = columns or SHOP_COLUMNS
    if not path.is_file():
        raise StartError(f"There is no file {path}; give a jsonl, csv or parquet file, or `{SHOP}`.")
    if _kind(path) not in _READERS:
        raise StartError(f"{path} is none of {', '.join(_READERS)} (the first two may end in .gz).")
    return path, columns or Columns()


def read_rows(path: Path, columns: Columns, *, after_line: int = 0) -> Iterator[FileRow]:
    """Yield the rows of a file in its order, holding no more than a chunk of it in memory.

    A row without event_id gets one made of the file's name and the line, the same at every reading: that is how
    a repeated replay is recognised.

    Raises:
        StartError: the file cannot be read, or lacks a column that is needed.
    """
    try:
        for line, row in _READERS[_kind(path)](path, columns):
            if line > after_line:
                yield row if isinstance(row, FileRow) else _mapped(path, columns, line, row)
    except (OSError, EOFError, csv.Error) as exc:
        raise StartError(f"{path} cannot be read: {exc}.") from exc


def accepted(path: Path, columns: Columns, *, max_future_ms: int = 300_000) -> Iterator[tuple[int, Interaction]]:
    """Yield line and interaction of the rows that a worker would accept."""
    now_ms = time.time_ns() // 1_000_000
    for row in read_rows(path, columns):
        try:
            yield row.line, decode_interaction(row.value, now_ms, max_future_ms)
        except RejectedEventError:
            continue


def event_id(path: Path, line: int) -> str:
    """Return the id of a row that has none of its own."""
    return f"{event_id_prefix(path)}{line}"


def event_id_prefix(path: Path) -> str:
    """Return what all ids made for a file begin with."""
    return f"{path.name.partition('.')[0]}-"


def count_rows(path: Path) -> int:
    """Return how many lines or rows a file has, so that progress can be shown.

    Raises:
        StartError: the file cannot be read.
    """
    try:
        if _kind(path) == "parquet":
            return _count_parquet(path)
        with _open(path) as file:
            return sum(block.count(b"\n") for block in iter(lambda: file.read(1 << 20), b""))
    except (OSError, EOFError) as exc:
        raise StartError(f"{path} cannot be read: {exc}.") from exc


def _kind(path: Path) -> str:
    suffix = Path(path.stem).suffix if path.suffix == ".gz" else path.suffix
    return suffix.lstrip(".").replace("ndjson", "jsonl")


def _open(path: Path) -> IO[bytes]:
    return cast("IO[bytes]", gzip.open(path)) if path.suffix == ".gz" else path.open("rb")


def _jsonl(path: Path, columns: Columns) -> Iterator[tuple[int, Any]]:
    with _open(path) as file:
        for number, line in enumerate(file, start=1):
            if value := line.strip():
                yield number, _json_row(path, columns, number, value)


def _json_row(path: Path, columns: Columns, line: int, value: bytes) -> Any:  # noqa: ANN401 - see read_rows
    """Return the line's object to be mapped; a line that is no object goes onto the wire as it is, to be rejected."""
    try:
        row = msgspec.json.decode(value)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        row = None
    if not isinstance(row, dict):
        return FileRow(line, value, None, None, None)
    if columns.of:
        return row
    own = value if "event_id" in row else encode(row | {"event_id": event_id(path, line)})
    return FileRow(line, own, _text(row.get("user_id")), _time(row.get("timestamp")), _item(columns, row))


def _csv(path: Path, columns: Columns) -> Iterator[tuple[int, Any]]:
    with _open(path) as file:
        # A byte that is not UTF-8 becomes half a surrogate pair, which no JSON can hold: the row is rejected later.
        text = (line.decode("utf-8-sig" if number == 0 else "utf-8", "surrogateescape") for number, line in
                enumerate(file))  # fmt: skip
        reader = csv.DictReader(text)
        _refuse_missing(path, columns, list(reader.fieldnames or []))
        for row in reader:
            yield reader.line_num, row


def _parquet(path: Path, columns: Columns) -> Iterator[tuple[int, Any]]:
    import polars as pl

    try:
        table = pl.scan_parquet(path, low_memory=True)
        _refuse_missing(path, columns, table.collect_schema().names())
        line = 0
        for chunk in table.collect_batches(chunk_size=_CHUNK_ROWS, maintain_order=True):
            for line, row in enumerate(chunk.iter_rows(named=True), start=line + 1):  # noqa: B020 - goes on counting
                yield line, row
    except pl.exceptions.PolarsError as exc:
        raise _no_parquet(path, exc) from exc


_READERS: Final = {"jsonl": _jsonl, "csv": _csv, "parquet": _parquet}


def _count_parquet(path: Path) -> int:
    import polars as pl  # takes longer than to count the lines of a text

    try:
        return int(pl.scan_parquet(path).select(pl.len()).collect().item())
    except pl.exceptions.PolarsError as exc:
        raise _no_parquet(path, exc) from exc


def _no_parquet(path: Path, why: Exception) -> StartError:
    return StartError(f"{path} is no readable parquet file: {str(why).rstrip('.')}.")


def _refuse_missing(path: Path, columns: Columns, header: list[str]) -> None:
    if header and (missing := columns.missing(header)):
        raise StartError(
            f"{path} has no column {', '.join(missing)}; it has {', '.join(header)}. Say which holds what, as in "
            f"--columns user_id={header[0]},type==purchase."
        )


def _mapped(path: Path, columns: Columns, line: int, row: Mapping[str, Any]) -> FileRow:
    values = {name: columns.pick(row, name) for name in FIELDS}
    values["event_id"] = values["event_id"] or event_id(path, line)
    values["value"] = _number(values["value"])
    timestamp = values["timestamp"] = _wire_time(values["timestamp"])
    quantity = _number(columns.pick(row, QUANTITY))
    if isinstance(quantity, int | float) and quantity < 0:
        values["type"] = "remove"
    for name in ("user_id", "item_id"):
        values[name] = _text(values[name])
    try:
        value = encode({name: found for name, found in values.items() if found is not None})
    except UnicodeEncodeError:
        value = ",".join(map(str, row.values())).encode(errors="surrogateescape")
    return FileRow(line, value, values["user_id"], _time(timestamp), _item(columns, row))


def _item(columns: Columns, row: Mapping[str, Any]) -> Item | None:
    item_id, title, text, category = (_text(columns.pick(row, name)) or "" for name in ("item_id", *ITEM_FIELDS[:3]))
    price = _number(columns.pick(row, "price"))
    if not (item_id and title + text + category):
        return None
    return Item(item_id, title, text, category, price if isinstance(price, int | float) else None)


def _text(value: Any) -> str | None:  # noqa: ANN401 - numbers of a typed file become ids
    return None if value is None else str(value)


def _number(value: Any) -> Any:  # noqa: ANN401 - what is no number stays as it is, to be rejected by its type
    if isinstance(value, str):
        try:
            return float(value)
        except ValueError:
            return value
    return value


def _wire_time(value: Any) -> Any:  # noqa: ANN401 - int or str, or what the file has instead
    if isinstance(value, datetime):
        moment = value if value.tzinfo else value.replace(tzinfo=timezone.utc)  # noqa: UP017
        return round(moment.timestamp() * 1000)
    return int(value) if isinstance(value, str) and value.isdecimal() else value


def _time(value: Any) -> int | None:  # noqa: ANN401 - as the file has it
    try:
        return epoch_ms(value) if isinstance(value, int | str) else None
    except RejectedEventError:
        return None
