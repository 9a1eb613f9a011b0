"""changelog -> changelog: now and then, what others wrote into a partition in which nothing happens is written over.

A partition with events sees the gap between its own records at each batch (see foreign_writes). In a quiet one, a
former owner's late record would stay the newest until compaction, which would then keep it.
"""

from collections.abc import Awaitable, Callable, Collection, Mapping
from functools import partial
from typing import Final

from streams.agents.pipeline import Pipeline
from streams.state.table import UserTable

LOOK_SECONDS: Final = 5.0

Ends = Callable[[Collection[int]], Awaitable[Mapping[int, int]]]
"""Asks Kafka for the end offsets of partitions of the changelog."""


class ReviewChangelog:
    """A task of the worker; `look` is one round."""

    def __init__(self, table: UserTable, pipeline: Pipeline, owned: Callable[[], Collection[int]], ends: Ends) -> None:
        self._table = table
        self._pipeline = pipeline
        self._owned = owned
        """The partitions whose users this worker may change at the moment."""
        self._ends = ends
        self._stored: dict[int, int | None] = {}

    async def look(self) -> None:
        """Review the partitions in which nothing was stored since the last look, and whose changelog has more."""
        before, self._stored = self._stored, {p: self._table.changelog_offset(p) for p in self._owned()}
        quiet = {p: offset for p, offset in self._stored.items() if offset is not None and before.get(p) == offset}
        ends = await self._ends(quiet) if quiet else {}
        for partition, offset in quiet.items():
            if ends[partition] - 1 > offset or self._table.set_back.get(partition):
                await self._pipeline.review(partition, partial(self._last, partition))

    async def _last(self, partition: int) -> int:
        return (await self._ends([partition]))[partition] - 1
