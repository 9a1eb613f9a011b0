"""a file of older interactions -> batches, oldest first, as if they had just come: each row of a file once."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import takewhile
from pathlib import Path
from typing import Final

from streams.catalogue.row_log import RowLog
from streams.files.columns import Columns
from streams.files.event_files import EventFile
from streams.files.order import in_event_order
from streams.files.readers import known_mark, line_of
from streams.files.validate import accepted
from streams.learning.examples import ExampleBatch
from streams.records import TYPE_CODES, Interaction
from streams.settings import StateSettings

_BATCH: Final = 256


@dataclass(frozen=True)
class Past:
    """What a file holds for a learner."""

    interactions: Sequence[tuple[Interaction, bool]]
    """Those that a worker would take, oldest first, and whether they are to be learned: else they were before."""
    mark: str
    """What identifies the file up to the last row wanted; empty when there is none. See readers."""
    rejected: int
    """Rows that a worker would not take."""

    @property
    def new(self) -> int:
        """How many are to be learned."""
        return sum(new for _, new in self.interactions)


def read_past(
    path: Path, columns: Columns, settings: StateSettings, *, until_line: int | None, learned: Sequence[str]
) -> Past:
    """Read a file that is to be learned.

    Args:
        path: jsonl, csv or parquet.
        columns: what the user said of it.
        settings: what a worker takes.
        until_line: the last line wanted; None for all.
        learned: marks of what was learned before: of this file, whatever its name was, and of others.

    Raises:
        StartError: the file cannot be read.
    """
    known = line_of(known_mark(path, learned))
    rows = list(takewhile(lambda row: until_line is None or row.line <= until_line, EventFile(path, columns)))
    mark, count = rows[-1].mark if rows else "", len(rows)
    taken = [(interaction, row.line > known) for row, interaction in accepted(in_event_order(rows), settings)]
    return Past(taken, mark, count - len(taken))


def file_batches(past: Past, rows: RowLog, length: int) -> Iterator[ExampleBatch]:
    """Give all items a row, then yield what is to be learned, each with its user's history.

    Args:
        past: see read_past.
        rows: items of the file are appended to it.
        length: of a history.

    Raises:
        StartError: Kafka does not take the rows.
    """
    found = past.interactions
    rows.append(interaction.item_id for interaction, _ in found)
    histories: dict[str, list[tuple[int, int, int]]] = {}
    for begin in range(0, len(found), _BATCH):
        some = found[begin : begin + _BATCH]
        batch = ExampleBatch(length, _BATCH)
        for (interaction, new), row in zip(some, rows.of(one.item_id for one, _ in some), strict=True):
            entry = (row, TYPE_CODES[interaction.type], int(interaction.timestamp) // 1000)
            history = histories.setdefault(interaction.user_id, [])
            if new:
                batch.extend(interaction.user_id, history, [entry])
            history.append(entry)
            del history[:-length]
        if not batch.empty:
            yield batch
