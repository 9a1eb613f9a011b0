"""idle users -> tombstones: a slow sweep over the worker's own partitions, so that states and changelog stay bounded.

Idle is processing time: the days since something was last folded into the state. Event time would not do, because a
shop whose past is replayed would be forgotten at once.
"""

import asyncio
import time
from collections.abc import Callable, Collection, Sequence
from typing import Final

import structlog

from streams.agents.pipeline import Pipeline
from streams.instruments import WorkerInstruments
from streams.settings import Settings
from streams.state.impressions import waiting
from streams.state.precedence import tombstone_headers
from streams.state.table import UserTable
from streams.state.user_state import DAY_MS, last_day

_log = structlog.get_logger()

_SLICE_USERS: Final = 500
_PAUSE_SECONDS: Final = 0.05
"""Between two slices, which take 1 to 2 ms: a million users are looked at in two minutes."""
REST_SECONDS: Final = 3600.0
"""Between two sweeps."""


class ExpireUsers:
    """A task of the worker; `run` is one round."""

    def __init__(
        self,
        settings: Settings,
        table: UserTable,
        pipeline: Pipeline,
        owned: Callable[[], Collection[int]],
        instruments: WorkerInstruments,
    ) -> None:
        self._idle_days = settings.state.idle_days
        self._table = table
        self._pipeline = pipeline
        self._owned = owned
        """The partitions whose users this worker may change at the moment."""
        self._instruments = instruments

    async def run(self) -> None:
        """Sweep over all partitions once."""
        before_day = int(time.time() * 1000) // DAY_MS - self._idle_days
        for partition in sorted(self._owned()):
            expired = await self.sweep(partition, before_day)
            if expired:
                _log.info("users_expired", partition=partition, users=expired)

    async def sweep(self, partition: int, before_day: int) -> int:
        """Delete the users of a partition in whose state nothing was folded since a day; return how many."""
        start, expired = b"", 0
        while partition in self._owned():
            users = self._table.scan(partition, start, _SLICE_USERS)
            idle = [key.decode() for key, value in users if 0 < last_day(value) < before_day]
            if idle:
                expired += await self._expire(partition, idle, before_day)
            if len(users) < _SLICE_USERS:
                break
            start = users[-1][0] + b"\0"
            await asyncio.sleep(_PAUSE_SECONDS)
        return expired

    async def _expire(self, partition: int, user_ids: Sequence[str], before_day: int) -> int:
        gone = await self._pipeline.tombstone(
            partition, user_ids, lambda state: 0 < state.day < before_day, tombstone_headers(before_day)
        )
        self._instruments.expired_users.inc(len(gone))
        self._instruments.impressions.labels("expired").inc(sum(map(waiting, gone)))
        return len(gone)
