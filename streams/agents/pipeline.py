"""record batches -> user states, answers: the order of effects that every agent on user states shares.

Fold in memory -> changelog, acknowledged -> local store, while the answers are computed -> answers, acknowledged -> the
batch is finished and may be committed. The local store is never ahead of the changelog, and the next batch is folded
while this one waits. What is folded and what is answered is plugged in.
"""

import time
from collections import defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from functools import partial
from typing import Any, Final

from streams.agents.batch import Answerer, Batch, Fold
from streams.agents.completion import Completion
from streams.agents.folding import Folding
from streams.agents.gaps import refuse_gap
from streams.agents.ownership import Ownership
from streams.errors import RejectedEventError
from streams.instruments import WorkerInstruments
from streams.kafka.dead_letters import DeadLetters
from streams.kafka.in_flight import InFlight
from streams.kafka.misplaced import Misplaced
from streams.kafka.outputs import Delivery, Outputs
from streams.state.batch_fold import FoldedBatch, Touched
from streams.state.foreign_writes import ForeignWrites
from streams.state.precedence import Headers
from streams.state.progress import Progress
from streams.state.table import UserTable
from streams.state.user_state import UserState
from streams.state.user_states import UserStates

_LAST_SECONDS: Final = 1.0
"""What batches under way have to finish when their partitions are taken away."""


class Pipeline:
    """All changes of user states go through it, partition by partition, in order."""

    def __init__(
        self,
        table: UserTable,
        states: UserStates,
        outputs: Outputs,
        dead_letters: DeadLetters,
        foreign_writes: ForeignWrites,
        folding: Folding,
        completion: Completion,
        ownership: Ownership,
        progress: Progress,
        instruments: WorkerInstruments,
    ) -> None:
        self._table = table
        self._states = states
        self._outputs = outputs
        self._dead_letters = dead_letters
        self._foreign_writes = foreign_writes
        self._folding = folding
        self._completion = completion
        self._ownership = ownership
        self._progress = progress
        self._instruments = instruments
        self._misplaced = Misplaced(instruments)
        self._last: dict[int, Batch] = {}
        """By partition: the newest batch."""
        self._in_flight: dict[int, InFlight] = defaultdict(InFlight)

    async def run(self, stream: Any, fold: Fold, answerer: Answerer) -> AsyncIterator[None]:  # noqa: ANN401
        """Fold batch after batch; what follows the fold goes on beside the next one."""
        async for event in stream.noack().events():
            partition, size = event.message.partition, event.message.value.size
            await self._in_flight[partition].begin(size)
            if not self._may_begin(event.message):
                self._in_flight[partition].end(size)  # it was fetched before a rebalance and will come again
                continue
            try:
                refuse_gap(event.message)
                began = time.monotonic()
                folded = self._folding.fold(event.message, fold)
                if isinstance(folded, RejectedEventError):
                    self._in_flight[partition].end(size)
                    await self._fold_carefully(event, fold, answerer, stream)
                else:
                    batch = self._begin(event, folded, answerer, began)
                    batch.end = partial(self._in_flight[partition].end, size)
                    self._completion.start(batch, self._follow(batch), stream)
            except Exception as exc:  # faust would skip the batch and commit past it
                self._completion.fail(exc)
                raise
            yield None

    async def wind_up(self, seconds: float) -> None:
        """Take no more batches and give those under way a moment to finish, so that they can still be committed."""
        self._ownership.end()
        await self._completion.settle(seconds)

    async def on_revoked(self, partitions: Sequence[int]) -> None:
        """Give batches under way a moment to finish, then evict the partitions: others may own them now."""
        self._ownership.on_revoked()
        await self._completion.settle(_LAST_SECONDS)
        for partition in partitions:
            self._states.forget(partition)
            self._progress.forget(partition)
            self._last.pop(partition, None)

    def on_assigned(self) -> None:
        """Begin with the partitions that were assigned: recovery brings what is newer than memory."""
        for partition in self._states.partitions():
            self._states.forget(partition)
        self._last.clear()
        self._ownership.on_assigned()

    async def tombstone(
        self, partition: int, user_ids: Sequence[str], wanted: Callable[[UserState], bool], headers: Headers
    ) -> list[UserState]:
        """Delete those users whose state is wanted; return their states.

        It takes its turn among the partition's batches. A user who comes back in the same moment is kept: the changelog
        gets the tombstone before the new state, and so does the local store.
        """
        generation = self._ownership.generation()
        await self._in_flight[partition].begin(1)
        gone: list[Touched] = []
        if self._ownership.may_begin(generation):
            self._ownership.check_lease()
            gone = [touched for user in user_ids if (touched := self._unwanted(partition, user, wanted))]
        if not gone:
            self._in_flight[partition].end(1)
            return []
        changelog = self._send_states(gone, partition, headers)
        batch = Batch(
            "", partition, -1, -1, generation, time.monotonic(), gone, changelog, self._outputs.delivery().seal()
        )
        batch.end = partial(self._in_flight[partition].end, 1)
        await self._completion.finish(batch, self._follow(batch), None)
        return [touched.state for touched in gone]

    async def review(self, partition: int, last_offset: Callable[[], Awaitable[int]]) -> None:
        """Write over what others wrote into the changelog of a partition in which nothing happens.

        No batch of the partition may be under way meanwhile: its records would be taken for those of others.

        Args:
            partition: of ours.
            last_offset: asks for that of the changelog's last record.
        """
        generation = self._ownership.generation()
        async with self._in_flight[partition].alone():
            last = await last_offset()
            if not self._ownership.may_begin(generation):
                return
            self._ownership.check_lease()
            seen = await self._foreign_writes.check(partition, last, 0)
            if self._ownership.lasts(generation):
                self._table.write(partition, [], seen)

    async def _fold_carefully(self, event: Any, fold: Fold, answerer: Answerer, stream: Any) -> None:  # noqa: ANN401
        """Finish a batch of which a record cannot be folded, alone in its partition."""
        message, began = event.message, time.monotonic()
        async with self._in_flight[message.partition].alone():
            folded = await self._folding.fold_carefully(message, fold) if self._may_begin(message) else None
            if folded is not None:  # else the batch stays unfinished and will be read again
                batch = self._begin(event, folded, answerer, began)
                await self._completion.finish(batch, self._follow(batch), stream)

    def _may_begin(self, message: Any) -> bool:  # noqa: ANN401
        return self._ownership.may_begin(message.generation_id)

    def _begin(self, event: Any, folded: FoldedBatch, answerer: Answerer, began: float) -> Batch:  # noqa: ANN401
        """Send what makes a batch durable."""
        message = event.message
        folded.came = message.value.came
        answers = answerer.begin(folded, message.partition, began)
        changed = [touched for touched in folded.touched.values() if touched.changed]
        changelog = self._send_states(changed, message.partition)
        others = self._outputs.delivery()
        answers.send_first(others)
        self._send_dead_letters(folded, message, others)
        if folded.events:
            self._instruments.batch_events.observe(folded.events)
        self._misplaced.count(message.topic, message.partition, folded.misplaced)
        first = message.value.first_offset
        message.value = event.value = None  # 2 MB, which would otherwise live until the batch is acknowledged
        return Batch(
            message.topic, message.partition, first, message.offset, message.generation_id, began, changed, changelog,
            others.seal(), answers, event,
        )  # fmt: skip

    def _follow(self, batch: Batch) -> Batch | None:
        """Make a batch its partition's newest; return the one before."""
        previous, self._last[batch.partition] = self._last.get(batch.partition), batch
        return previous

    def _unwanted(self, partition: int, user_id: str, wanted: Callable[[UserState], bool]) -> Touched | None:
        state = self._states.readable(partition, user_id)
        if state is None or state.in_flight or not wanted(state):
            return None
        touched = Touched(user_id, state)
        touched.value = None
        self._states.drop(partition, user_id)
        return touched

    def _send_states(self, changed: Sequence[Touched], partition: int, headers: Headers | None = None) -> Delivery:
        topic, changelog = self._table.changelog_topic_name, self._outputs.delivery()
        for touched in changed:
            touched.state.in_flight += 1
            self._outputs.send(topic, touched.key, touched.value, changelog, partition=partition, headers=headers)
        return changelog.seal()

    def _send_dead_letters(self, folded: FoldedBatch, message: Any, delivery: Delivery) -> None:  # noqa: ANN401
        for record, why in folded.rejected:
            self._dead_letters.send(message, record, why, delivery)
        for user_id, value, why in folded.broken:
            source = (self._table.changelog_topic_name, message.partition, -1)
            self._dead_letters.send_bytes(user_id.encode(), value, why, source, delivery)
        self._dead_letters.lenient_fields.count(message.topic, folded.lenient)
