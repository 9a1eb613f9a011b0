"""Records are taken from aiokafka as they come, and dropped where somebody seeks."""

import asyncio
from collections.abc import AsyncIterator
from types import SimpleNamespace
from typing import Any

import pytest
from faust.types import TP

from streams.kafka.read_ahead import _HELD_BYTES, ReadAhead
from streams.kafka.unpacking import Records
from tests.builders import KafkaBatch

A, B = TP("interactions", 0), TP("interactions", 1)


class Fetcher:
    """What aiokafka's does with what has arrived: hand it over and move the position behind it."""

    def __init__(self) -> None:
        self.positions = {A: 0, B: 0}
        self.assignment = self.assign()
        self.arrived: dict[TP, list[Any]] = {}
        self.failure: Exception | None = None
        self._news = asyncio.Event()

    @property
    def _subscriptions(self) -> SimpleNamespace:
        return SimpleNamespace(subscription=SimpleNamespace(assignment=self.assignment))

    def assign(self) -> SimpleNamespace:
        def state(tp: TP) -> SimpleNamespace:
            return SimpleNamespace(has_valid_position=self.positions[tp] is not None, position=self.positions[tp])

        self.assignment = SimpleNamespace(active=True, state_value=state)
        return self.assignment

    def arrive(self, tp: TP, *offsets: int, size: int = 100) -> None:
        batches = [KafkaBatch(SimpleNamespace(offset=offset) for offset in offsets)]
        self.arrived[tp] = [Records(offsets[0], batches, size)]
        self._news.set()

    def fail(self, failure: Exception) -> None:
        self.failure = failure
        self._news.set()

    async def fetched_records(self, partitions: set[TP], timeout: float) -> dict[TP, list[Any]]:  # noqa: ASYNC109, ARG002
        while not (drained := {tp: self.arrived.pop(tp) for tp in list(self.arrived) if tp in partitions}):
            if self.failure:
                raise self.failure
            self._news.clear()
            await self._news.wait()
        for tp, records in drained.items():
            self.positions[tp] = records[0].last_offset + 1
        return drained


@pytest.fixture
async def fetcher() -> Fetcher:
    """Return one that has nothing yet."""
    return Fetcher()


@pytest.fixture
async def ahead(fetcher: Fetcher) -> AsyncIterator[ReadAhead]:
    """Return a ReadAhead that has begun to read both partitions."""
    ahead = ReadAhead(fetcher)
    assert await ahead.take(BOTH, 0) == {}
    yield ahead
    await ahead.stop()


BOTH = {A, B}


async def settle() -> None:
    """Let every task go as far as it can."""
    for _ in range(5):
        await asyncio.sleep(0)


def offsets(found: dict[TP, Records]) -> dict[TP, list[int]]:
    return {tp: [record.offset for record in records] for tp, records in found.items()}


async def test_records_are_taken_before_anybody_asks(ahead: ReadAhead, fetcher: Fetcher) -> None:
    for offset in (0, 1):
        fetcher.arrive(A, offset)
        await settle()
        assert fetcher.positions[A] == offset + 1  # so that the next fetch asks for this partition too
    assert offsets(await ahead.take(BOTH, 1.0)) == {A: [0, 1]}
    assert await ahead.take(BOTH, 0) == {}


async def test_who_waits_is_woken_by_the_first_records(ahead: ReadAhead, fetcher: Fetcher) -> None:
    waiting = asyncio.create_task(ahead.take(BOTH, 60.0))
    await settle()
    fetcher.arrive(B, 7)
    assert offsets(await waiting) == {B: [7]}


@pytest.mark.parametrize("sought", [0, 9, None])
async def test_what_was_at_hand_before_a_seek_is_dropped(ahead: ReadAhead, fetcher: Fetcher, sought: int) -> None:
    fetcher.arrive(A, 3, 4)
    fetcher.arrive(B, 1)
    await settle()
    fetcher.positions[A] = sought
    assert offsets(await ahead.take(BOTH, 0)) == {B: [1]}


@pytest.mark.parametrize("sought", [[2, 3], [9]])
async def test_what_comes_after_a_seek_does_not_join_what_was_before(
    ahead: ReadAhead, fetcher: Fetcher, sought: list[int]
) -> None:
    fetcher.arrive(A, 3, 4)
    await settle()
    fetcher.arrive(A, *sought)
    await settle()
    assert offsets(await ahead.take(BOTH, 0)) == {A: sought}


async def test_what_was_at_hand_before_an_assignment_is_dropped(ahead: ReadAhead, fetcher: Fetcher) -> None:
    fetcher.arrive(A, 3)
    await settle()
    fetcher.assignment.active = False
    fetcher.assign()
    fetcher.arrive(B, 0)
    await settle()
    assert offsets(await ahead.take(BOTH, 0)) == {B: [0]}


async def test_a_partition_that_is_not_wanted_keeps_its_records(ahead: ReadAhead, fetcher: Fetcher) -> None:
    fetcher.arrive(A, 0)
    await settle()
    only_b = {B}
    fetcher.arrive(B, 0)
    assert offsets(await ahead.take(only_b, 1.0)) == {B: [0]}
    assert offsets(await ahead.take(BOTH, 0)) == {A: [0]}


async def test_with_much_at_hand_the_rest_stays_with_aiokafka(ahead: ReadAhead, fetcher: Fetcher) -> None:
    fetcher.arrive(A, 0, size=_HELD_BYTES + 1)
    await settle()
    fetcher.arrive(B, 0)
    await settle()
    assert fetcher.positions[B] == 0
    assert list(await ahead.take(BOTH, 0)) == [A]
    assert offsets(await ahead.take(BOTH, 1.0)) == {B: [0]}


async def test_what_nobody_asks_for_any_more_does_not_hold_up_the_rest(ahead: ReadAhead, fetcher: Fetcher) -> None:
    wanted = {A, B}
    assert await ahead.take(wanted, 0) == {}
    fetcher.arrive(A, 0, size=_HELD_BYTES + 1)
    await settle()
    wanted.discard(A)  # taken away, or its recovery has ended
    fetcher.arrive(B, 0)
    assert await ahead.take(wanted, 0) == {}
    assert offsets(await ahead.take(wanted, 1.0)) == {B: [0]}


async def test_a_failed_fetch_fails_who_asks_and_the_next_one_goes_on(ahead: ReadAhead, fetcher: Fetcher) -> None:
    fetcher.fail(OSError("no such topic"))
    with pytest.raises(OSError, match="no such topic"):
        await ahead.take(BOTH, 60.0)
    fetcher.failure = None
    fetcher.arrive(A, 0)
    assert offsets(await ahead.take(BOTH, 60.0)) == {A: [0]}
