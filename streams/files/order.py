"""rows of a file -> the same rows in the order of their event times: exports often run newest first."""

from collections.abc import Iterable
from itertools import pairwise
from typing import Protocol, TypeVar


class Timed(Protocol):
    """Whatever happened at a time."""

    @property
    def timestamp(self) -> int | None:
        """Event time in epoch milliseconds, None where it is not known."""


Row = TypeVar("Row", bound=Timed)


def in_event_order(rows: Iterable[Row]) -> list[Row]:
    """Return all rows, oldest first.

    Rows of one moment keep the order of the file, or the opposite one where the file as a whole runs backwards: the
    same rows turned around come out the same.
    """
    found = list(rows)
    times = [row.timestamp or 0 for row in found]
    if sum((later > earlier) - (later < earlier) for earlier, later in pairwise(times)) < 0:
        found.reverse()
    return sorted(found, key=lambda row: row.timestamp or 0)


def runs_back(rows: Iterable[tuple[str | None, int | None]]) -> bool:
    """Return whether the events of any user are not in the order of their times.

    >>> runs_back([("u", 5), ("v", 3), ("u", 6)]), runs_back([("u", 5), ("u", 4)])
    (False, True)
    """
    newest: dict[str, int] = {}
    for user_id, timestamp in rows:
        if user_id is None or timestamp is None:
            continue
        if timestamp < newest.get(user_id, timestamp):
            return True
        newest[user_id] = timestamp
    return False
