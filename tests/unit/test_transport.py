"""The commit rule of record batches: the end of the longest run of finished batches from the front."""

import asyncio
import inspect
from collections import defaultdict, deque
from types import SimpleNamespace
from typing import Any
from unittest.mock import AsyncMock

import pytest
from aiokafka.consumer.fetcher import READ_COMMITTED, READ_UNCOMMITTED, Fetcher
from faust.transport.drivers import aiokafka
from faust.types import TP

from streams.kafka.transport import Consumer, ConsumerThread, _message
from streams.kafka.unpacking import FetchedResults

INTERACTIONS = TP("interactions", 0)


@pytest.fixture
def consumer() -> Consumer:
    """Return a consumer with nothing but its bookkeeping."""
    consumer = Consumer.__new__(Consumer)
    consumer._runs = {INTERACTIONS: deque()}
    consumer._seeks = 0
    consumer._acked = {INTERACTIONS: []}
    consumer._acked_index = {INTERACTIONS: set()}
    return consumer


def deliver(consumer: Consumer, *ends: int) -> list[SimpleNamespace]:
    batches = [SimpleNamespace(offset=end, acked=False) for end in ends]
    consumer._runs[INTERACTIONS].extend(batches)
    return batches


def test_the_commit_goes_no_further_than_the_first_unfinished_batch(consumer: Consumer) -> None:
    first, second, third = deliver(consumer, 9, 19, 29)
    first.acked = third.acked = True
    assert consumer._new_offset(INTERACTIONS) == 10
    assert consumer._new_offset(INTERACTIONS) is None
    second.acked = True
    assert consumer._new_offset(INTERACTIONS) == 30


def test_a_batch_that_a_rebalance_dropped_holds_the_commit_back_until_the_partition_is_sought(
    consumer: Consumer,
) -> None:
    deliver(consumer, 9)
    later = deliver(consumer, 19)[0]
    later.acked = True
    assert consumer._new_offset(INTERACTIONS) is None
    consumer._forget([INTERACTIONS])
    assert INTERACTIONS not in consumer._runs


def test_a_message_is_a_batch_that_ends_where_its_records_do() -> None:
    records: Any = SimpleNamespace(last_offset=7)
    message = _message(INTERACTIONS, records, 3)
    assert (message.topic, message.partition, message.offset) == ("interactions", 0, 7)
    assert (message.value, message.generation_id) == (records, 3)


async def test_a_consumer_whose_flow_is_stopped_delivers_nothing_and_goes_back(consumer: Consumer) -> None:
    consumer._wait_next_records = AsyncMock(return_value=({INTERACTIONS: [object()]}, None))
    consumer._seek_back = AsyncMock()
    consumer.flow_active = False
    consumer.app = SimpleNamespace(consumer_generation_id=1)
    consumer._stopped = SimpleNamespace(is_set=lambda: False)
    consumer._crashed = SimpleNamespace(is_set=lambda: False)
    consumer.beacon = SimpleNamespace(root=None)
    assert [found async for found in consumer.getmany(1.0)] == []
    consumer._seek_back.assert_awaited_once()


async def test_going_back_stops_the_flow_and_reaches_what_faust_does_not_seek(consumer: Consumer) -> None:
    """Faust empties its queues right after: what came in between would be gone."""
    fresh, owned, followed, unknown = TP("interactions", 1), TP("changelog", 0), TP("changelog", 1), TP("changelog", 2)
    recovery = SimpleNamespace(
        active_tps={owned}, active_offsets={owned: -1},
        standby_tps={followed, unknown}, standby_offsets={followed: 41, unknown: None},
    )  # fmt: skip
    topics = SimpleNamespace(acks_enabled_for=lambda topic: topic == "interactions")
    consumer.app = SimpleNamespace(topics=topics, tables=SimpleNamespace(recovery=recovery))
    consumer.can_resume_flow, consumer.suspend_flow = asyncio.Event(), asyncio.Event()
    consumer.flow_active = True
    consumer._read_offset, consumer._committed_offset = defaultdict(lambda: None), {}
    consumer.assignment = lambda: {INTERACTIONS, fresh, owned, followed, unknown}  # type: ignore[method-assign]

    async def committed() -> dict[TP, int | None]:
        assert not consumer.flow_active
        return {INTERACTIONS: 7}

    consumer.seek_to_committed, consumer.seek_wait = committed, AsyncMock()
    await consumer.perform_seek()
    consumer.seek_wait.assert_awaited_once_with({fresh: 0, owned: 0, followed: 41})
    assert not consumer.flow_active


async def test_what_was_being_fetched_during_a_seek_is_fetched_again(consumer: Consumer) -> None:
    async def fetched(_timeout: float) -> tuple[dict[TP, list[object]], None]:
        consumer._seeks += 1
        return {INTERACTIONS: [object()]}, None

    consumer._wait_next_records, consumer._seek_back = fetched, AsyncMock()
    consumer.flow_active = True
    consumer.app = SimpleNamespace(consumer_generation_id=1)
    consumer._stopped = consumer._crashed = SimpleNamespace(is_set=lambda: False)
    consumer.beacon = SimpleNamespace(root=None)
    assert [found async for found in consumer.getmany(1.0)] == []
    consumer._seek_back.assert_awaited_once()


async def test_each_message_names_the_one_before_it_in_its_run(consumer: Consumer) -> None:
    monitor = SimpleNamespace(track_tp_end_offset=lambda *_: None)
    topics = SimpleNamespace(acks_enabled_for=lambda _: True)
    consumer.app = SimpleNamespace(consumer_generation_id=1, monitor=monitor, topics=topics)
    consumer.highwater = lambda _: 9  # type: ignore[method-assign]
    consumer.flow_active, consumer._buffered_partitions = True, set()
    consumer._stopped = consumer._crashed = SimpleNamespace(is_set=lambda: False)
    consumer.beacon = SimpleNamespace(root=None)
    found = []
    for offset in (4, 5):
        records = SimpleNamespace(first_offset=offset, last_offset=offset)
        consumer._wait_next_records = AsyncMock(return_value=({INTERACTIONS: records}, None))
        found += [message async for _, message in consumer.getmany(1.0)]
    assert [(message.offset, message.begun) for message in found] == [(4, False), (5, False)]
    assert (found[0].after, found[1].after) == (None, found[0])
    found[0].acked = found[1].acked = True
    assert consumer._new_offset(INTERACTIONS) == 6
    assert found[1].after is None  # or every message would hold all those before it


def test_what_is_not_finished_is_behind_also_while_a_transaction_holds_it_back(consumer: Consumer) -> None:
    """A.6: the lag was taken of the last fetch that brought records, so what was held back was not in it."""
    other, changelog = TP("interactions", 1), TP("changelog", 0)
    ends = {INTERACTIONS: (30, 40), other: (7, 9), changelog: (0, 100)}
    consumer._thread = SimpleNamespace(ends=lambda: ends)
    consumer.app = SimpleNamespace(topics=SimpleNamespace(acks_enabled_for=lambda topic: topic == "interactions"))
    first, second = deliver(consumer, 19, 29)
    first.first, second.first = 10, 20
    assert consumer.behind() == {INTERACTIONS: 30, other: 2}
    first.acked = second.acked = True
    consumer._new_offset(INTERACTIONS)
    assert consumer.behind() == {INTERACTIONS: 10, other: 2}


async def test_a_changelogs_end_is_its_true_end() -> None:
    """A.6: aiokafka's would lie before an open transaction, and states that are committed lie behind it."""
    asked: list[tuple[int, Any]] = []

    class Ends(SimpleNamespace):
        async def end_offsets(self, partitions: Any, _timeout_ms: int) -> dict[TP, int]:
            asked.append((self._isolation_level, partitions))
            return {INTERACTIONS: 9}

    fetcher = Ends(_isolation_level=READ_COMMITTED)
    thread = object.__new__(ConsumerThread)
    thread._consumer = SimpleNamespace(_fetcher=fetcher, _request_timeout_ms=1000)
    assert await thread._highwaters([INTERACTIONS]) == {INTERACTIONS: 9}
    assert asked == [(READ_UNCOMMITTED, [INTERACTIONS])]
    assert fetcher._isolation_level == READ_COMMITTED


async def test_a_transaction_that_stays_open_is_told_once(monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[dict[str, Any]] = []
    monkeypatch.setattr("streams.kafka.transport._log", SimpleNamespace(warning=lambda _, **said: told.append(said)))
    monkeypatch.setattr("streams.kafka.transport._OPEN_SECONDS", 0.0)
    monkeypatch.setattr("streams.kafka.transport._WATCH_SECONDS", 0.001)
    states = {
        INTERACTIONS: SimpleNamespace(lso=5, position=5, highwater=9, has_valid_position=True),
        TP("interactions", 1): SimpleNamespace(lso=9, position=5, highwater=9, has_valid_position=True),
        TP("interactions", 2): SimpleNamespace(lso=None, position=0, highwater=None, has_valid_position=True),
    }
    assignment = SimpleNamespace(tps=list(states), state_value=states.__getitem__)
    subscriptions = SimpleNamespace(subscription=SimpleNamespace(assignment=assignment))
    looks = iter([False] * 5 + [True])
    thread = type("Thread", (ConsumerThread,), {"should_stop": property(lambda _: next(looks))})
    one = object.__new__(thread)
    one._consumer = SimpleNamespace(_fetcher=SimpleNamespace(_subscriptions=subscriptions))
    await one._watch_transactions()
    assert [(said["partition"], said["offset"]) for said in told] == [(0, 5)]


async def test_an_agent_that_raises_stops_the_worker() -> None:
    """Faust's own consumer commits and goes on with the next batch."""
    crashed: list[BaseException] = []

    class App:
        async def crash(self, reason: BaseException) -> None:
            crashed.append(reason)

    reason = RuntimeError("in an agent")
    consumer = Consumer.__new__(Consumer)
    consumer.app = App()
    await consumer.on_task_error(reason)
    assert crashed == [reason]


async def test_a_fetch_that_leaves_a_busy_partition_out_does_not_hold_it_back_for_long(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    fetcher = SimpleNamespace(_fetch_max_wait_ms=1500)

    async def start(thread: Any) -> None:
        thread._consumer = SimpleNamespace(_fetcher=fetcher)

    monkeypatch.setattr(aiokafka.AIOKafkaConsumerThread, "on_start", start)
    monkeypatch.setattr(ConsumerThread, "add_future", lambda _, watch: watch.close())
    await ConsumerThread.on_start(object.__new__(ConsumerThread))
    assert isinstance(fetcher._records, FetchedResults)
    assert fetcher._fetch_max_wait_ms == 100
    used = inspect.getsource(Fetcher._get_actions_per_node) + inspect.getsource(Fetcher._proc_fetch_request)
    assert all(f"self.{name}" in used for name in vars(fetcher)), "aiokafka has other names for them"
