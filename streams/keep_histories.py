"""interactions -> histories, recommendations, examples: the worker's main agent.

The order of effects in a batch: fold in memory -> changelog, acknowledged -> local store, while the lists are scored ->
recommendations and examples, acknowledged -> the batch is finished and may be committed. The local store is never ahead
of the changelog, and the next batch is folded while this one waits.
"""

import asyncio
import time
from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Any, Final

import structlog

from streams.catalogue import Catalogue
from streams.dead_letters import DeadLetters
from streams.errors import BrokenStateError, RejectedEventError
from streams.fold import Fold, Folded, before
from streams.instruments import WorkerInstruments
from streams.ladder import Ladder, Query, RankedList
from streams.lease import Lease
from streams.outputs import Delivery, Outputs
from streams.progress import Progress
from streams.pseudonyms import pseudonyms
from streams.records import (
    HISTORY_HEADER,
    TYPE_CODES,
    Cause,
    Example,
    ExampleHistory,
    Interaction,
    Outcome,
    Recommendation,
    decode_interaction,
    encode,
)
from streams.settings import Settings
from streams.table import UserTable
from streams.user_state import Entry, UserState, decode_state

_log = structlog.get_logger()
_BATCHES_IN_FLIGHT: Final = 4
"""Of one partition: more would only wait, in memory, for the same Kafka and the same Triton."""


@dataclass(slots=True)
class _Touched:
    """A user of a batch."""

    user_id: str
    key: bytes
    state: UserState
    entries_before: bytes
    changed: bool = False
    added: list[tuple[Interaction, int]] = field(default_factory=list)
    replayed: list[tuple[Interaction, int]] = field(default_factory=list)
    cause: int = -1
    """Offset of the last interaction that the list answers; -1 when there is none."""
    written_at: int = 0
    """The broker's timestamp of the cause, epoch milliseconds."""
    after: list[Entry] = field(default_factory=list)
    value: bytes = b""


@dataclass(slots=True)
class _Batch:
    """A batch under way."""

    event: Any
    partition: int
    generation: int
    last_offset: int
    began: float
    touched: dict[str, _Touched]
    saved: Delivery
    """Changelog, rows and dead letters."""
    changelog: Delivery
    stored: asyncio.Event = field(default_factory=asyncio.Event)
    """The local store reflects the batch."""
    fold_seconds: float = 0.0


class UserStates:
    """The states of the users in memory, over the table."""

    def __init__(self, table: UserTable, settings: Settings) -> None:
        self._table = table
        self._limit = settings.state.cache_users
        self._users: dict[int, dict[str, UserState]] = defaultdict(dict)

    def get(self, partition: int, user_id: str) -> UserState | None:
        """Return a user's state, None when there is none.

        Raises:
            BrokenStateError: the store holds bytes that cannot be read.
        """
        state = self._users[partition].get(user_id)
        if state is None and (value := self._table.read(partition, user_id.encode())) is not None:
            state = decode_state(value)
        return state

    def keep(self, partition: int, user_id: str, state: UserState) -> None:
        """Hold a state in memory, at least until its batches are stored."""
        self._users[partition][user_id] = state

    def trim(self, partition: int) -> None:
        """Let go of the states held longest, but for those that are not stored yet."""
        users = self._users[partition]
        surplus = len(users) - self._limit // max(len(self._users), 1)
        if surplus > 0:
            for user_id in [name for name, state in islice(users.items(), 2 * surplus) if not state.in_flight]:
                del users[user_id]

    def forget(self, partition: int) -> None:
        """Let go of a partition."""
        self._users.pop(partition, None)

    def __len__(self) -> int:
        return sum(map(len, self._users.values()))


class KeepHistories:
    """The agent; a call takes the stream of record batches."""

    def __init__(
        self,
        settings: Settings,
        table: UserTable,
        outputs: Outputs,
        catalogue: Catalogue,
        ladder: Ladder,
        lease: Lease,
        progress: Progress,
        instruments: WorkerInstruments,
        generation: Callable[[], int],
    ) -> None:
        self.states = UserStates(table, settings)
        self._settings = settings
        self._table = table
        self._outputs = outputs
        self._catalogue = catalogue
        self._ladder = ladder
        self._lease = lease
        self._progress = progress
        self._instruments = instruments
        self._generation = generation
        """The consumer group's generation: it changes when partitions may have moved."""
        self._fold = Fold(settings.state)
        self._pseudonym = pseudonyms(settings.pseudonym_key)
        self._dead_letters = DeadLetters(settings.prefix + "dead-letters", outputs, instruments)
        self._rows_topic = settings.prefix + "rows"
        self._recommendations_topic = settings.prefix + "recommendations"
        self._examples_topic = settings.prefix + "examples"
        self._tail: dict[int, _Batch] = {}
        self._slots: dict[int, asyncio.Semaphore] = defaultdict(lambda: asyncio.Semaphore(_BATCHES_IN_FLIGHT))
        self._tasks: set[asyncio.Task[None]] = set()
        self._failure: Exception | None = None
        self._failed = asyncio.Event()

    async def __call__(self, stream: Any) -> AsyncIterator[None]:  # noqa: ANN401 - faust has no types here
        """Fold batch after batch; what follows the fold goes on beside the next one."""
        async for event in stream.noack().events():
            partition = event.message.partition
            await self._slots[partition].acquire()
            if event.message.generation_id != self._generation():
                self._slots[partition].release()  # it was fetched before a rebalance and will come again
                continue
            try:
                batch = self._begin(event)
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

    async def let_go(self, partitions: Sequence[int]) -> None:
        """Give batches under way a moment to finish, then forget the partitions: others may own them now."""
        if self._tasks:
            await asyncio.wait(set(self._tasks), timeout=1.0)
        for partition in partitions:
            self.states.forget(partition)
            self._progress.forget(partition)
            self._tail.pop(partition, None)

    def _begin(self, event: Any) -> _Batch:  # noqa: ANN401
        """Fold a batch and send what makes it durable."""
        began = time.monotonic()
        message = event.message
        batch = _Batch(
            event, message.partition, message.generation_id, message.offset, began, {},
            self._outputs.delivery(), self._outputs.delivery(),
        )  # fmt: skip
        self._lease.check()
        sent = self._fold_records(batch, message.value)
        changed = [touched for touched in batch.touched.values() if touched.changed]
        changelog = self._table.changelog_topic_name
        for touched in changed:
            touched.value = touched.state.encode()
            touched.state.in_flight += 1
            self._outputs.send(changelog, touched.key, touched.value, batch.changelog, partition=batch.partition)
        batch.changelog.seal(len(changed))
        batch.saved.seal(sent)
        for touched in batch.touched.values():
            if touched.cause >= 0 and self._settings.serving.recommend:
                touched.after = touched.state.history()
        batch.fold_seconds = time.monotonic() - began
        return batch

    def _fold_records(self, batch: _Batch, records: Sequence[Any]) -> int:
        """Fold each record; return how many rows and dead letters were sent."""
        sent = 0
        partition, touched_users, known = batch.partition, batch.touched, self._catalogue.rows
        pseudonym, add, max_future_ms = self._pseudonym, self._fold.add, self._settings.state.max_future_seconds * 1000
        now_ms = int(time.time() * 1000)
        types: Counter[str] = Counter()
        replayed = duplicates = 0
        new_items: set[str] = set()
        for record in records:
            try:
                interaction = decode_interaction(record.value, now_ms, max_future_ms)
                user_id = pseudonym(interaction.user_id)
                touched = touched_users.get(user_id)
                if touched is None:
                    touched, broken = self._touch(partition, user_id, batch, record)
                    sent += broken
                folded = add(touched.state, interaction, record.offset)
            except RejectedEventError as why:
                self._dead_letters.send(record, why, batch.saved)
                sent += 1
                continue
            if folded is Folded.ADDED:
                touched.changed = True
                types[interaction.type] += 1
                if interaction.item_id not in known:
                    new_items.add(interaction.item_id)
            elif folded is Folded.REPLAYED:
                replayed += 1
            else:
                duplicates += 1
                continue
            if record.headers and _is_history(record.headers):
                if not touched.added:
                    touched.entries_before = touched.state.entries
                continue
            (touched.added if folded is Folded.ADDED else touched.replayed).append((interaction, record.offset))
            touched.cause = record.offset
            touched.written_at = record.timestamp
        for item_id in new_items:
            self._outputs.send(self._rows_topic, item_id.encode(), b"{}", batch.saved)
        self._count(len(records), types, replayed, duplicates)
        return sent + len(new_items)

    def _touch(self, partition: int, user_id: str, batch: _Batch, record: Any) -> tuple[_Touched, int]:  # noqa: ANN401
        broken = 0
        try:
            state = self.states.get(partition, user_id) or UserState()
        except BrokenStateError as exc:
            key = user_id.encode()
            why = RejectedEventError("broken_state", f"{exc}; the user starts afresh")
            source = (self._table.changelog_topic_name, partition, record.offset)
            self._dead_letters.send_bytes(key, self._table.read(partition, key), why, source, batch.saved)
            state, broken = UserState(), 1
        self.states.keep(partition, user_id, state)
        touched = batch.touched[user_id] = _Touched(user_id, user_id.encode(), state, state.entries)
        return touched, broken

    def _count(self, events: int, types: Counter[str], replayed: int, duplicates: int) -> None:
        self._instruments.batch_events.observe(events)
        for name, count in types.items():
            self._instruments.interactions.labels(name).inc(count)
        self._instruments.replayed.inc(replayed)
        self._instruments.duplicates.inc(duplicates)

    async def _finish(self, batch: _Batch, previous: _Batch | None, stream: Any) -> None:  # noqa: ANN401
        """Do what follows the fold, and finish the batch."""
        try:
            answers = [t for t in batch.touched.values() if t.cause >= 0] if self._settings.serving.recommend else []
            scoring = asyncio.create_task(self._score(answers, batch.began))
            try:
                await self._store(batch, previous)
                if batch.generation != self._generation():
                    return  # the partition may be another's; the batch stays unfinished and will be read again
                ranked, score_seconds = await scoring
            finally:
                scoring.cancel()
            await self._answer(batch, answers, ranked, score_seconds)
            await stream.ack(batch.event)
        except Exception as exc:  # noqa: BLE001 - whatever it is, nothing after this batch may be committed
            _log.error("batch_failed", partition=batch.partition, offset=batch.last_offset, reason=str(exc))
            self._fail(exc)
        finally:
            batch.stored.set()
            self._slots[batch.partition].release()

    def _fail(self, exc: Exception) -> None:
        self._failure = self._failure or exc
        self._failed.set()

    async def _store(self, batch: _Batch, previous: _Batch | None) -> None:
        began = time.monotonic()
        changelog_offset = await batch.changelog.acknowledged()
        await batch.saved.acknowledged()
        if previous is not None:
            await previous.stored.wait()
        changed = [touched for touched in batch.touched.values() if touched.changed]
        if batch.generation == self._generation():
            if changed:
                self._table.write(batch.partition, ((t.key, t.value) for t in changed), changelog_offset)
            self._progress.advance(batch.partition, batch.last_offset)
        for touched in changed:
            touched.state.in_flight -= 1
        self.states.trim(batch.partition)
        self._instruments.stage_seconds.labels("store").observe(time.monotonic() - began)

    async def _score(self, answers: Sequence[_Touched], began: float) -> tuple[list[RankedList], float]:
        started = time.monotonic()
        if not answers:
            return [], 0.0
        k = self._settings.serving.k
        left = self._settings.serving.deadline_ms / 1000 - (started - began)
        ranked = await self._ladder.recommend([Query(touched.after, k) for touched in answers], left)
        return ranked, time.monotonic() - started

    async def _answer(
        self, batch: _Batch, answers: Sequence[_Touched], ranked: Sequence[RankedList], score_seconds: float
    ) -> None:
        if not answers:
            return
        self._lease.check()
        delivery = self._outputs.delivery()
        now_ms = int(time.time() * 1000)
        stage_ms = {
            "fold": round(batch.fold_seconds * 1000, 2),
            "score": round(score_seconds * 1000, 2),
            "total": round((time.monotonic() - batch.began) * 1000, 2),
        }
        emit_examples = self._settings.serving.emit_examples
        for touched, ranking in zip(answers, ranked, strict=True):
            recommendation = _recommendation(touched, ranking, batch.partition, now_ms, stage_ms)
            self._outputs.send(self._recommendations_topic, touched.key, encode(recommendation), delivery)
            if emit_examples:
                example = encode(_example(touched, batch.partition, now_ms))
                self._outputs.send(self._examples_topic, touched.key, example, delivery, partition=batch.partition)
        delivery.seal(len(answers) * (2 if emit_examples else 1))
        await delivery.acknowledged()
        self._observe(batch, answers, ranked, score_seconds)

    def _observe(
        self, batch: _Batch, answers: Sequence[_Touched], ranked: Sequence[RankedList], score_seconds: float
    ) -> None:
        now = time.time()
        for touched in answers:
            self._instruments.latency_seconds.observe(max(0.0, now - touched.written_at / 1000))
        for rung, count in Counter(ranking.rung for ranking in ranked).items():
            self._instruments.recommendations.labels(rung).inc(count)
        for source, count in Counter(item.source for ranking in ranked for item in ranking.items).items():
            self._instruments.items_recommended.labels(source).inc(count)
        stages = {"fold": batch.fold_seconds, "score": score_seconds, "total": time.monotonic() - batch.began}
        for stage, seconds in stages.items():
            self._instruments.stage_seconds.labels(stage).observe(seconds)


def _is_history(headers: Sequence[tuple[str, bytes]]) -> bool:
    """Whether a record says that it is history: folded, but neither answered nor made an example."""
    return any(name == HISTORY_HEADER for name, _ in headers)


def _recommendation(
    touched: _Touched, ranking: RankedList, partition: int, now_ms: int, stage_ms: dict[str, float]
) -> Recommendation:
    cause = Cause("interactions", partition, touched.cause)
    return Recommendation(
        recommendation_id=cause.position,
        user_id=touched.user_id,
        cause=cause,
        items=ranking.items,
        version=ranking.version,
        generation=ranking.generation,
        rung=ranking.rung,
        timestamp=now_ms,
        stage_ms=stage_ms,
    )


def _example(touched: _Touched, partition: int, now_ms: int) -> Example:
    """Return the history before the batch's interactions, and these as outcomes.

    Interactions that are read again were folded before: they are taken out of the history that holds them.
    """
    state = UserState(entries=touched.entries_before)
    history = before(state, [interaction for interaction, _ in touched.replayed])
    outcomes = [
        Outcome(interaction.item_id, TYPE_CODES[interaction.type], interaction.timestamp, offset)  # type: ignore[arg-type]
        for interaction, offset in (*touched.replayed, *touched.added)
    ]
    lists = ExampleHistory(
        [entry.item_id for entry in history], [entry.type for entry in history], [entry.timestamp for entry in history]
    )
    return Example(touched.user_id, partition, lists, outcomes, now_ms)
