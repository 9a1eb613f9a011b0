"""changelog -> changelog: what another worker wrote into a partition of ours is found, and written over.

The owner of a partition is the only writer of its changelog, so its records lie side by side. A gap between them means
that a former owner woke up and wrote after the partition had moved: the lease leaves it a moment between looking at the
clock and sending. Its states are older than ours and would win the compaction. So the records in the gap are read, and
whatever they set back is sent again as we hold it; so is what recovery found set back. If it is we who are behind, we
are the former owner, and stop.
"""

import asyncio
import time
from collections.abc import Iterable
from dataclasses import dataclass
from functools import partial
from typing import Final

import structlog
from confluent_kafka import Consumer, KafkaError, TopicPartition

from streams.errors import HeadraceError
from streams.instruments import WorkerInstruments
from streams.kafka.clients import librdkafka_config
from streams.kafka.outputs import Outputs
from streams.settings import Settings
from streams.state.precedence import Headers, covers, settled
from streams.state.table import UserTable
from streams.state.user_states import UserStates

_log = structlog.get_logger()
_READ_SECONDS: Final = 3.0
"""Shorter than the lease: who cannot read the changelog cannot write to it either."""


class OvertakenError(HeadraceError):
    """Another worker owns the partition and is further on."""


@dataclass(frozen=True, slots=True)
class _Written:
    key: bytes
    value: bytes | None
    headers: Headers | None


class ForeignWrites:
    """Looks at where each batch of states came to lie in the changelog."""

    def __init__(
        self, settings: Settings, table: UserTable, states: UserStates, outputs: Outputs, instruments: WorkerInstruments
    ) -> None:
        self._settings = settings
        self._table = table
        self._states = states
        self._outputs = outputs
        self._instruments = instruments

    async def check(self, partition: int, last_offset: int, count: int) -> int:
        """Write over what others wrote between our newest records and those before; return up to where that was seen.

        To be called before our newest are stored.

        Args:
            partition: of the changelog.
            last_offset: of our newest records, all acknowledged; of the changelog's last record when there are none.
            count: how many ours are.

        Raises:
            OvertakenError: the others are further on than we are.
        """
        stored = self._table.changelog_offset(partition)
        foreign = 0 if stored is None else last_offset - stored - count
        recovered = self._table.set_back.pop(partition, None)
        if not foreign and not recovered:
            return last_offset
        behind = {key: value for key in recovered or () if (value := self._ours(partition, key))}
        if foreign and stored is not None:
            behind |= self._set_back(partition, await asyncio.to_thread(self._read, partition, stored + 1, last_offset))
        _log.warning("foreign_writes", partition=partition, records=foreign, set_back=len(behind))
        self._instruments.foreign_writes.inc(foreign)
        delivery = self._outputs.delivery()
        for key, value in behind.items():
            self._outputs.send(self._table.changelog_topic_name, key, value, delivery, partition=partition)
        sent = await delivery.seal().acknowledged()
        return sent if sent == last_offset + len(behind) else last_offset

    def _set_back(self, partition: int, written: Iterable[_Written]) -> dict[bytes, bytes]:
        """Return our states of the users whose newest record reflects less than one before it."""
        behind: set[bytes] = set()
        kept = settled(written, partial(self._table.read, partition), behind)
        ours = {key: self._ours(partition, key) for key in kept}
        overtaken = sum(not covers(ours[key], value) for key, value in kept.items())
        if overtaken:
            raise OvertakenError(
                f"Another worker wrote newer states of {overtaken} users into partition {partition}, so it owns the "
                "partition; this worker ends and is to be started again."
            )
        return {key: value for key, value in ours.items() if value and key in behind}

    def _ours(self, partition: int, key: bytes) -> bytes | None:
        state = self._states.readable(partition, key.decode())
        return state.encode() if state else None

    def _read(self, partition: int, first: int, last: int) -> list[_Written]:
        group = self._settings.topics.named("foreign-writes")  # never joined: the partition is assigned
        # Uncommitted: a state that an open transaction stands before is ours to see. Marks of transactions are no
        # records, so it is the end of the partition that says that all were read.
        consumer = Consumer(
            librdkafka_config(
                self._settings, group_id=group, enable_auto_commit=False, isolation_level="read_uncommitted",
                enable_partition_eof=True,
            )
        )  # fmt: skip
        written: list[_Written] = []
        deadline, position = time.monotonic() + _READ_SECONDS, first
        try:
            consumer.assign([TopicPartition(self._table.changelog_topic_name, partition, first)])
            while position <= last:
                if time.monotonic() > deadline:
                    raise OvertakenError(f"The changelog of partition {partition} cannot be read; the worker ends.")
                for record in consumer.consume(1000, 0.1):
                    if record.error() is None and record.offset() <= last:
                        written.append(_Written(record.key(), record.value(), record.headers()))
                    if record.error() is None:
                        position = record.offset() + 1
                    elif record.error().code() == KafkaError._PARTITION_EOF:  # noqa: SLF001 - its public name
                        position = max(position, record.offset())
        finally:
            consumer.close()
        return written
