"""What a learner publishes and a server loads: tables by row, dense tensors, and how generations of them travel.

Knows nothing of Kafka, torch or the model; a generation is a list of keys and values that some log carries in order.
A log that keeps only the newest value of a key still holds the whole state.
"""

import contextlib
import json
import os
import tempfile
import zlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors import numpy as safetensors

CHAMPION: Final = "champion"
CHALLENGER: Final = "challenger"
"""The slots: what serves everybody, and what a canary serves to a share of the users."""

BLOCK_ROWS: Final = 128
"""Rows of the tables that travel together. With 16, to encode and decode all of 4,000 rows took three times as long."""
_ROWS: Final = f"rows{BLOCK_ROWS}/"
"""Its size is in a block's key: records of another size, kept by the log, are not taken for one."""
_FILE_MODE: Final = 0o644  # safetensors writes 0600, which a container that is not root cannot read

Config = Mapping[str, str | int | float | bool]
Arrays = Mapping[str, NDArray[np.generic]]


class WeightsError(ValueError):
    """Weights that must not be served: damaged, incomplete, of another shape, or not finite."""


@dataclass(frozen=True)
class Weights:
    """The whole state of a model."""

    config: Config
    """Plain values from which the model is built."""
    tables: Arrays
    """First axis is the item row: the same length in all."""
    dense: Arrays
    """All other tensors, by name."""

    @property
    def rows(self) -> int:
        """Rows of the tables, the padding row 0 among them."""
        return max((len(table) for table in self.tables.values()), default=0)


@dataclass(frozen=True)
class Generation:
    """A change of the whole model: apply all of it or nothing."""

    slot: str
    generation: int
    version: int
    config: Config
    rows: int
    """Rows of the tables from now on."""
    rows_U: NDArray[np.int64]
    """Which rows change."""
    tables: Arrays
    """Their new values, (U, ...) by table."""
    dense: Arrays
    """All dense tensors."""


def save(weights: Weights, path: Path, metadata: Mapping[str, str] | None = None) -> None:
    """Write a file that either is there as a whole or not at all."""
    content = safetensors.save(
        {f"tables/{name}": np.ascontiguousarray(table) for name, table in weights.tables.items()}
        | {f"dense/{name}": np.ascontiguousarray(tensor) for name, tensor in weights.dense.items()},
        {"config": json.dumps(dict(weights.config)), **(metadata or {})},
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, scratch = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        Path(scratch).chmod(_FILE_MODE)
        Path(scratch).rename(path)
    except BaseException:
        with contextlib.suppress(FileNotFoundError):
            Path(scratch).unlink()
        raise


def load(path: Path) -> Weights:
    """Read what `save` wrote.

    Raises:
        WeightsError: the file is damaged or holds values that are not finite.
    """
    try:
        tensors = safetensors.load_file(path)
        config = json.loads(metadata(path)["config"])
    except (SafetensorError, KeyError, ValueError) as exc:
        raise WeightsError(f"{path} is damaged: {exc}") from exc
    _check_finite(tensors, str(path))
    groups: dict[str, dict[str, NDArray[np.generic]]] = {"tables": {}, "dense": {}}
    for name, tensor in tensors.items():
        group, _, short = name.partition("/")
        groups[group][short] = tensor
    return Weights(config, **groups)


def metadata(path: Path) -> dict[str, str]:
    """Return what was given to `save` beside the weights."""
    with path.open("rb") as file:
        length = file.read(8)
        return _metadata(length + file.read(int.from_bytes(length, "little")))


def encode_generation(
    weights: Weights,
    touched_rows: Iterable[int] | None,
    slot: str,
    generation: int,
    version: int,
    facts: Mapping[str, str] | None = None,
) -> list[tuple[str, bytes]]:
    """Return the keys and values to write, in order and in one transaction.

    Args:
        weights: the whole state.
        touched_rows: rows that differ from the generation before; None writes all of them.
        slot: which served model changes.
        generation: rises by one with each.
        version: of the full version that this continues.
        facts: more about the generation, kept beside the end mark.

    Raises:
        WeightsError: a value is not finite.
    """
    blocks = set(range(-(-weights.rows // BLOCK_ROWS)))
    if touched_rows is not None:
        blocks &= {int(row) // BLOCK_ROWS for row in touched_rows}
    common = {"generation": str(generation), "version": str(version), "rows": str(weights.rows)}
    records = [(f"{slot}/dense", _encode(weights.dense, common))]
    for block in sorted(blocks):
        start = block * BLOCK_ROWS
        part = {name: table[start : start + BLOCK_ROWS] for name, table in weights.tables.items()}
        records.append((f"{slot}/{_ROWS}{block}", _encode(part, common)))
    end = {**(facts or {}), **common, "config": json.dumps(dict(weights.config)), "records": str(len(records))}
    return [*records, (f"{slot}/end", _encode({}, end))]


def withdrawal(slot: str) -> list[tuple[str, None]]:
    """Return the record after which nothing is served from a slot, until all of its rows are written again."""
    return [(f"{slot}/end", None)]


@dataclass
class _Pending:
    """Records since the last complete generation."""

    values: dict[str, Arrays] = field(default_factory=dict)
    """Newest tensors by `dense` or block."""
    generation: int = -1
    """Of the record read last."""
    count: int = 0
    """Records of that generation."""
    broken: bool = False


class GenerationAssembler:
    """Puts the generations of one slot together from their records.

    A reader that comes late meets a log of which older records were dropped: until every block has been seen once, it
    gets nothing; then everything at once.

    Args:
        slot: records of other slots are ignored.
        tables: names of the tables wanted, None for all; dense tensors are decoded only with all.
    """

    def __init__(self, slot: str = CHAMPION, tables: frozenset[str] | None = None) -> None:
        self._slot = slot
        self._wanted = tables
        self._pending = _Pending()
        self._seen: set[int] | None = set()
        """Blocks seen, None once they were all."""

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
            self._pending, self._seen = _Pending(), set()
            return None
        pending = self._pending
        try:
            facts, arrays = self._decode(key, value)
            generation = int(facts["generation"])
            if generation != pending.generation:
                pending.generation, pending.count, pending.broken = generation, 0, False
            if part == "end":
                return self._complete(facts)
        except (SafetensorError, KeyError, ValueError) as exc:
            # Its sound records are kept: the next generation builds on them, and only its end mark makes them count.
            pending.broken = True
            raise WeightsError(f"{key}: {exc}") from exc
        pending.values[part] = arrays
        pending.count += 1
        return None

    def _decode(self, key: str, value: bytes) -> tuple[dict[str, str], Arrays]:
        facts = _metadata(value)
        body = memoryview(value)[8 + int.from_bytes(value[:8], "little") :]
        if zlib.crc32(body) != int(facts["crc"]):
            raise WeightsError("checksum differs")
        arrays = dict(safetensors.load(value)) if body else {}
        if self._wanted is not None:
            arrays = {name: array for name, array in arrays.items() if name in self._wanted}
        _check_finite(arrays, key)
        return facts, arrays

    def _complete(self, facts: Mapping[str, str]) -> Generation | None:
        pending, rows = self._pending, int(facts["rows"])
        if pending.broken or pending.count != int(facts["records"]):
            return None
        numbers = sorted(int(part.removeprefix(_ROWS)) for part in pending.values if part.startswith(_ROWS))
        # Blocks beyond are of an older generation with more rows, as the first version has when it is pinned.
        numbers = [number for number in numbers if number * BLOCK_ROWS < rows]
        if self._seen is not None:
            self._seen.update(numbers)
            if len(self._seen) < -(-rows // BLOCK_ROWS):
                return None
            self._seen = None
        self._pending = _Pending(generation=pending.generation)
        blocks = [pending.values[f"{_ROWS}{number}"] for number in numbers]
        rows_U = np.concatenate([np.arange(0), *map(_rows_of, numbers, blocks)])
        if len(rows_U) and rows_U[-1] >= rows:
            raise WeightsError(f"row {rows_U[-1]} is beyond the {rows} rows announced")
        return Generation(
            slot=self._slot,
            generation=pending.generation,
            version=int(facts["version"]),
            config=json.loads(facts["config"]),
            rows=rows,
            rows_U=rows_U,
            tables=_joined(blocks),
            dense=pending.values.get("dense", {}),
        )


def _encode(arrays: Arrays, facts: Mapping[str, str]) -> bytes:
    _check_finite(arrays, "weights")
    contiguous = {name: np.ascontiguousarray(array) for name, array in arrays.items()}
    plain = safetensors.save(contiguous)
    crc = zlib.crc32(memoryview(plain)[8 + int.from_bytes(plain[:8], "little") :])
    return bytes(safetensors.save(contiguous, {**facts, "crc": str(crc)}))


def _metadata(head: bytes) -> dict[str, str]:
    length = int.from_bytes(head[:8], "little")
    header = json.loads(head[8 : 8 + length]) if len(head) >= 8 + length else None
    if not isinstance(header, dict):
        raise WeightsError("cut off or no safetensors at all")
    found: dict[str, str] = header.get("__metadata__", {})
    return found


def _check_finite(arrays: Arrays, where: str) -> None:
    for name, array in arrays.items():
        if np.issubdtype(array.dtype, np.floating) and not np.isfinite(array).all():
            raise WeightsError(f"{where}: {name} is not finite")


def _rows_of(block: int, arrays: Arrays) -> NDArray[np.int64]:
    lengths = {len(array) for array in arrays.values()} or {0}
    if len(lengths) != 1:
        raise WeightsError(f"tables of block {block} differ in length: {sorted(lengths)}")
    return np.arange(lengths.pop()) + block * BLOCK_ROWS


def _joined(blocks: list[Arrays]) -> Arrays:
    names = blocks[0] if blocks else ()
    return {name: np.concatenate([block[name] for block in blocks]) for name in names}
