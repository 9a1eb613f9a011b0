"""recovered records -> log: how far each partition of the table is, every few seconds and at its end."""

import time
from collections.abc import Callable
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

    def end(self) -> None:
        """Say what each partition came to, and begin anew."""
        now = self.clock()
        for partition, found in sorted(self._partitions.items()):
            self._say("partition_recovered", partition, found, now)
        self._partitions.clear()

    def _say(self, event: str, partition: int, found: _Partition, now: float) -> None:
        rate = round(found.records / max(now - found.began, 1e-3))
        _log.info(event, partition=partition, records=found.records, records_per_second=rate)
