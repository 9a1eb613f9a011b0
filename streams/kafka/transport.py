"""Kafka -> agents: one message a fetched partition batch, its value the records.

Stock Faust makes a message, an event, a queue entry and an ack of every record: 15,000 records/s with an agent that
does nothing. Batches make that cost once a fetch; group membership, assignment, recovery and standbys remain Faust's.

A batch covers the offsets from the end of the one before it to its own last record. What is committed is the end of the
longest run of finished batches from the front: Faust now and then drops a delivered batch (a rebalance cancels the
callback), and committing the highest finished offset would then lose its events (measured: 9 of 30,009). Each message
names the one before it in the run, so that an agent can tell that one was dropped.

What a transaction aborted is never read, and what an open one holds back is waited for.
"""

import asyncio
import copy
import time
from collections import defaultdict, deque
from collections.abc import AsyncIterator, Iterable, Iterator, Mapping
from collections.abc import Set as AbstractSet
from contextlib import suppress
from typing import Any, Final

import structlog
import uvloop
from aiokafka.consumer.fetcher import READ_COMMITTED, READ_UNCOMMITTED
from aiokafka.errors import ConsumerStoppedError, IllegalStateError
from faust.transport.drivers import aiokafka
from faust.types import TP, ConsumerMessage, Message

from streams.errors import HeadraceError
from streams.kafka.read_ahead import ReadAhead
from streams.kafka.unpacking import FetchedResults, Records

FETCH_WAIT_MS: Final = 100
"""What Kafka waits for records to come. One request is under way at a time, and one that was sent while a partition's
records wait to be taken does not ask for that partition: Faust's 1500 held recovery back to 14,500 records/s."""

_log = structlog.get_logger()

_WATCH_SECONDS: Final = 0.5
_OPEN_SECONDS: Final = 10.0
"""A transaction that holds records back for longer is told."""
_OPEN: Final = (
    "A producer's transaction is open; what comes after it is read when it ends, which Kafka sees to after the "
    "producer's transaction.timeout.ms."
)


class NoMemberError(HeadraceError):
    """Kafka does not take the worker into its group, and will not."""


class ConsumerThread(aiokafka.AIOKafkaConsumerThread):  # type: ignore[misc] # faust has no types here
    """The thread that fetches."""

    _read_ahead: ReadAhead

    async def on_start(self) -> None:
        """Start the client, which takes no such settings from Faust."""
        await super().on_start()
        fetcher = self._consumer._fetcher  # noqa: SLF001
        fetcher._fetch_max_wait_ms = FETCH_WAIT_MS  # noqa: SLF001
        fetcher._isolation_level = READ_COMMITTED  # noqa: SLF001
        fetcher._records = FetchedResults()  # noqa: SLF001 # nothing is assigned yet, so nothing was fetched
        self._read_ahead = ReadAhead(fetcher)
        self.add_future(self._watch())
        self.add_future(self._watch_transactions())

    async def _watch(self) -> None:
        """End a worker that Kafka refuses: aiokafka says so to whoever fetches, and without partitions nobody does."""
        coordinator = self._consumer._coordinator  # noqa: SLF001
        while not self.should_stop and not coordinator._coordination_task.cancelled():  # noqa: SLF001
            try:
                coordinator.check_errors()
            except Exception as exc:  # noqa: BLE001 - whatever ended it, this is no member any more
                why = exc.__cause__ or exc
                refused = NoMemberError(
                    f"Kafka takes this worker into the group {coordinator.group_id} no more ({why!r}); "
                    "check HEADRACE_KAFKA__SESSION_TIMEOUT_SECONDS against what the brokers allow, and its rights."
                )
                asyncio.run_coroutine_threadsafe(self.consumer.app.crash(refused), self.parent_loop)
                return
            await asyncio.sleep(_WATCH_SECONDS)

    async def _watch_transactions(self) -> None:
        """Say which transaction holds records back for long."""
        held: dict[TP, tuple[int, float]] = {}
        while not self.should_stop:
            now, found = time.monotonic(), dict(self._held_back())
            held = {tp: (at, held[tp][1] if held.get(tp, (-1,))[0] == at else now) for tp, at in found.items()}
            for tp, (at, since) in held.items():
                if now - since > _OPEN_SECONDS:
                    held[tp] = (at, float("inf"))  # told
                    _log.warning("transaction_open", topic=tp.topic, partition=tp.partition, offset=at, why=_OPEN)
            await asyncio.sleep(_WATCH_SECONDS)

    def _held_back(self) -> Iterator[tuple[TP, int]]:
        """Yield the partitions that were read up to the first record of an open transaction, and its offset."""
        for tp, state in self._states():
            if state.lso is not None and state.has_valid_position and state.lso <= state.position < state.highwater:
                yield tp, state.lso

    def ends(self) -> dict[TP, tuple[int, int]]:
        """Return the place up to which each partition was fetched, and its end; may be called by another thread."""
        return {
            tp: (state._position, state.highwater)  # noqa: SLF001 - the public one may vanish between two looks
            for tp, state in self._states()
            if state.highwater is not None
        }

    def _states(self) -> Iterator[tuple[TP, Any]]:
        """Yield what aiokafka knows of each partition that is assigned."""
        subscription = self._consumer and self._consumer._fetcher._subscriptions.subscription  # noqa: SLF001
        assignment = subscription and subscription.assignment
        for tp in assignment.tps if assignment else ():
            yield TP(*tp), assignment.state_value(tp)

    async def _highwaters(self, partitions: Iterable[TP]) -> Mapping[TP, int]:
        """Return the true ends, for the changelogs: their records past an open transaction are the workers' states.

        A recovery waits for them, and Kafka ends the transaction at last. aiokafka would say that the end is before it.
        """
        fetcher = copy.copy(self._consumer._fetcher)  # noqa: SLF001
        fetcher._isolation_level = READ_UNCOMMITTED  # noqa: SLF001
        ends: Mapping[TP, int] = await fetcher.end_offsets(partitions, self._consumer._request_timeout_ms)  # noqa: SLF001
        return ends

    async def on_thread_stop(self) -> None:
        """Fetch no more, and leave the group, in which aiokafka has a member with a name stay until it times out."""
        await self._read_ahead.stop()
        if self._consumer is not None:
            self._consumer._coordinator._group_instance_id = None  # noqa: SLF001
        await super().on_thread_stop()

    async def getmany(self, active_partitions: AbstractSet[TP], timeout: float) -> dict[TP, Records]:  # noqa: ASYNC109
        """Return the records at hand, however many."""
        found: dict[TP, Records] = await self.call_thread(self._take, active_partitions, timeout)
        return found

    async def _take(self, partitions: AbstractSet[TP], seconds: float) -> dict[TP, Records]:
        if not self.consumer.flow_active:
            return {}
        if self._consumer._closed:  # noqa: SLF001
            raise ConsumerStoppedError
        with self._consumer._fetcher._subscriptions.fetch_context():  # noqa: SLF001 - or the group takes it for dead
            return await self._read_ahead.take(partitions, seconds)


class Consumer(aiokafka.Consumer):  # type: ignore[misc] # faust has no types here
    """The aiokafka consumer, batch by batch."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:  # noqa: ANN401 - faust's own
        super().__init__(*args, **kwargs)
        self._runs: dict[TP, deque[Message]] = defaultdict(deque)
        self._seeks = 0

    def _new_consumer_thread(self) -> ConsumerThread:
        return ConsumerThread(self, loop=self.loop, thread_loop=uvloop.new_event_loop(), beacon=self.beacon)

    async def getmany(self, timeout: float) -> AsyncIterator[tuple[TP, Message]]:  # noqa: ASYNC109 - faust's signature
        """Yield one message a partition that has records."""
        seeks = self._seeks
        records, active = await self._wait_next_records(timeout)
        generation = self.app.consumer_generation_id
        if records is None or self.should_stop:
            return
        if not self.flow_active or seeks != self._seeks:  # of before or after: nobody can tell
            await self._seek_back()
            return
        for tp, fetched in records.items():
            if not self.flow_active or self.app.consumer_generation_id != generation:
                break
            if fetched and (active is None or tp in active or tp in self._buffered_partitions):
                self.app.monitor.track_tp_end_offset(tp, self.highwater(tp))
                message = _message(tp, fetched, generation)
                if self.app.topics.acks_enabled_for(tp.topic):
                    run = self._runs[tp]
                    message.after, message.begun, message.first = run[-1] if run else None, False, fetched.first_offset
                    run.append(message)
                yield tp, message

    def behind(self) -> dict[TP, int]:
        """Return how many records of each partition are not finished yet, those of an open transaction among them."""
        behind = {}
        for tp, (fetched, end) in self._thread.ends().items():
            run = self._runs.get(tp)
            begun = run[0].first if run else fetched
            if begun is not None and self.app.topics.acks_enabled_for(tp.topic):
                behind[tp] = max(0, end - begun)
        return behind

    async def perform_seek(self) -> None:
        """Go back to where all that was fetched and not taken in will come again, with the flow stopped.

        At the end of a recovery Faust calls this while records flow, empties its queues and resumes the flow. What came
        in between was gone: an event for its history, a state for the standby that waits for it.
        """
        self.stop_flow()
        await self._seek_back()

    async def _seek_back(self) -> None:
        self._seeks += 1
        self._forget()
        await super().perform_seek()
        places = {tp: place for tp in self.assignment() if (place := self._place(tp)) is not None}
        with suppress(IllegalStateError):  # one was taken away meanwhile; the next assignment seeks again
            await self.seek_wait(places)

    def _place(self, tp: TP) -> int | None:
        """Return where a partition goes on that Faust has not sought, None where it has."""
        recovery = self.app.tables.recovery
        for tps, offsets in (
            (recovery.active_tps, recovery.active_offsets),
            (recovery.standby_tps, recovery.standby_offsets),
        ):
            if tp in tps:
                taken: int | None = offsets.get(tp)
                return None if taken is None else max(taken, 0)
        # aiokafka leaves a partition of which nothing is committed where it has read to.
        return 0 if self.app.topics.acks_enabled_for(tp.topic) and not self._read_offset[tp] else None

    async def seek(self, partition: TP, offset: int) -> None:
        """Move one partition."""
        self._forget([partition])
        await super().seek(partition, offset)

    async def on_task_error(self, exc: BaseException) -> None:
        """Stop the worker when an agent raises: Faust would pass over the batch, which must be read again."""
        await self.app.crash(exc)

    async def on_partitions_revoked(self, revoked: set[TP]) -> None:
        """Let go of partitions, after Faust has committed what it can."""
        await super().on_partitions_revoked(revoked)
        self._forget(revoked)

    def _forget(self, tps: Iterable[TP] | None = None) -> None:
        for tp in list(self._runs) if tps is None else tps:
            self._runs.pop(tp, None)
            self._acked.pop(tp, None)
            self._acked_index.pop(tp, None)

    def _new_offset(self, tp: TP) -> int | None:
        run = self._runs[tp]
        end = None
        while run and run[0].acked:
            finished = run.popleft()
            finished.after = None  # or each message would hold all those before it
            end = finished.offset + 1
        self._acked[tp].clear()
        self._acked_index[tp].clear()
        return end

    async def _add_gap(self, tp: TP, offset_from: int, offset_to: int) -> None:
        """Nothing: offsets between two batches belong to the later one."""


class Transport(aiokafka.Transport):  # type: ignore[misc] # faust has no types here
    """Registered under the entry point faust.transports as `batches`: a broker URL begins with batches://."""

    Consumer = Consumer


def _message(tp: TP, records: Records, generation: int) -> ConsumerMessage:
    return ConsumerMessage(
        topic=tp.topic,
        partition=tp.partition,
        offset=records.last_offset,
        timestamp=0.0,  # each record has its own
        timestamp_type=0,
        headers=None,
        key=None,
        value=records,
        checksum=None,
        serialized_key_size=0,
        serialized_value_size=0,
        tp=tp,
        generation_id=generation,
    )
