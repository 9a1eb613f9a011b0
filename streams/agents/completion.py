"""folded batches -> stored, answered, finished: what follows the fold of a batch, while the next one is folded.

The changelog has acknowledged a batch before the local store reflects it, the local store reflects it before it is
answered, and its answers are acknowledged before it is finished and may be committed.
"""

import asyncio
import time
from typing import Any, Final

import structlog

from streams.agents.batch import Batch
from streams.agents.faults import rejection
from streams.agents.ownership import Ownership
from streams.agents.under_way import UnderWay
from streams.errors import HeadraceError
from streams.instruments import WorkerInstruments
from streams.kafka.lease import LeaseLapsedError
from streams.kafka.outputs import Outputs
from streams.state.foreign_writes import ForeignWrites, OvertakenError
from streams.state.progress import Progress
from streams.state.table import UserTable
from streams.state.user_states import UserStates

_log = structlog.get_logger()
_FINISH_SECONDS: Final = 60.0
"""Everything that a batch waits for has a shorter deadline of its own: a batch that takes longer hangs."""
_MANY_STATES: Final = 500
"""Written in a thread of their own, while the next batch is folded; fewer are sooner written than handed over."""


class HungBatchError(HeadraceError):
    """A batch waits for something that does not come."""


class Completion:
    """Finishes batches, those of a partition in order."""

    def __init__(
        self,
        table: UserTable,
        states: UserStates,
        outputs: Outputs,
        foreign_writes: ForeignWrites,
        ownership: Ownership,
        progress: Progress,
        under_way: UnderWay,
        instruments: WorkerInstruments,
    ) -> None:
        self._table = table
        self._states = states
        self._outputs = outputs
        self._foreign_writes = foreign_writes
        self._ownership = ownership
        self._progress = progress
        self._under_way = under_way
        self._instruments = instruments
        self._tasks: set[asyncio.Task[None]] = set()
        self._failure: Exception | None = None
        self._failed = asyncio.Event()

    def start(self, batch: Batch, previous: Batch | None, stream: Any) -> None:  # noqa: ANN401 - faust has no types here
        """Finish a batch in a task of its own; see `finish`."""
        task = asyncio.create_task(self.finish(batch, previous, stream))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def settle(self, seconds: float) -> None:
        """Give the batches under way a moment to finish."""
        if self._tasks:
            await asyncio.wait(set(self._tasks), timeout=seconds)

    async def watch(self) -> None:
        """Wait for a batch that cannot be finished: the worker must then stop and read it again.

        Raises:
            Exception: what went wrong with it.
        """
        await self._failed.wait()
        assert self._failure is not None
        raise self._failure

    def fail(self, exc: Exception) -> None:
        """Say what `watch` is to raise; the first failure counts."""
        self._failure = self._failure or exc
        self._failed.set()

    async def finish(self, batch: Batch, previous: Batch | None, stream: Any) -> None:  # noqa: ANN401
        """Do what follows the fold.

        Args:
            batch: folded, its states sent to the changelog.
            previous: of the same partition; it is stored first.
            stream: where Faust's event of the batch is acknowledged.
        """
        making = asyncio.create_task(batch.answers.make()) if batch.answers else None
        try:
            async with asyncio.timeout(_FINISH_SECONDS):
                await self._store(batch, previous)
                if not self._ownership.lasts(batch.generation):
                    return  # the partition may be another's; the batch stays unfinished and will be read again
                if making:
                    await self._answer(batch, making)
            if batch.event is not None:
                await stream.ack(batch.event)
                self._under_way.finish(batch.topic, batch.partition, batch.offset)
            self._instruments.stage_seconds.labels("batch").observe(time.monotonic() - batch.began)
        except TimeoutError:
            hung = f"A batch of partition {batch.partition} was not finished in {_FINISH_SECONDS:g} s; the worker ends."
            self._fail(batch, HungBatchError(hung))
        except Exception as exc:  # noqa: BLE001 - whatever it is, nothing after this batch may be committed
            self._fail(batch, exc)
        finally:
            if making:
                making.cancel()
            batch.stored.set()
            batch.end()

    def _fail(self, batch: Batch, exc: Exception) -> None:
        _log.error(
            "batch_failed", topic=batch.topic, partition=batch.partition, first=batch.first, last=batch.offset,
            reason=str(exc),
        )  # fmt: skip
        if batch.topic and not isinstance(exc, LeaseLapsedError | OvertakenError):  # these come from no batch
            self._under_way.fail(batch.topic, batch.partition, batch.first, batch.offset)
        self.fail(exc)

    async def _store(self, batch: Batch, previous: Batch | None) -> None:
        began = time.monotonic()
        changelog_offset = await batch.changelog.acknowledged()
        await batch.others.acknowledged()
        if previous is not None:
            await previous.stored.wait()
        if self._ownership.lasts(batch.generation):
            states = [(touched.key, touched.value) for touched in batch.changed]
            if states:
                await self._foreign_writes.check(batch.partition, changelog_offset, len(states))
            if len(states) > _MANY_STATES:
                await asyncio.to_thread(self._table.write, batch.partition, states, changelog_offset)
            elif states:
                self._table.write(batch.partition, states, changelog_offset)
            if batch.topic == self._progress.topic:
                self._progress.advance(batch.partition, batch.offset)
        batch.stored.set()
        for touched in batch.changed:
            touched.state.in_flight -= 1
        self._states.trim(batch.partition)
        self._instruments.stage_seconds.labels("store").observe(time.monotonic() - began)

    async def _answer(self, batch: Batch, making: asyncio.Task[None]) -> None:
        """Send the answers; those that cannot be made are left out, or the batch would be read again for ever."""
        assert batch.answers is not None
        try:
            await making
            self._ownership.check_lease()
            delivery = self._outputs.delivery()
            batch.answers.send(delivery)
            await delivery.seal().acknowledged()
            batch.answers.observe()
        except Exception as exc:  # noqa: BLE001 - whatever it is: what no record is to blame for, rejection raises
            why = rejection(exc)
            _log.error(
                "batch_not_answered", topic=batch.topic, partition=batch.partition, offset=batch.offset,
                reason=why.detail,
            )  # fmt: skip
            self._instruments.left_out_answers.inc()
