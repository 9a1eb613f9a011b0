"""a file of events -> what a worker would reject and what was odd, line by line and why, without a broker."""

import time
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from streams.decoding import decode_interaction
from streams.errors import RejectedEventError
from streams.files.event_files import FileRow
from streams.records import Interaction
from streams.settings import StateSettings


@dataclass(frozen=True)
class Finding:
    """A line that a worker would dead-letter, or that holds something odd."""

    line: int
    reason: str
    """One of records.REASONS; `note` when the row is taken all the same."""
    detail: str


class Acceptance:
    """What a worker with these settings says to the rows of a file, by its own rules, in the order of the rows."""

    def __init__(self, settings: StateSettings) -> None:
        self._settings = settings
        self._now_ms = time.time_ns() // 1_000_000
        self.newest: dict[str, int] = {}
        """The newest event time of each user: lateness is judged against it."""

    def accept(self, row: FileRow) -> Interaction:
        """Return the interaction that a row holds.

        Raises:
            RejectedEventError: a worker would not take it.
        """
        if row.problem:
            raise row.problem
        interaction = decode_interaction(row.value, self._now_ms, self._settings.max_future_seconds * 1000)
        timestamp = int(interaction.timestamp)
        late = self.newest.get(interaction.user_id, timestamp) - timestamp
        if late > self._settings.max_late_seconds * 1000:
            detail = f"timestamp {timestamp} lies {late // 1000} s before the user's newest event"
            raise RejectedEventError("too_late", detail, "timestamp")
        self.newest[interaction.user_id] = timestamp + max(late, 0)
        return interaction


@dataclass
class Counts:
    """What was found so far."""

    rows: int = 0
    reasons: Counter[str] = field(default_factory=Counter)
    notes: int = 0
    """Rows that are taken although something in them was odd."""
    units: Counter[str] = field(default_factory=Counter)
    """What the times count in."""
    types: Counter[str] = field(default_factory=Counter)
    """Of the accepted ones."""
    unknown_types: Counter[str] = field(default_factory=Counter)
    users: set[str] = field(default_factory=set)
    items: set[str] = field(default_factory=set)

    @property
    def rejected(self) -> int:
        """How many lines a worker would dead-letter."""
        return self.reasons.total()


def validate(rows: Iterable[FileRow], settings: StateSettings, counts: Counts) -> Iterator[Finding]:
    """Yield what is to be said of each line, counting everything on the way.

    Raises:
        StartError: the file cannot be read.
    """
    acceptance = Acceptance(settings)
    for row in rows:
        counts.rows += 1
        if row.unit:
            counts.units[row.unit] += 1
        try:
            interaction = acceptance.accept(row)
        except RejectedEventError as exc:
            counts.reasons[exc.reason] += 1
            if exc.reason == "unknown_type":
                counts.unknown_types[row.type or ""] += 1
            yield Finding(row.line, exc.reason, exc.detail)
        else:
            counts.types[interaction.type] += 1
            counts.users.add(interaction.user_id)
            counts.items.add(interaction.item_id)
            counts.notes += bool(row.notes)
            yield from (Finding(row.line, "note", note) for note in row.notes)


def accepted(rows: Iterable[FileRow], settings: StateSettings) -> Iterator[tuple[FileRow, Interaction]]:
    """Yield the rows that a worker would take, with their interactions; how late they come does not matter."""
    acceptance = Acceptance(settings)
    for row in rows:
        acceptance.newest.clear()
        try:
            yield row, acceptance.accept(row)
        except RejectedEventError:
            continue
