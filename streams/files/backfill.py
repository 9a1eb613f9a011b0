"""a file of older interactions -> batches, as if they had just come."""

from collections.abc import Iterator
from itertools import takewhile
from pathlib import Path
from typing import Final

from streams.catalogue.row_log import RowLog
from streams.files.event_files import Columns, accepted
from streams.learning.examples import ExampleBatch
from streams.records import TYPE_CODES

_BATCH: Final = 256


def file_batches(
    path: Path, columns: Columns, until_line: int | None, rows: RowLog, length: int
) -> Iterator[ExampleBatch]:
    """Give all items a row, then yield the interactions in the file's order.

    Args:
        path: jsonl, csv or parquet.
        columns: names in the file.
        until_line: the last line wanted; None for all.
        rows: items of the file are appended to it.
        length: of a history.

    Raises:
        StartError: Kafka does not take the rows.
    """
    lines = takewhile(lambda found: until_line is None or found[0] <= until_line, accepted(path, columns))
    interactions = [interaction for _, interaction in lines]
    rows.append(interaction.item_id for interaction in interactions)
    histories: dict[str, list[tuple[int, int, int]]] = {}
    for begin in range(0, len(interactions), _BATCH):
        some = interactions[begin : begin + _BATCH]
        batch = ExampleBatch(length)
        for interaction, row in zip(some, rows.of(one.item_id for one in some), strict=True):
            timestamp: int = interaction.timestamp  # type: ignore[assignment]  # decode_interaction made it an int
            entry = (row, TYPE_CODES[interaction.type], timestamp // 1000)
            history = histories.setdefault(interaction.user_id, [])
            batch.extend(interaction.user_id, history, [entry])
            history.append(entry)
            del history[:-length]
        yield batch
