"""changelog -> table: the worker's user states in RocksDB, recovered batch by batch.

Faust owns the life of the partitions (assignment, recovery, standbys); reads and writes go to the store directly,
because a Faust table write costs 60 us and allows only one event at a time.
"""

import asyncio
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from functools import cached_property
from itertools import islice
from pathlib import Path
from typing import Any, Final

import faust
from faust.stores.rocksdb import RocksDBOptions
from faust.tables.manager import TableManager
from faust.types import TP, EventT
from rocksdict import BlockBasedOptions, Cache, DBCompressionType, Options, Rdict, WriteBatch, WriteOptions

from streams.full_disk import named_when_full
from streams.instruments import WorkerInstruments
from streams.state.first_looks import FirstLooks
from streams.state.precedence import settled
from streams.state.recovery_log import RecoveryLog

_MEBIBYTE: Final = 1 << 20
_BLOCK_CACHE_BYTES: Final = 64 * _MEBIBYTE
_WRITE_BUFFER_BYTES: Final = 8 * _MEBIBYTE
_FILES_WHEN_FILLED: Final = {
    "level0_file_num_compaction_trigger": "16",
    "level0_slowdown_writes_trigger": "32",
    "level0_stop_writes_trigger": "48",
}
"""While an empty store is filled: sixteen files are compacted at once, which takes 1.4 us of CPU a record less than
four after four. No more than sixteen, because every read looks into each of them."""
_FILES: Final = {
    "level0_file_num_compaction_trigger": "4",
    "level0_slowdown_writes_trigger": "20",
    "level0_stop_writes_trigger": "36",
}
"""RocksDB's own."""
_RECOVERY_BATCHES: Final = 2
"""Held in memory before they are written: Faust's own 1000 messages are 2 GB of batches. Not 1, with which it would go
on reading the changelog of partitions that it owns; a standby may have 1."""


def _unlogged() -> WriteOptions:
    options = WriteOptions()
    options.disable_wal = True
    return options


_UNLOGGED: Final = _unlogged()
"""Without RocksDB's log, which costs a recovery .8 us of 2.6 a record and writes everything twice. A crash takes the
end of what was recovered together with its offset; the changelog has it."""


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
        options.set_memtable_whole_key_filtering(True)
        options.set_memtable_prefix_bloom_ratio(0.1)  # a look for a new user takes .7 us instead of 1.7
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

    def open(self, path: Path, *, read_only: bool = False) -> Rdict:
        """Open a partition.

        Raises:
            StartError: the disk is full: opening one writes what the last worker had only logged.
        """
        with named_when_full(path.parent):
            return super().open(path, read_only=read_only)


class DeclaredTables(TableManager):  # type: ignore[misc] # faust has no types here
    """The app's tables, all of them declared before it starts: Faust's own waits a second for others."""

    async def on_start(self) -> None:
        """Begin at once."""
        await self._update_channels()
        await self.recovery.start()


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
        self._unlogged: set[int] = set()
        """Partitions with recovered states that a crash would take."""
        self._first_looks = FirstLooks()

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

    def write(
        self,
        partition: int,
        states: Iterable[tuple[bytes, bytes | None]],
        changelog_offset: int,
        *,
        logged: bool = True,
    ) -> None:
        """Write states, already acknowledged by the changelog, and the offset up to which the store reflects it.

        Args:
            partition: of the table.
            states: by user; None forgets the user.
            changelog_offset: -1 when there is none to write.
            logged: whether a crash must leave it. Nothing is logged over what is not: its offset alone would stay.

        Raises:
            StartError: the disk is full.
        """
        batch = WriteBatch(raw_mode=True)
        for key, value in states:
            if value is None:
                batch.delete(key)
            else:
                batch.put(key, value)
        if changelog_offset >= 0:
            batch.put(self.data.offset_key, str(changelog_offset).encode())
        database = self._database(partition)
        with named_when_full(self._folder):
            if logged:
                self._settle(partition)
                database.write(batch)
                self._first_looks.end(partition)
            else:
                self._unlogged.add(partition)
                database.write(batch, _UNLOGGED)

    @cached_property
    def _folder(self) -> Path:
        """Where the stores are; Faust puts it together from its settings each time, a sixteenth of a small batch."""
        return Path(self.data.path)

    def _settle(self, partition: int) -> None:
        if partition in self._unlogged:
            if (database := self.data._dbs.get(partition)) is not None:  # noqa: SLF001 # closing one flushes it
                database.flush()
                database.set_options(_FILES)
            self._unlogged.discard(partition)

    def apply_changelog_batch(self, batch: Iterable[EventT]) -> None:
        """Write what the changelog brings during recovery, or to a standby.

        A state never replaces one that reflects more: a former owner may have written it late (see foreign_writes).
        """
        for event in batch:
            began = self._recovery_log.clock()
            # A list, because Faust applies the batch again when something here raises.
            partition, records = event.message.partition, list(event.message.value)
            event.message.value = records
            newest = settled(records, self._reader(partition), self.set_back[partition])
            self.write(partition, newest.items(), event.message.offset, logged=not self.app.in_recovery)
            self._instruments.recovered.inc(len(records))
            if self.app.in_recovery:  # a standby follows for ever
                self._recovery_log.add(partition, len(records), began)

    def _reader(self, partition: int) -> Callable[[bytes], bytes | None]:
        database = self._database(partition)
        if self.app.in_recovery and next(iter(database.keys()), None) is None:
            self._first_looks.begin(partition)
            database.set_options(_FILES_WHEN_FILLED)
        return self._first_looks.reader(partition, database.get)

    def take(self) -> None:
        """Begin with the partitions that were assigned."""
        self._recovery_log.begin()
        self._first_looks.end()

    async def on_recovery_completed(self, active_tps: set[TP], standby_tps: set[TP]) -> None:
        """Say what was recovered, before the worker takes up its events."""
        await super().on_recovery_completed(active_tps, standby_tps)
        self._first_looks.end()
        for partition in list(self._unlogged):
            self._settle(partition)  # some 50 ms
            await asyncio.sleep(0)
        self._recovery_log.end(tp.partition for tp in active_tps)

    def size_bytes(self) -> Mapping[int, int]:
        """Return the bytes on disk of each open partition."""
        return {partition: _folder_bytes(self.data.partition_path(partition)) for partition in list(self.data._dbs)}  # noqa: SLF001

    def _database(self, partition: int) -> Rdict:
        return self.data._db_for_partition(partition)  # noqa: SLF001 - faust keeps its stores there


def _folder_bytes(path: Path) -> int:
    return sum(map(_file_bytes, path.glob("*")))


def _file_bytes(file: Path) -> int:
    try:
        return file.stat().st_size
    except FileNotFoundError:  # RocksDB has deleted it in the meantime
        return 0
