"""fetched bytes -> records: aiokafka's C records as they are, made when they are read.

aiokafka puts a ConsumerRecord around each of them: .6 of the .8 us that a record costs, all of it in the thread that
fetches, under the interpreter's lock, while the loop waits and no other fetch is under way. The bare ones have offset,
timestamp, key, value and headers; topic and partition are on the message that carries them. Made one by one in the loop
that reads them, they are let go while they are still in the processor's cache.

What a transaction aborted is left out, as aiokafka leaves it out; Kafka sends nothing that an open one holds back.
"""

import time
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from itertools import chain, dropwhile, starmap
from typing import Any

from aiokafka.consumer.fetcher import FetchResult, PartitionRecords
from aiokafka.errors import CorruptRecordException


class FetchedResults(OrderedDict[Any, Any]):
    """A fetcher's results by partition; all that was fetched of one is given out as a single Records.

    For a consumer that takes whole results (no max_poll_records).
    """

    def __setitem__(self, tp: Any, result: Any) -> None:  # noqa: ANN401 - aiokafka's: a FetchResult or a FetchError
        """Keep a result."""
        if type(result) is FetchResult:
            result._partition_records = _Fetched(result._partition_records)  # noqa: SLF001
        super().__setitem__(tp, result)


class Records:
    """What was fetched of one partition, in order; to be read once.

    There may be none, when all that was fetched was aborted or marks of transactions: whoever counts offsets, as the
    commit and a recovery do, must still get past them.
    """

    def __init__(self, first_offset: int, batches: Sequence[Any], size: int, last_offset: int | None = None) -> None:
        self.first_offset = first_offset
        """Where the fetch began; records before it are left out: a Kafka batch is sent whole."""
        self.last_offset: int = batches[-1].next_offset - 1 if last_offset is None else last_offset
        """Up to which it reaches, also when that record was compacted away, aborted or none at all."""
        self.size = size
        """Bytes, as they were fetched."""
        self.came = time.monotonic()
        """When the first of them was fetched."""
        self._fetches = [(first_offset, batches)]

    def extend(self, later: "Records") -> None:
        """Add what was fetched right after it."""
        self._fetches += later._fetches  # noqa: SLF001 - of its own kind
        self.last_offset = later.last_offset
        self.size += later.size

    def __iter__(self) -> Iterator[Any]:
        """Unpack record by record.

        Raises:
            RuntimeError: they were read before: a Kafka batch cannot be unpacked twice.
        """
        if not self._fetches:
            raise RuntimeError(f"the records up to offset {self.last_offset} were read before")
        fetches, self._fetches = self._fetches, []
        return chain.from_iterable(starmap(_from, fetches))


def _from(first_offset: int, batches: Sequence[Any]) -> Iterator[Any]:
    """Return the records of one fetch, in C but for the first ones: a generator costs .1 us a record."""
    return dropwhile(lambda record: record.offset < first_offset, chain.from_iterable(batches))


class _Fetched:
    """Stands in the place of aiokafka's PartitionRecords, which its FetchResult empties into a list."""

    def __init__(self, fetched: PartitionRecords) -> None:
        self.next_fetch_offset: int = fetched.next_fetch_offset
        self._fetched = fetched
        fetched._records_iterator = None  # noqa: SLF001 # a cycle: the megabytes would wait for Python's collector

    def __iter__(self) -> Iterator[Records]:
        """Yield one Records, or none when all that was fetched lies before the place.

        Raises:
            CorruptRecordException: a batch does not match its checksum.
        """
        first_offset, records, batches = self.next_fetch_offset, self._fetched._records, []  # noqa: SLF001
        size = records.size_in_bytes()
        while records.has_next():
            batch = records.next_batch()
            if self._fetched._check_crcs and not batch.validate_crc():  # noqa: SLF001
                raise CorruptRecordException(f"Invalid CRC - {self._fetched._tp}")  # noqa: SLF001
            if self._holds(batch):
                batches.append(batch)
            self.next_fetch_offset = batch.next_offset
        if self.next_fetch_offset > first_offset:
            yield Records(first_offset, batches, size, self.next_fetch_offset - 1)

    def _holds(self, batch: Any) -> bool:  # noqa: ANN401 - aiokafka's
        """Whether a batch has records for a reader: no mark of a transaction, and not aborted."""
        if batch.producer_id is None:  # of a format older than transactions
            return True
        fetched, aborted = self._fetched, self._fetched._aborted_producers  # noqa: SLF001
        fetched._consume_aborted_up_to(batch.base_offset)  # noqa: SLF001
        if batch.is_control_batch:
            if fetched._contains_abort_marker(batch):  # noqa: SLF001
                aborted.discard(batch.producer_id)
            return False
        return not (batch.is_transactional and batch.producer_id in aborted)
