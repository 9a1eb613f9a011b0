"""a file of events -> what a worker would reject, line by line and why, without a broker."""

import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from streams.errors import RejectedEventError
from streams.files.event_files import Columns, FileRow, read_rows
from streams.records import Interaction, decode_interaction
from streams.settings import StateSettings


@dataclass(frozen=True)
class Rejected:
    """A line that a worker would dead-letter."""

    line: int
    reason: str
    """One of records.REASONS."""
    detail: str


@dataclass
class Counts:
    """What was found so far."""

    rows: int = 0
    reasons: Counter[str] = field(default_factory=Counter)
    types: Counter[str] = field(default_factory=Counter)
    """Of the accepted ones."""
    users: dict[str, int] = field(default_factory=dict)
    """The newest event time of each user."""
    items: set[str] = field(default_factory=set)

    @property
    def rejected(self) -> int:
        """How many lines a worker would dead-letter."""
        return self.reasons.total()


def validate(path: Path, columns: Columns, settings: StateSettings, counts: Counts) -> Iterator[Rejected]:
    """Yield the lines that a worker with these settings would reject, counting everything on the way.

    Lateness is judged as the worker does: against the newest event of the same user so far.

    Raises:
        StartError: the file cannot be read.
    """
    now_ms = time.time_ns() // 1_000_000
    for row in read_rows(path, columns):
        counts.rows += 1
        try:
            interaction = _accept(row, settings, now_ms, counts.users)
        except RejectedEventError as exc:
            counts.reasons[exc.reason] += 1
            yield Rejected(row.line, exc.reason, exc.detail)
        else:
            counts.types[interaction.type] += 1
            counts.items.add(interaction.item_id)


def _accept(row: FileRow, settings: StateSettings, now_ms: int, newest: dict[str, int]) -> Interaction:
    interaction = decode_interaction(row.value, now_ms, settings.max_future_seconds * 1000)
    timestamp = int(interaction.timestamp)
    late = newest.get(interaction.user_id, timestamp) - timestamp
    if late > settings.max_late_seconds * 1000:
        detail = f"timestamp {timestamp} lies {late // 1000} s before the user's newest event"
        raise RejectedEventError("too_late", detail, "timestamp")
    newest[interaction.user_id] = timestamp + max(late, 0)
    return interaction
