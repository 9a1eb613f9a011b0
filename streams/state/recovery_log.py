"""recovered records -> log: how far each partition of the table is, every few seconds and at its end."""

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Final

import structlog

_log = structlog.get_logger()
_LINE_SECONDS: Final = 5.0


@dataclass
class _Partition:
    began: float
    said: float
    records: int = 0


class RecoveryLog:
    """Counts one recovery after the other."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self.clock = clock
        self._partitions: dict[int, _Partition] = {}
        self._assigned = clock()

    def begin(self) -> None:
        """Count from now on: partitions have been assigned."""
        self._assigned = self.clock()
        self._partitions.clear()

    def add(self, partition: int, records: int, began: float) -> None:
        """Count records that are in the store.

        Args:
            partition: of the table.
            records: how many.
            began: when work on them began, by the clock.
        """
        found = self._partitions.setdefault(partition, _Partition(began, began))
        found.records += records
        if (now := self.clock()) - found.said >= _LINE_SECONDS:
            found.said = now
            self._say("partition_recovering", partition, found, now)

    def end(self, owned: Iterable[int]) -> None:
        """Say what each partition came to, and since their assignment how long until all that are owned are ready."""
        now = self.clock()
        for partition, found in sorted(self._partitions.items()):
            self._say("partition_recovered", partition, found, now)
        self._partitions.clear()
        _log.info("partitions_ready", partitions=sorted(owned), seconds=round(now - self._assigned, 3))

    def _say(self, event: str, partition: int, found: _Partition, now: float) -> None:
        rate = round(found.records / max(now - found.began, 1e-3))
        _log.info(event, partition=partition, records=found.records, records_per_second=rate)
