"""generations -> whether a model's answer counts: not one that was never trained, nor one that is far behind.

A server that does not take the generations (its weights have another shape, its reader is dead) answers in time and in
good health, with items drawn at random or with last month's taste; neighbours of today are better than both.
"""

from collections import deque

from engine.weights import CHAMPION
from streams.followers.neighbours import NeighbourTables
from streams.triton.scorer import Proposals


class Freshness:
    """Compares a model's generation with those that this worker follows.

    Args:
        max_behind_seconds: a model may lack what came within this.
        serve_untrained: a model that was never trained counts as well.
    """

    def __init__(self, max_behind_seconds: float, *, serve_untrained: bool = False) -> None:
        self._max_behind_seconds = max_behind_seconds
        self._serve_untrained = serve_untrained
        self._followed: deque[tuple[int, float]] = deque([(0, 0.0)])
        """Generations and when they were first seen; the first one is the newest that a model may not lack."""

    def fault(self, answer: Proposals, tables: NeighbourTables | None, now: float) -> str | None:
        """Return why an answer does not count, `untrained` or `behind`; None when it does."""
        self._follow(tables, now)
        if not self._serve_untrained and answer.generation <= (tables.untrained if tables else 0):
            return "untrained"
        if tables and answer.slot == CHAMPION and answer.generation < self._followed[0][0]:
            return "behind"
        return None

    def _follow(self, tables: NeighbourTables | None, now: float) -> None:
        if tables is not None and tables.generation != self._followed[-1][0]:
            self._followed.append((tables.generation, now))
        while len(self._followed) > 1 and self._followed[1][1] <= now - self._max_behind_seconds:
            self._followed.popleft()
