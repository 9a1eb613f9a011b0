"""files -> interactions and items: jsonl, csv and parquet, row by row, by one set of rules for every command."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import msgspec

from streams.errors import RejectedEventError, StartError
from streams.files.cells import identifier, moment, number, text
from streams.files.columns import EVENT, FIELDS, QUANTITY, Columns, layout
from streams.files.raw_rows import RawRow
from streams.files.readers import KINDS, kind_of, open_table
from streams.records import Item, encode

SHOP: Final = "online-retail"
"""Instead of a file: the shop that comes with Headrace."""
_SHOP_FILE: Final = Path(__file__).parent / "data" / "online_retail.parquet"

SHOP_COLUMNS: Final = Columns({
    "user_id": "CustomerID", "item_id": "StockCode", "timestamp": "InvoiceDate", "type": "=purchase",
    "value": "UnitPrice", "quantity": "Quantity", "title": "Description", "price": "UnitPrice",
})  # fmt: skip


class FileRow(msgspec.Struct, frozen=True, gc=False):
    """One row of a file, as it goes onto the wire; whether a worker takes it is for decode_interaction to say."""

    line: int
    """Of the file, from 1; in a parquet file the row."""
    value: bytes | None
    """The interaction, JSON; None is a tombstone, which a topic may hold."""
    user_id: str | None
    timestamp: int | None
    """Event time in epoch milliseconds, None when the row has no readable one."""
    item: Item | None = None
    """What the row tells of its item, None when that is no more than the id."""
    item_id: str | None = None
    type: str | None = None
    mark: str = ""
    """What identifies the row; see readers."""
    ordinal: float | None = None
    """In place of a time: a number that can be none, but may say what came before what."""
    unit: str = ""
    """What its time counts in."""
    problem: RejectedEventError | None = None
    """Why no worker can take it, when the file already says so."""
    notes: tuple[str, ...] = ()
    """What was odd in it, though it can be used."""
    history: bool = False
    """The record of a topic says that it is of the past."""


class EventFile:
    """The rows of a file in its order, read as they are taken, a chunk of it in memory."""

    def __init__(
        self,
        path: Path,
        columns: Columns,
        *,
        needed: Sequence[str] = EVENT,
        exclude: Sequence[tuple[str, str]] = (),
    ) -> None:
        """Open a file.

        Args:
            path: see open_events.
            columns: what the user said of it.
            needed: fields that the caller cannot do without.
            exclude: column and prefix; rows whose value begins so are left out.

        Raises:
            StartError: the file cannot be read, or lacks a column that is needed.
        """
        table = open_table(path)
        self._rows, self._exclude = table.rows, exclude
        self.layout = layout(columns, table.header, needed, str(path), whole=table.whole)
        self.left_out: Counter[str] = Counter()
        """Rows that the user wanted left out, by the reason."""
        self._json = not table.whole
        self._keeps_others = self._json and not columns.of
        """Of an event in JSON: what this release does not know, a worker may."""
        if absent := [column for column, _ in exclude if table.whole and column not in table.header]:
            raise StartError(f"{path} has no column {absent[0]} to exclude by; it has {', '.join(table.header)}.")

    def __iter__(self) -> Iterator[FileRow]:
        for raw in self._rows:
            if raw.problem:
                yield FileRow(raw.line, raw.raw, None, None, mark=raw.mark, problem=raw.problem)
                continue
            given = self.layout.pick(raw.cells)
            if why := self._unwanted(raw.cells, given.get("type")):
                self.left_out[why] += 1
            else:
                yield self._row(raw, given)

    def _unwanted(self, cells: Mapping[str, Any], name: object) -> str:
        for column, prefix in self._exclude:
            if str(cells.get(column) or "").startswith(prefix):
                return f"{column} begins with {prefix}"
        return f"type {name}" if isinstance(name, str) and self.layout.types.get(name) == "" else ""

    def _row(self, raw: RawRow, given: Mapping[str, Any]) -> FileRow:
        """Read each cell by its rule, then write the event that they make."""
        problem, notes = None, [raw.note] if raw.note else []
        ids: dict[str, str | None] = {}
        for name in ("event_id", "user_id", "item_id"):
            ids[name], why = identifier(given.get(name), quoted=self._json)
            if why and (ids[name] or name == "event_id"):
                notes.append(f"{name} {why}")
            elif why:
                problem = problem or RejectedEventError("missing_field", f"{name} {why}", name)
        time = given.get("timestamp")
        timestamp, unit = moment(time)
        if timestamp is None and unit:
            reason = "wrong_type" if isinstance(time, str) else "timestamp_out_of_range"
            problem = problem or RejectedEventError(reason, f"timestamp {unit}", "timestamp")
        value, kind = _number(given, "value", notes), self._type(given, notes)
        values = ids | {"event_id": ids["event_id"] or raw.mark, "type": kind, "timestamp": timestamp, "value": value}
        return FileRow(
            raw.line, self._wire(raw, values), ids["user_id"], timestamp, _item(ids["item_id"], given, notes),
            ids["item_id"], kind, raw.mark, number(time)[0] if timestamp is None else None,
            unit if timestamp is not None else "", problem, tuple(notes),
        )  # fmt: skip

    def _wire(self, raw: RawRow, values: dict[str, Any]) -> bytes:
        """Return the event; a jsonl line that is one already, by its own bytes."""
        cells = raw.cells
        if self._keeps_others and all(_same(cells.get(name), values[name]) for name in FIELDS):
            return raw.raw
        wanted = {name: found for name, found in values.items() if found is not None}
        if self._keeps_others:
            wanted |= {name: found for name, found in cells.items() if name not in FIELDS}
        return encode(wanted)

    def _type(self, given: Mapping[str, Any], notes: list[str]) -> str | None:
        found = given.get("type")
        if found is None or found == "":
            return None
        name = found if type(found) is str else text(found)[0]
        quantity = _number(given, QUANTITY, notes)
        return "remove" if quantity is not None and quantity < 0 else self.layout.types.get(name, name)


def open_events(file: str, columns: Columns | None = None) -> tuple[Path, Columns]:
    """Return path and columns for what a user typed: a file, or the word online-retail.

    Raises:
        StartError: there is no such file, or it is of no known kind.
    """
    path, columns = (_SHOP_FILE if file == SHOP else Path(file)), columns or Columns()
    if file == SHOP and not columns.of:
        columns = Columns(SHOP_COLUMNS.of, columns.types)
    if not path.is_file():
        raise StartError(f"There is no file {path}; give a jsonl, csv or parquet file, or `{SHOP}`.")
    if kind_of(path) is None:
        raise StartError(f"{path} is of no known kind; give {KINDS}.")
    return path, columns


def read_rows(path: Path, columns: Columns) -> Iterator[FileRow]:
    """Yield the rows of a file in its order.

    A row without event_id gets its mark for one, the same at every reading and under every name of the file: that is
    how a repeated replay is recognised.

    Raises:
        StartError: the file cannot be read, or lacks a column that is needed.
    """
    yield from EventFile(path, columns)


def _item(item_id: str | None, given: Mapping[str, Any], notes: list[str]) -> Item | None:
    said = {name: _text(given, name, notes) for name in ("title", "text", "category") if name in given}
    if not (item_id and any(said.values())):
        return None
    title, words, category = (said.get(name, "") for name in ("title", "text", "category"))
    return Item(item_id, title=title, text=words, category=category, price=_number(given, "price", notes))


def _text(given: Mapping[str, Any], name: str, notes: list[str]) -> str:
    found, why = text(given[name])
    if why:
        notes.append(f"{name} {why}")
    return found


def _number(given: Mapping[str, Any], name: str, notes: list[str]) -> float | None:
    cell = given.get(name)
    if cell is None:
        return None
    found, why = number(cell)
    if why:
        notes.append(f"{name} {why}")
    return found


def _same(cell: Any, value: Any) -> bool:  # noqa: ANN401 - as the file has it
    return type(cell) is type(value) and cell == value
