"""interactions -> histories, recommendations, examples: the worker's main agent.

The order of effects in a batch: fold in memory -> changelog, acknowledged -> local store, while the lists are scored ->
recommendations and examples, acknowledged -> the batch is finished and may be committed. The local store is never ahead
of the changelog, and the next batch is folded while this one waits.
"""

import asyncio
import time
from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import structlog

from streams.agents.answers import example, recommendation
from streams.catalogue.catalogue import Catalogue
from streams.errors import HeadraceError
from streams.instruments import WorkerInstruments
from streams.kafka.dead_letters import DeadLetters
from streams.kafka.in_flight import InFlight
from streams.kafka.lease import Lease
from streams.kafka.outputs import Delivery, Outputs
from streams.lists.ladder import Ladder, Query, RankedList
from streams.records import Cause, encode
from streams.settings import Settings
from streams.state.batch_fold import BatchFold, FoldedBatch, Touched
from streams.state.foreign_writes import ForeignWrites
from streams.state.impressions import waiting
from streams.state.precedence import Headers, tombstone_headers
from streams.state.progress import Progress
from streams.state.table import UserTable
from streams.state.user_states import UserStates

_log = structlog.get_logger()
_FINISH_SECONDS: Final = 60.0
"""Everything that a batch waits for has a shorter deadline of its own: a batch that takes longer hangs."""
_MANY_STATES: Final = 500
"""Written in a thread of their own, while the next batch is folded; fewer are sooner written than handed over."""


Folding = Callable[[int, Iterable[Any], int], FoldedBatch]
"""Folds the records of a partition; the last argument is the time, epoch milliseconds."""


class SkippedBatchError(HeadraceError):
    """A batch was delivered and never folded; folding the next one would make its events look as if read before."""


class HungBatchError(HeadraceError):
    """A batch waits for something that does not come."""


@dataclass(slots=True)
class _Batch:
    """A batch under way."""

    event: Any
    partition: int
    size: int
    generation: int
    began: float
    folded: FoldedBatch
    changed: list[Touched]
    answers: list[Touched]
    queries: list[Query]
    """Of the answers: the histories as they are now, before the next batch changes them."""
    exposed: list[Touched]
    """Users with an example but no answer: their impressions came after what was taken of them."""
    changelog: Delivery
    others: Delivery
    """Rows and dead letters."""
    fold_seconds: float
    stored: asyncio.Event = field(default_factory=asyncio.Event)
    """The local store reflects the batch."""


class KeepHistories:
    """The agent; a call takes the stream of record batches."""

    def __init__(
        self,
        settings: Settings,
        table: UserTable,
        states: UserStates,
        outputs: Outputs,
        catalogue: Catalogue,
        ladder: Ladder,
        lease: Lease,
        progress: Progress,
        instruments: WorkerInstruments,
        generation: Callable[[], int],
    ) -> None:
        self._serving = settings.serving
        self._table = table
        self._states = states
        self._outputs = outputs
        self._ladder = ladder
        self._lease = lease
        self._progress = progress
        self._instruments = instruments
        self._generation = generation
        """The consumer group's generation: it changes when partitions may have moved."""
        self._fold = BatchFold(settings, states, catalogue.rows)
        self._dead_letters = DeadLetters(settings.topics.dead_letters, outputs, instruments)
        self._foreign_writes = ForeignWrites(settings, table, states, outputs, instruments)
        self._rows_topic = settings.topics.rows
        self._recommendations_topic = settings.topics.recommendations
        self._examples_topic = settings.topics.examples
        self._tail: dict[int, _Batch] = {}
        self._in_flight: dict[int, InFlight] = defaultdict(InFlight)
        self._tasks: set[asyncio.Task[None]] = set()
        self._failure: Exception | None = None
        self._failed = asyncio.Event()
        self._ending = False
        self._revoked_in: int | None = None
        """The generation in which partitions were taken away: until the next are known it is still the group's."""

    async def __call__(self, stream: Any) -> AsyncIterator[None]:  # noqa: ANN401 - faust has no types here
        """Fold batch after batch of interactions."""
        async for _ in self.run(stream, self._fold.fold):
            yield None

    async def run(self, stream: Any, fold: Folding) -> AsyncIterator[None]:  # noqa: ANN401
        """Fold batch after batch; what follows the fold goes on beside the next one."""
        async for event in stream.noack().events():
            partition, size = event.message.partition, event.message.value.size
            await self._in_flight[partition].begin(size)
            if self._ending or self._moving or event.message.generation_id != self._generation():
                self._in_flight[partition].end(size)  # it was fetched before a rebalance and will come again
                continue
            try:
                _refuse_gap(event.message)
                batch = self._begin(event, fold)
            except Exception as exc:  # faust would skip the batch and commit past it
                self._fail(exc)
                raise
            task = asyncio.create_task(self._finish(batch, self._tail.get(partition), stream))
            self._tail[partition] = batch
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
            yield None

    async def watch(self) -> None:
        """Wait for a batch that cannot be finished: the worker must then stop and read it again.

        Raises:
            Exception: what went wrong with it.
        """
        await self._failed.wait()
        assert self._failure is not None
        raise self._failure

    async def wind_up(self, seconds: float) -> None:
        """Take no more batches and give those under way a moment to finish, so that they can still be committed."""
        self._ending = True
        if self._tasks:
            await asyncio.wait(set(self._tasks), timeout=seconds)

    async def let_go(self, partitions: Sequence[int]) -> None:
        """Give batches under way a moment to finish, then forget the partitions: others may own them now."""
        self._revoked_in = self._generation()
        if self._tasks:
            await asyncio.wait(set(self._tasks), timeout=1.0)
        for partition in partitions:
            self._states.forget(partition)
            self._progress.forget(partition)
            self._tail.pop(partition, None)

    def take(self) -> None:
        """Begin with the partitions that were assigned: recovery brings what is newer than memory."""
        for partition in self._states.partitions():
            self._states.forget(partition)
        self._tail.clear()
        self._revoked_in = None

    @property
    def _moving(self) -> bool:
        """Whether partitions were taken away and the next are not known yet."""
        return self._revoked_in == self._generation()

    async def forget(self, partition: int, user_ids: Sequence[str], before_day: int) -> int:
        """Tombstone those users in whose state nothing was folded since a day; return how many.

        It takes its turn among the partition's batches. A user who comes back in the same moment is kept: the changelog
        gets the tombstone before the new state, and so does the local store.
        """
        generation = self._generation()
        await self._in_flight[partition].begin(1)
        if self._moving or generation != self._generation():
            self._in_flight[partition].end(1)
            return 0
        self._lease.check()
        folded, changelog = FoldedBatch(), self._outputs.delivery()
        for user_id in user_ids:
            state = self._states.readable(partition, user_id)
            if state is None or state.in_flight or not 0 < state.day < before_day:
                continue
            touched = folded.touched[user_id] = Touched(user_id, state)
            touched.value = None
            folded.fates["expired"] += waiting(state)
            self._states.drop(partition, user_id)
        changed = list(folded.touched.values())
        if not changed:
            self._in_flight[partition].end(1)
            return 0
        self._send_states(changed, partition, changelog, tombstone_headers(before_day))
        self._count(folded)
        batch = _Batch(
            None, partition, 1, generation, time.monotonic(), folded, changed, [], [], [], changelog.seal(len(changed)),
            self._outputs.delivery().seal(0), 0.0,
        )  # fmt: skip
        previous, self._tail[partition] = self._tail.get(partition), batch
        await self._finish(batch, previous, None)
        return len(changed)

    async def review(self, partition: int, last_offset: Callable[[], Awaitable[int]]) -> None:
        """Write over what others wrote into the changelog of a partition in which nothing happens.

        No batch of the partition may be under way meanwhile: its records would be taken for those of others.

        Args:
            partition: of ours.
            last_offset: asks for that of the changelog's last record.
        """
        generation = self._generation()
        async with self._in_flight[partition].alone():
            last = await last_offset()
            if self._moving or generation != self._generation():
                return
            self._lease.check()
            seen = await self._foreign_writes.check(partition, last, 0)
            if generation == self._generation():
                self._table.write(partition, [], seen)

    def _begin(self, event: Any, fold: Folding) -> _Batch:  # noqa: ANN401
        """Fold a batch and send what makes it durable."""
        began = time.monotonic()
        message = event.message
        self._lease.check()
        folded = fold(message.partition, message.value, int(time.time() * 1000))
        self._lease.check()  # the longest part of a batch lies behind us: a worker that was frozen was so in there
        changed = [touched for touched in folded.touched.values() if touched.changed]
        answers = [t for t in folded.touched.values() if t.cause >= 0] if self._serving.recommend else []
        queries = [Query.of(touched.state, self._serving.k, touched.user_id) for touched in answers]
        late = [t for t in folded.touched.values() if t.cause < 0 and t.exposures]
        exposed = late if self._serving.emit_examples else []
        changelog = self._outputs.delivery()
        self._send_states(changed, message.partition, changelog)
        others = self._send_others(folded, message)
        self._count(folded)
        size = message.value.size
        message.value = event.value = None  # 2 MB, which would otherwise live until the batch is acknowledged
        return _Batch(
            event, message.partition, size, message.generation_id, began, folded, changed, answers, queries, exposed,
            changelog.seal(len(changed)), others, time.monotonic() - began,
        )  # fmt: skip

    def _send_states(
        self, changed: Sequence[Touched], partition: int, changelog: Delivery, headers: Headers | None = None
    ) -> None:
        topic = self._table.changelog_topic_name
        for touched in changed:
            touched.state.in_flight += 1
            self._outputs.send(topic, touched.key, touched.value, changelog, partition=partition, headers=headers)

    def _send_others(self, folded: FoldedBatch, message: Any) -> Delivery:  # noqa: ANN401
        delivery = self._outputs.delivery()
        for item_id in folded.new_items:
            self._outputs.send(self._rows_topic, item_id.encode(), b"{}", delivery)
        for record, why in folded.rejected:
            self._dead_letters.send(message, record, why, delivery)
        for user_id, value, why in folded.broken:
            source = (self._table.changelog_topic_name, message.partition, -1)
            self._dead_letters.send_bytes(user_id.encode(), value, why, source, delivery)
        return delivery.seal(len(folded.new_items) + len(folded.rejected) + len(folded.broken))

    def _count(self, folded: FoldedBatch) -> None:
        if folded.events:
            self._instruments.batch_events.observe(folded.events)
        for fate, count in folded.fates.items():
            self._instruments.impressions.labels(fate).inc(count)
        for name, count in folded.types.items():
            if count:
                self._instruments.interactions.labels(name).inc(count)
        self._instruments.replayed.inc(folded.replayed)
        self._instruments.duplicates.inc(folded.duplicates)

    async def _finish(self, batch: _Batch, previous: _Batch | None, stream: Any) -> None:  # noqa: ANN401
        """Do what follows the fold, and finish the batch."""
        scoring = asyncio.create_task(self._score(batch))
        try:
            async with asyncio.timeout(_FINISH_SECONDS):
                await self._store(batch, previous)
                if batch.generation != self._generation():
                    return  # the partition may be another's; the batch stays unfinished and will be read again
                ranked, score_seconds = await scoring
                await self._answer(batch, ranked, score_seconds)
            if batch.event is not None:
                await stream.ack(batch.event)
            self._instruments.stage_seconds.labels("batch").observe(time.monotonic() - batch.began)
        except TimeoutError:
            self._fail(
                HungBatchError(
                    f"A batch of partition {batch.partition} was not finished in {_FINISH_SECONDS:g} s; the worker "
                    "ends and is to be started again."
                )
            )
        except Exception as exc:  # noqa: BLE001 - whatever it is, nothing after this batch may be committed
            _log.error("batch_failed", partition=batch.partition, offset=batch.folded.reached, reason=str(exc))
            self._fail(exc)
        finally:
            scoring.cancel()
            batch.stored.set()
            self._in_flight[batch.partition].end(batch.size)

    def _fail(self, exc: Exception) -> None:
        self._failure = self._failure or exc
        self._failed.set()

    async def _store(self, batch: _Batch, previous: _Batch | None) -> None:
        began = time.monotonic()
        changelog_offset = await batch.changelog.acknowledged()
        await batch.others.acknowledged()
        if previous is not None:
            await previous.stored.wait()
        if batch.generation == self._generation():
            states = [(touched.key, touched.value) for touched in batch.changed]
            if states:
                await self._foreign_writes.check(batch.partition, changelog_offset, len(states))
            if len(states) > _MANY_STATES:
                await asyncio.to_thread(self._table.write, batch.partition, states, changelog_offset)
            elif states:
                self._table.write(batch.partition, states, changelog_offset)
            self._progress.advance(batch.partition, batch.folded.reached)
        batch.stored.set()
        for touched in batch.changed:
            touched.state.in_flight -= 1
        self._states.trim(batch.partition)
        self._instruments.stage_seconds.labels("store").observe(time.monotonic() - began)

    async def _score(self, batch: _Batch) -> tuple[list[RankedList], float]:
        began = time.monotonic()
        left = self._serving.deadline_ms / 1000 - (began - batch.began)
        ranked = await self._ladder.recommend(batch.queries, left)
        return ranked, time.monotonic() - began

    async def _answer(self, batch: _Batch, ranked: Sequence[RankedList], score_seconds: float) -> None:
        if not batch.answers and not batch.exposed:
            return
        self._lease.check()
        now_ms = int(time.time() * 1000)
        stages = {
            "fold": batch.fold_seconds,
            "score": score_seconds,
            "total": time.monotonic() - batch.began,
        }
        stage_ms = {stage: round(seconds * 1000, 2) for stage, seconds in stages.items()}
        delivery = self._outputs.delivery()
        for touched, ranking in zip(batch.answers, ranked, strict=True):
            cause = Cause("interactions", batch.partition, touched.cause)
            answer = recommendation(touched.user_id, cause, ranking, now_ms, stage_ms)
            self._outputs.send(self._recommendations_topic, touched.key, encode(answer), delivery)
            if self._serving.emit_examples:
                learnable = encode(example(touched, batch.partition, now_ms))
                self._outputs.send(self._examples_topic, touched.key, learnable, delivery, partition=batch.partition)
        for touched in batch.exposed:
            learnable = encode(example(touched, batch.partition, now_ms))
            self._outputs.send(self._examples_topic, touched.key, learnable, delivery, partition=batch.partition)
        sent = len(batch.answers) * (1 + self._serving.emit_examples) + len(batch.exposed)
        await delivery.seal(sent).acknowledged()
        self._observe(batch, ranked, stages)

    def _observe(self, batch: _Batch, ranked: Sequence[RankedList], stages: dict[str, float]) -> None:
        now = time.time()
        for touched in batch.answers:
            self._instruments.latency_seconds.observe(max(0.0, now - touched.written_at / 1000))
        for rung, count in Counter(ranking.rung for ranking in ranked).items():
            self._instruments.recommendations.labels(rung).inc(count)
        for source, count in Counter(item.source for ranking in ranked for item in ranking.items).items():
            self._instruments.items_recommended.labels(source).inc(count)
        for stage, seconds in stages.items():
            self._instruments.stage_seconds.labels(stage).observe(seconds)


def _refuse_gap(message: Any) -> None:  # noqa: ANN401 - faust has no types here
    """Make sure that the batch before this one was begun; the first one after a seek has none before it.

    Raises:
        SkippedBatchError: it was not.
    """
    before = getattr(message, "after", None)
    if before is not None and not before.begun:
        raise SkippedBatchError(
            f"The batch up to offset {before.offset} of partition {message.partition} was delivered and not folded; "
            "the worker ends, is to be started again, and reads it again."
        )
    message.after, message.begun = None, True
