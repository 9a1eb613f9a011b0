"""What a replay did so far."""

from collections import Counter
from dataclasses import dataclass, field
from typing import Final

from streams.errors import RejectedEventError
from streams.files.event_files import FileRow

_TOLD: Final = 5


@dataclass
class Replayed:
    """Counted while it runs."""

    line: int = 0
    """The last one that was read."""
    mark: str = ""
    """What identifies it; see readers."""
    sent: int = 0
    acknowledged: int = 0
    before: int = 0
    """Rows that a replay before this one had sent."""
    items: int = 0
    items_acknowledged: int = 0
    items_left: int = 0
    """Items that the file describes and that the catalogue knows already."""
    rejected: Counter[str] = field(default_factory=Counter)
    """Rows that were not sent because a worker would not take them, by the reason."""
    unknown_types: Counter[str] = field(default_factory=Counter)
    told: list[str] = field(default_factory=list)
    """What was wrong with the first of them."""
    noted: int = 0
    """Rows that were sent although something in them was odd."""
    refused: int = 0
    """Records that Kafka did not take; the last reason is in `problem`."""
    problem: str = ""
    points: dict[int, tuple[int, int]] = field(default_factory=dict)
    """Partition to the place among the rows of the last one acknowledged, and its offset."""

    def reject(self, row: FileRow, why: RejectedEventError) -> None:
        """Count a row that is not sent."""
        self.rejected[why.reason] += 1
        if why.reason == "unknown_type":
            self.unknown_types[row.type or ""] += 1
        if len(self.told) < _TOLD:
            self.told.append(f"line {row.line}: {why.reason}: {why.detail}")
        self.passed(row)

    def passed(self, row: FileRow) -> None:
        """Keep how far the file was read."""
        self.line, self.mark = row.line, row.mark

    def refuse(self, why: str) -> None:
        """Count a record that Kafka does not take."""
        self.refused += 1
        self.problem = why
