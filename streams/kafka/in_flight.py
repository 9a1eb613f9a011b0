"""How much of a partition is under way between its fold and its commit: two large batches or sixteen small ones.

More would only wait, in memory, for the same Kafka and the same Triton. But at a low rate a batch is of one event, and
with two of them under way the third held up every partition's events (10 ms at 200 events/s).
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

MOST: Final = 4 * 1024 * 1024
"""Bytes: two whole fetches."""
LEAST: Final = MOST // 16
"""What the smallest batch counts."""


class InFlight:
    """Of one partition. Who wants to begin does so in turn."""

    def __init__(self) -> None:
        self._load = 0
        self._turn = asyncio.Lock()
        self._less = asyncio.Event()

    async def begin(self, size: int) -> None:
        """Wait for room for a batch of so many bytes; call `end` with the same number."""
        await self._begin(_load(size))

    def end(self, size: int) -> None:
        """Make room."""
        self._end(_load(size))

    @asynccontextmanager
    async def alone(self) -> AsyncIterator[None]:
        """Wait until nothing is under way, and let nothing begin meanwhile."""
        await self._begin(MOST)
        try:
            yield
        finally:
            self._end(MOST)

    async def _begin(self, load: int) -> None:
        async with self._turn:
            while self._load and self._load + load > MOST:
                self._less.clear()
                await self._less.wait()
            self._load += load

    def _end(self, load: int) -> None:
        self._load -= load
        self._less.set()


def _load(size: int) -> int:
    return max(LEAST, size)
