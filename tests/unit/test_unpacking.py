"""What is unpacked from fetched bytes is what aiokafka unpacks: the same records, the same place to go on from."""

import gc
from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any
from weakref import ref

import pytest
from aiokafka.consumer.fetcher import READ_COMMITTED, FetchResult, PartitionRecords
from aiokafka.errors import CorruptRecordException
from aiokafka.record.default_records import DefaultRecordBatch, DefaultRecordBatchBuilder
from aiokafka.record.memory_records import MemoryRecords
from faust.types import TP

from streams.kafka.unpacking import FetchedResults, Records

INTERACTIONS = TP("interactions", 0)
CONTROL = 0x20
TRANSACTIONAL = 0x10
ATTRIBUTES = slice(21, 23)
CRC = slice(17, 21)


def batch(first: int, count: int, *, compression: int = 0, producer: int | None = None) -> bytes:
    """Return a Kafka batch of records with offsets from `first` on; with a producer, one of a transaction."""
    transactional, producer_id = (0, -1) if producer is None else (1, producer)
    builder = DefaultRecordBatchBuilder(2, compression, transactional, producer_id, 0, 0, 1 << 20)
    for at in range(count):
        headers: list[tuple[str, bytes | None]] = [("history", b"")] if at % 3 == 0 else []
        builder.append(at, 1000 + at, b"u%d" % at if at % 2 else None, b"%d" % (first + at), headers)
    return first.to_bytes(8, "big") + bytes(builder.build()[8:])


def control(first: int, producer: int = 7, *, commit: bool = True) -> bytes:
    """Return the mark that ends a transaction."""
    builder = DefaultRecordBatchBuilder(2, 0, 1, producer, 0, 0, 1 << 20)
    builder.append(0, 1000, b"\0\0\0" + bytes([commit]), b"\0" * 6, [])
    raw = bytearray(first.to_bytes(8, "big") + bytes(builder.build()[8:]))
    raw[ATTRIBUTES] = (CONTROL | TRANSACTIONAL).to_bytes(2, "big")
    raw[CRC] = crc32c(bytes(raw[CRC.stop :])).to_bytes(4, "big")
    return bytes(raw)


def crc32c(data: bytes) -> int:
    crc = 0xFFFFFFFF
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = crc >> 1 ^ (0x82F63B78 if crc & 1 else 0)
    return crc ^ 0xFFFFFFFF


def fetched(raw: bytes, start: int, moved: list[int], aborted: Sequence[tuple[int, int]] = ()) -> FetchResult:
    state = SimpleNamespace(paused=False, position=start, consumed_to=moved.append)
    assignment = SimpleNamespace(active=True, state_value=lambda _: state)
    records = PartitionRecords(INTERACTIONS, MemoryRecords(raw), list(aborted), start, None, None, True, READ_COMMITTED)
    return FetchResult(INTERACTIONS, assignment=assignment, partition_records=records, backoff=0)


def records_of(result: FetchResult) -> list[Any]:
    """Return the records, whether the result gives out each or all in one."""
    found = result.getall()
    return [record for one in found for record in one] if found and isinstance(found[0], Records) else found


def taken(result: FetchResult) -> list[tuple[Any, ...]]:
    records = records_of(result)
    return [(r.offset, r.timestamp, r.timestamp_type, r.key, r.value, tuple(r.headers)) for r in records]


@pytest.mark.parametrize(
    ("batches", "start"),
    [
        ([batch(0, 5), batch(5, 3)], 0),
        ([batch(10, 5), batch(15, 3)], 12),  # sought into the middle of a batch
        ([batch(0, 4, compression=1), batch(9, 2)], 1),  # compressed; records between were compacted away
        ([batch(0, 2), control(2), batch(3, 2)], 0),
        ([control(0)], 0),
        ([batch(0, 3)], 3),  # all of it before the place
    ],
)  # fmt: skip
def test_records_and_place_are_those_of_aiokafka(batches: Sequence[bytes], start: int) -> None:
    theirs, ours = [], []
    expected = taken(fetched(b"".join(batches), start, theirs))
    results = FetchedResults()
    results[INTERACTIONS] = fetched(b"".join(batches), start, ours)
    assert taken(results[INTERACTIONS]) == expected
    assert ours == theirs
    assert not results[INTERACTIONS].has_more()


@pytest.mark.parametrize(
    ("batches", "aborted"),
    [
        ([batch(0, 3, producer=7), control(3, commit=False), batch(4, 2)], [(7, 0)]),
        ([batch(0, 3, producer=7), control(3), batch(4, 2)], []),
        # The same producer aborts, then commits.
        ([batch(0, 1, producer=7), control(1, commit=False), batch(2, 1, producer=7), control(3)], [(7, 0)]),
        # Two producers side by side: one aborts, the other does not.
        ([batch(0, 2, producer=7), batch(2, 2, producer=8), control(4, 8), batch(5, 1, producer=7),
          control(6, 7, commit=False), batch(7, 1)], [(7, 0)]),
        # The fetch begins in the middle of a transaction that is aborted after it.
        ([batch(10, 2, producer=9), batch(12, 1)], [(9, 4)]),
        ([batch(0, 2, producer=7), control(2, commit=False)], [(7, 0)]),
        ([batch(0, 4, compression=1, producer=7), batch(4, 1, compression=1)], [(7, 0)]),
    ],
    ids=["abort", "commit", "abort and commit", "interleaved", "middle", "nothing left", "compressed"],
)  # fmt: skip
def test_what_was_aborted_is_left_out_as_aiokafka_leaves_it_out(
    batches: Sequence[bytes], aborted: Sequence[tuple[int, int]]
) -> None:
    """A.6: an aborted batch of 40 purchases was a history of 40."""
    theirs, ours, start = [], [], int.from_bytes(batches[0][:8], "big")
    expected = taken(fetched(b"".join(batches), start, theirs, aborted))
    results = FetchedResults()
    results[INTERACTIONS] = fetched(b"".join(batches), start, ours, aborted)
    assert taken(results[INTERACTIONS]) == expected
    assert ours == theirs


def test_what_holds_no_record_reaches_to_its_end_all_the_same() -> None:
    """A.6: a recovery would wait for ever for the offset of a mark, and the commit would stay before it."""
    results = FetchedResults()
    results[INTERACTIONS] = fetched(batch(4, 2, producer=7) + control(6, commit=False), 4, [], [(7, 4)])
    [records] = results[INTERACTIONS].getall()
    assert (records.last_offset, list(records)) == (6, [])


def test_records_reach_to_where_the_next_fetch_begins_and_are_read_once() -> None:
    results = FetchedResults()
    results[INTERACTIONS] = fetched(batch(0, 5) + batch(5, 3) + control(8), 0, [])
    [records] = results[INTERACTIONS].getall()
    assert records.last_offset == 8
    assert [record.offset for record in records] == list(range(8))
    with pytest.raises(RuntimeError, match="offset 8"):
        list(records)


def test_what_was_fetched_is_let_go_when_it_was_read() -> None:
    """The worker's collector runs after 500,000 objects: a cycle would hold a gigabyte of batches."""
    result = fetched(batch(0, 3), 0, [])
    theirs, results = ref(result._partition_records), FetchedResults()
    gc.disable()
    try:
        results[INTERACTIONS] = result
        records_of(result)
        assert theirs() is None
    finally:
        gc.enable()


def test_a_batch_that_does_not_match_its_checksum_is_refused() -> None:
    raw = bytearray(batch(0, 3))
    raw[-2] ^= 1  # of the last value
    results, moved = FetchedResults(), []
    results[INTERACTIONS] = fetched(bytes(raw), 0, moved)
    with pytest.raises(CorruptRecordException):
        results[INTERACTIONS].getall()
    assert not moved


def test_a_control_batch_as_made_here_is_one() -> None:
    assert DefaultRecordBatch(control(7)).is_control_batch
