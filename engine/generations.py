"""How generations of weights travel: keys and values that a log carries in order, of which it may drop the older ones.

A generation carries the rows that were touched, by table, under one of TURNS keys, and besides some blocks of all rows,
so that each block comes round in TURNS generations. A log that keeps only the newest value of a key therefore still
holds the whole state: each block as it was within the last TURNS generations, and every change since.

Knows nothing of Kafka, torch or the model. Legend: U changed rows.
"""

import json
import zlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors import numpy as safetensors

from engine.network.growing import grown
from engine.weights import CHAMPION, Arrays, Config, Weights, WeightsError, check_finite, metadata_of

BLOCK_ROWS: Final = 128
"""Rows of all tables that travel together. With 16, to encode and decode all of 4,000 rows took three times as long."""
TURNS: Final = 64
_BLOCK: Final = f"rows{BLOCK_ROWS}/"
"""Its size is in a block's key: records of another size, kept by the log, are not taken for one."""
_CHANGES: Final = f"changes{TURNS}/"
_CHANGED_BYTES: Final = 8 * 1024 * 1024
"""Of changed rows in one record; more of them travel as whole blocks, each a record of its own."""


class TouchedRows:
    """Which rows of which tables have changed."""

    def __init__(self) -> None:
        self._touched_I: dict[str, NDArray[np.bool_]] = {}

    @property
    def tables(self) -> Iterable[str]:
        """Names of the tables that have some."""
        return self._touched_I.keys()

    def add(self, rows_U: NDArray[np.integer[Any]], tables: Iterable[str]) -> None:
        """Count these rows of these tables as changed."""
        for table in tables:
            known_I = self._touched_I.get(table, np.zeros(0, np.bool_))
            self._touched_I[table] = known_I = grown(known_I, int(rows_U.max(initial=-1)) + 1)
            known_I[rows_U] = True

    def update(self, other: "TouchedRows") -> None:
        """Count what another has as changed, too."""
        for table in other.tables:
            self.add(other.rows(table), [table])

    def rows(self, table: str) -> NDArray[np.int64]:
        """Return the changed rows of a table, rising."""
        return np.flatnonzero(self._touched_I.get(table, np.zeros(0, np.bool_)))

    def __bool__(self) -> bool:
        return any(touched_I.any() for touched_I in self._touched_I.values())


@dataclass(frozen=True)
class Place:
    """Where a generation stands in the log of its slot."""

    generation: int
    rows: int
    """Rows of the tables."""
    turn: int = 0
    """Generations since all rows were written."""


@dataclass(frozen=True)
class TableChange:
    """New values of some rows of a table."""

    rows_U: NDArray[np.int64]
    """Rising."""
    values: NDArray[np.generic]
    """(U, ...)."""


@dataclass(frozen=True)
class Generation:
    """A change of the whole model: apply all of it or nothing."""

    slot: str
    generation: int
    version: int
    config: Config
    rows: int
    """Rows of the tables from now on."""
    tables: Mapping[str, TableChange]
    """All tables, by name."""
    dense: Arrays
    """All dense tensors."""

    @property
    def weights(self) -> Weights:
        """The new values, of those rows alone."""
        return Weights(self.config, {name: change.values for name, change in self.tables.items()}, self.dense)


def encode_generation(
    weights: Weights,
    slot: str,
    generation: int,
    version: int,
    *,
    facts: Mapping[str, str] | None = None,
    touched: TouchedRows | None = None,
    before: Place | None = None,
) -> tuple[list[tuple[str, bytes]], Place]:
    """Return the keys and values to write, in order and in one transaction, and where they stand when they are written.

    Args:
        weights: the whole state.
        slot: which served model changes.
        generation: higher than any before it.
        version: of the full version that this continues.
        facts: more about the generation, kept beside the end mark.
        touched: what differs from the generation before; None writes all rows.
        before: where that one stands; None writes all rows.

    Raises:
        WeightsError: a value is not finite.
    """
    blocks = -(-weights.rows // BLOCK_ROWS)
    if touched is None or before is None:
        before, whole, changes = Place(generation, weights.rows, -1), set(range(blocks)), {}
    else:
        come_round, new = range((before.turn + 1) % TURNS, blocks, TURNS), range(-(-before.rows // BLOCK_ROWS), blocks)
        whole, changes = {*come_round, *new}, {name: touched.rows(name) for name in weights.tables}
        if sum(len(rows_U) * weights.tables[name][:1].nbytes for name, rows_U in changes.items()) > _CHANGED_BYTES:
            whole.update(*(np.unique(rows_U // BLOCK_ROWS).tolist() for rows_U in changes.values()))
            changes = {}
    place = Place(generation, weights.rows, before.turn + 1)
    common = {"generation": str(generation), "version": str(version), "rows": str(weights.rows)}
    records = [(f"{slot}/dense", _encode(weights.dense, common))]
    for block in sorted(whole):
        start = block * BLOCK_ROWS
        part = {name: table[start : start + BLOCK_ROWS] for name, table in weights.tables.items()}
        records.append((f"{slot}/{_BLOCK}{block}", _encode(part, common)))
    part = {"blocks": np.array(sorted(whole), np.int32)}
    for name, table in weights.tables.items():
        rows_U = changes.get(name, np.empty(0, np.int64))
        part |= {f"rows/{name}": rows_U.astype(np.int32), f"values/{name}": table[rows_U]}
    chained = {**common, "after": str(before.generation)}
    records.append((f"{slot}/{_CHANGES}{place.turn % TURNS}", _encode(part, chained)))
    end = {**(facts or {}), **common, "config": json.dumps(dict(weights.config)), "records": str(len(records))}
    return [*records, (f"{slot}/end", _encode({}, end))], place


def withdrawal(slot: str) -> list[tuple[str, None]]:
    """Return the record after which nothing is served from a slot, until all of its rows are written again."""
    return [(f"{slot}/end", None)]


def end_facts(key: bytes | None, value: bytes | None) -> dict[str, str] | None:
    """Return what the end mark of a generation says, the encoder's `facts` among it; None of any other record.

    Raises:
        WeightsError: it is cut off.
    """
    return metadata_of(value) if value is not None and (key or b"").endswith(b"/end") else None


class GenerationAssembler:
    """Puts the generations of one slot together from their records.

    A reader that comes late meets a log of which older records were dropped. It gets nothing until it has read every
    block and every change that came after a block; then everything at once.

    Args:
        slot: records of other slots are ignored.
        tables: names of the tables wanted, None for all; dense tensors are decoded only with all.
    """

    def __init__(self, slot: str = CHAMPION, tables: frozenset[str] | None = None) -> None:
        self._slot = slot
        self._wanted = tables
        self.begin_anew()

    def begin_anew(self) -> None:
        """Give nothing until all rows have been read again."""
        self._parts: dict[str, Arrays] = {}
        """Arrays not handed over yet, by what follows the slot in the key, in the order of the log."""
        self._generation, self._count, self._broken = -1, 0, False
        """Of the record read last; how many records of it were read; whether one of them was damaged."""
        self._whole: dict[int, int] = {}
        """Generation as of which each block was read whole."""
        self._newest, self._since = -1, -1
        """All changes after `since` have been read, up to `newest`."""

    def feed(self, key: str, value: bytes | None) -> Generation | None:
        """Take the next record of the log; return a generation when it is complete.

        A record without a value withdraws the slot: all begins anew.

        Raises:
            WeightsError: the record is broken; the rest of its generation will be ignored.
        """
        slot, _, part = key.partition("/")
        if slot != self._slot:
            return None
        if value is None:
            self.begin_anew()
            return None
        try:
            facts, arrays = self._decode(key, value)
            generation = int(facts["generation"])
            if generation != self._generation:
                self._generation, self._count, self._broken = generation, 0, False
            if part == "end":
                return self._complete(facts)
            self._take(part, facts, arrays)
        except (SafetensorError, KeyError, ValueError) as exc:
            # Sound records of its generation are kept: the next one builds on them, and its end mark makes them count.
            self._broken = True
            raise WeightsError(f"{key}: {exc}") from exc
        return None

    def _take(self, part: str, facts: Mapping[str, str], arrays: Arrays) -> None:
        generation = self._generation
        if part.startswith(_BLOCK):
            self._whole[int(part.removeprefix(_BLOCK))] = generation
        elif part.startswith(_CHANGES):
            if int(facts["after"]) != self._newest:
                self._since = int(facts["after"])
            self._newest = generation
            for block in arrays["blocks"].tolist():
                if self._whole.get(block) != generation:  # damaged, or dropped by a log that has a newer one
                    self._whole.pop(block, None)
        self._parts.pop(part, None)  # a key that comes again stands where it came last
        self._parts[part] = arrays
        self._count += 1

    def _decode(self, key: str, value: bytes) -> tuple[dict[str, str], Arrays]:
        facts = metadata_of(value)
        body = memoryview(value)[8 + int.from_bytes(value[:8], "little") :]
        if zlib.crc32(body) != int(facts["crc"]):
            raise WeightsError("checksum differs")
        arrays: dict[str, NDArray[np.generic]] = dict(safetensors.load(value))
        if self._wanted is not None:
            wanted = {"blocks", *self._wanted}
            arrays = {name: array for name, array in arrays.items() if name.rpartition("/")[2] in wanted}
        check_finite(arrays, key)
        return facts, arrays

    def _complete(self, facts: Mapping[str, str]) -> Generation | None:
        rows = int(facts["rows"])
        if self._broken or self._count != int(facts["records"]) or self._newest != self._generation:
            return None
        if any(self._whole.get(block, -1) < self._since for block in range(-(-rows // BLOCK_ROWS))):
            return None
        parts, self._parts = self._parts, {}
        try:
            tables = _joined(parts, rows)
        except ValueError:
            self.begin_anew()
            raise
        return Generation(
            slot=self._slot,
            generation=self._generation,
            version=int(facts["version"]),
            config=json.loads(facts["config"]),
            rows=rows,
            tables=tables,
            dense=parts.get("dense", {}),
        )


def _encode(arrays: Arrays, facts: Mapping[str, str]) -> bytes:
    check_finite(arrays, "weights")
    contiguous = {name: np.ascontiguousarray(array) for name, array in arrays.items()}
    plain = safetensors.save(contiguous)
    crc = zlib.crc32(memoryview(plain)[8 + int.from_bytes(plain[:8], "little") :])
    return bytes(safetensors.save(contiguous, {**facts, "crc": str(crc)}))


def _joined(parts: Mapping[str, Arrays], rows: int) -> dict[str, TableChange]:
    """Return what these blocks and changes make of the first `rows` rows of each table."""
    found: dict[str, list[tuple[NDArray[np.int64], NDArray[np.generic]]]] = {}
    for part, arrays in parts.items():
        if part.startswith(_BLOCK):
            start = int(part.removeprefix(_BLOCK)) * BLOCK_ROWS
            if len({len(array) for array in arrays.values()}) > 1:
                raise WeightsError(f"tables of {part} differ in length")
            for name, array in arrays.items():
                found.setdefault(name, []).append((np.arange(start, start + len(array)), array))
        elif part.startswith(_CHANGES):
            for name in arrays:
                if name.startswith("rows/"):
                    short = name.removeprefix("rows/")
                    found.setdefault(short, []).append((arrays[name].astype(np.int64), arrays[f"values/{short}"]))
    return {name: _newest_of(changes, rows) for name, changes in found.items()}


def _newest_of(changes: Sequence[tuple[NDArray[np.int64], NDArray[np.generic]]], rows: int) -> TableChange:
    """Return the last value of each row; rows beyond are of an older generation, as before a first version's pin."""
    rows_U = np.concatenate([changed for changed, _ in changes])
    values = np.concatenate([new for _, new in changes])
    if len(values) != len(rows_U):
        raise WeightsError(f"{len(values)} values for {len(rows_U)} rows")
    if len(rows_U) and (rows_U[-1] >= rows or (np.diff(rows_U) <= 0).any()):
        rows_U, back = np.unique(rows_U[::-1], return_index=True)
        values = values[len(values) - 1 - back]
        held = np.searchsorted(rows_U, rows)
        rows_U, values = rows_U[:held], values[:held]
    return TableChange(rows_U, values)
