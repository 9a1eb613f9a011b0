"""How far each partition has been folded: what `?after=` waits for."""

import asyncio
from collections import defaultdict
from heapq import heapify, heappop, heappush
from typing import Final

_NONE: Final = -1


class Progress:
    """The highest offset that the states of a partition reflect, and who waits for a higher one."""

    def __init__(self, topic: str) -> None:
        self.topic = topic
        """Whose offsets are followed."""
        self._reached: dict[int, int] = {}
        self._waiting: dict[int, list[tuple[int, int, asyncio.Future[None]]]] = defaultdict(list)
        self._tickets = 0

    def advance(self, partition: int, offset: int) -> None:
        """Say that the states reflect everything up to offset."""
        self._reached[partition] = max(offset, self._reached.get(partition, _NONE))
        waiting = self._waiting[partition]
        while waiting and waiting[0][0] <= offset:
            future = heappop(waiting)[2]
            if not future.done():
                future.set_result(None)

    def forget(self, partition: int) -> None:
        """Let go of a partition; who waits for it runs into the deadline."""
        self._reached.pop(partition, None)

    async def reached(self, partition: int, offset: int, timeout_seconds: float) -> None:
        """Wait until the states of a partition reflect offset.

        Raises:
            TimeoutError: they do not in time.
        """
        if self._reached.get(partition, _NONE) >= offset:
            return
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._tickets += 1
        waiting, ticket = self._waiting[partition], (offset, self._tickets, future)
        heappush(waiting, ticket)
        try:
            await asyncio.wait_for(future, timeout_seconds)
        except (TimeoutError, asyncio.CancelledError):
            waiting.remove(ticket)  # its offset may never be reached
            heapify(waiting)
            raise
