"""changelog -> table: the worker's user states in RocksDB, recovered batch by batch.

Faust owns the life of the partitions (assignment, recovery, standbys); reads and writes go to the store directly,
because a Faust table write costs 60 us and allows only one event at a time.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping
from itertools import islice
from pathlib import Path
from typing import Any, Final

import faust
from faust.stores.rocksdb import RocksDBOptions
from faust.types import TP, EventT
from rocksdict import BlockBasedOptions, Cache, DBCompressionType, Options, Rdict, WriteBatch

from streams.instruments import WorkerInstruments
from streams.state.precedence import settled
from streams.state.recovery_log import RecoveryLog

_MEBIBYTE: Final = 1 << 20
_BLOCK_CACHE_BYTES: Final = 64 * _MEBIBYTE
_WRITE_BUFFER_BYTES: Final = 8 * _MEBIBYTE
_RECOVERY_BATCHES: Final = 2
"""Held in memory before they are written: Faust's own 1000 messages are 2 GB of batches. Not 1, with which it would go
on reading the changelog of partitions that it owns; a standby may have 1."""


class BoundedOptions(RocksDBOptions):  # type: ignore[misc] # faust has no types here
    """One block cache for all partitions and small write buffers: Faust's own take 2 GiB and 192 MiB a partition."""

    def __init__(self) -> None:
        super().__init__(use_rocksdict=True)
        self._cache = Cache(_BLOCK_CACHE_BYTES)

    def as_options(self) -> Options:
        """Return the options of one partition."""
        blocks = BlockBasedOptions()
        blocks.set_block_cache(self._cache)
        blocks.set_bloom_filter(10, block_based=False)
        blocks.set_block_size(16 * 1024)
        blocks.set_cache_index_and_filter_blocks(True)
        options = Options(raw_mode=True)
        options.create_if_missing(True)
        options.set_block_based_table_factory(blocks)
        options.set_write_buffer_size(_WRITE_BUFFER_BYTES)
        options.set_max_write_buffer_number(2)
        options.set_max_open_files(256)
        options.set_max_total_wal_size(32 * _MEBIBYTE)
        options.set_keep_log_file_num(1)
        options.set_compression_type(DBCompressionType.lz4())
        options.set_bottommost_compression_type(DBCompressionType.zstd())
        return options


class UserTable(faust.Table):  # type: ignore[misc] # faust has no types here
    """user_id -> state, both as bytes."""

    def __init__(self, app: faust.App, *, instruments: WorkerInstruments, **kwargs: Any) -> None:  # noqa: ANN401
        super().__init__(
            app,
            key_type=bytes,
            value_type=bytes,
            options={"driver": "rocksdict"},
            recovery_buffer_size=_RECOVERY_BATCHES,
            standby_buffer_size=1,
            **kwargs,
        )
        self._instruments = instruments
        self._recovery_log = RecoveryLog()
        self.set_back: dict[int, set[bytes]] = defaultdict(set)
        """By partition: users whose newest record in the changelog reflects less than the store."""

    def prepare(self) -> None:
        """Bound the store's memory; to be called before the app starts."""
        self.data.rocksdb_options = BoundedOptions()

    def read(self, partition: int, key: bytes) -> bytes | None:
        """Return a user's state from the local store."""
        value: bytes | None = self._database(partition).get(key)
        return value

    def scan(self, partition: int, start: bytes, count: int) -> list[tuple[bytes, bytes]]:
        """Return so many users and their states, by key, from `start` on."""
        stored = self._database(partition).items(from_key=start or None)
        users = ((key, value) for key, value in stored if key != self.data.offset_key)
        return list(islice(users, count))

    def changelog_offset(self, partition: int) -> int | None:
        """Return the offset up to which the local store reflects the changelog, None when it holds nothing yet."""
        offset = self._database(partition).get(self.data.offset_key)
        return None if offset is None else int(offset)

    def write(self, partition: int, states: Iterable[tuple[bytes, bytes | None]], changelog_offset: int) -> None:
        """Write states, already acknowledged by the changelog, and the offset up to which the store reflects it."""
        batch = WriteBatch(raw_mode=True)
        for key, value in states:
            if value is None:
                batch.delete(key)
            else:
                batch.put(key, value)
        if changelog_offset >= 0:
            batch.put(self.data.offset_key, str(changelog_offset).encode())
        self._database(partition).write(batch)

    def apply_changelog_batch(self, batch: Iterable[EventT]) -> None:
        """Write what the changelog brings during recovery, or to a standby.

        A state never replaces one that reflects more: a former owner may have written it late (see foreign_writes).
        """
        for event in batch:
            began = self._recovery_log.clock()
            partition, records = event.message.partition, event.message.value
            newest = settled(records, self._database(partition).get, self.set_back[partition])
            self.write(partition, newest.items(), records[-1].offset)
            self._instruments.recovered.inc(len(records))
            if self.app.in_recovery:  # a standby follows for ever
                self._recovery_log.add(partition, len(records), began)

    async def on_recovery_completed(self, active_tps: set[TP], standby_tps: set[TP]) -> None:
        """Say what was recovered, before the worker takes up its events."""
        await super().on_recovery_completed(active_tps, standby_tps)
        self._recovery_log.end()

    def size_bytes(self) -> Mapping[int, int]:
        """Return the bytes on disk of each open partition."""
        return {partition: _folder_bytes(self.data.partition_path(partition)) for partition in list(self.data._dbs)}  # noqa: SLF001

    def _database(self, partition: int) -> Rdict:
        return self.data._db_for_partition(partition)  # noqa: SLF001 - faust keeps its stores there


def _folder_bytes(path: Path) -> int:
    return sum(file.stat().st_size for file in path.glob("*") if file.is_file())
