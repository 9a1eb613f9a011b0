"""Kafka's fetches -> records at hand: they are taken from aiokafka as they come, not when somebody asks for them.

aiokafka has one fetch under way at a time and leaves out of it every partition whose records wait to be taken: an event
of that partition then waits for as long as Kafka holds the fetch. Taken at once, every fetch asks for every partition.
"""

import asyncio
from collections.abc import Collection
from dataclasses import dataclass
from typing import Any, Final

from aiokafka.consumer.fetcher import Fetcher
from faust.types import TP

from streams.kafka.unpacking import Records

_HELD_BYTES: Final = 256 * 1024
"""With more at hand nothing is taken until somebody asks: one fetch is then here and the next one in aiokafka."""
_FETCH_SECONDS: Final = 1.0


@dataclass(slots=True)
class _Run:
    """Records of a partition, one after another."""

    records: Records
    assignment: Any
    end: int
    """aiokafka's position after them: it is another as soon as anybody seeks."""


class ReadAhead:
    """The records at hand; to be used in the loop of the fetcher."""

    def __init__(self, fetcher: Fetcher) -> None:
        self._fetcher = fetcher
        self._partitions: Collection[TP] = ()
        self._runs: dict[TP, _Run] = {}
        self._came, self._room = asyncio.Event(), asyncio.Event()
        self._reading: asyncio.Task[None] | None = None

    async def take(self, partitions: Collection[TP], seconds: float) -> dict[TP, Records]:
        """Return the records at hand of these partitions; wait for the first ones.

        Args:
            partitions: from now on only of these is anything taken; may be changed meanwhile.
            seconds: how long to wait at most.

        Raises:
            KafkaError: what the fetch failed with.
        """
        await self._read_of(partitions)
        self._came.clear()
        if not any(tp in partitions for tp in self._runs):
            reading, came = self._reading, asyncio.ensure_future(self._came.wait())
            assert reading
            await asyncio.wait({reading, came}, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
            came.cancel()
            if reading.done():
                self._reading = None
                reading.result()
        found = {tp: self._runs.pop(tp) for tp in list(self._runs) if tp in partitions}
        self._room.set()
        return {tp: run.records for tp, run in found.items() if self._follows(tp, run)}

    async def stop(self) -> None:
        """Take no more."""
        if self._reading:
            self._reading.cancel()
            await asyncio.wait({self._reading})
            self._reading = None

    async def _read_of(self, partitions: Collection[TP]) -> None:
        if self._partitions is not partitions:
            await self.stop()
            self._partitions = partitions
        if self._reading is None:
            self._reading = asyncio.create_task(self._read())

    async def _read(self) -> None:
        while True:
            records = await self._fetcher.fetched_records(self._partitions, timeout=_FETCH_SECONDS)
            for tp, [found] in records.items():
                self._add(tp, found)
            if records:
                self._came.set()
            while self._held() > _HELD_BYTES:
                self._room.clear()
                await self._room.wait()

    def _add(self, tp: TP, records: Records) -> None:
        assignment = self._fetcher._subscriptions.subscription.assignment  # noqa: SLF001
        end = assignment.state_value(tp).position
        run = self._runs.get(tp)
        if run and run.assignment is assignment and run.end == records.first_offset:
            run.records.extend(records)
            run.end = end
            return
        self._runs[tp] = _Run(records, assignment, end)

    def _held(self) -> int:
        """Bytes that somebody will ask for: not those of partitions that were taken away or are recovered by now."""
        return sum(run.records.size for tp, run in self._runs.items() if tp in self._partitions)

    def _follows(self, tp: TP, run: _Run) -> bool:
        """Whether what aiokafka fetches next comes right after the run: else it was sought or taken away meanwhile."""
        state = run.assignment.state_value(tp) if run.assignment.active else None
        return state is not None and state.has_valid_position and state.position == run.end
