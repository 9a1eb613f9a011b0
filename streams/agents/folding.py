"""Faust's batches -> folded batches, whatever is in them: where a record raises, the batch is folded without it.

What is being folded is noted in the worker's folder, so that a record at which the process itself ends is found too.
"""

import asyncio
import time
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import Any

from streams.agents.batch import Fold
from streams.agents.careful_fold import CarefulFold, Refused, without
from streams.agents.faults import rejection
from streams.agents.ownership import Ownership
from streams.agents.under_way import UnderWay, told
from streams.errors import RejectedEventError
from streams.kafka.outputs import Outputs
from streams.kafka.record_limits import RecordTooLargeError
from streams.state.batch_fold import FoldedBatch
from streams.state.table import UserTable
from streams.state.user_states import UserStates

ReadAgain = Callable[[str, int, int, int], Sequence[Any]]
"""Reads the records of a topic's partition from one offset to another once more; blocks."""


class Folding:
    """Folds batches; `fold` at full speed, `fold_carefully` those that it fails on."""

    def __init__(
        self,
        table: UserTable,
        states: UserStates,
        outputs: Outputs,
        ownership: Ownership,
        under_way: UnderWay,
        read_again: ReadAgain,
    ) -> None:
        self._table = table
        self._outputs = outputs
        self._ownership = ownership
        self._under_way = under_way
        self._read_again = read_again
        self._careful = CarefulFold(states, ownership.check_lease)

    def fold(self, message: Any, fold: Fold) -> FoldedBatch | RejectedEventError:  # noqa: ANN401 - faust has no types
        """Return what a batch did, or why it is to be folded carefully.

        Raises:
            Exception: what no record is to blame for.
        """
        self._ownership.check_lease()
        place = _place(message)
        if self._under_way.suspect(*place):
            return RejectedEventError("unprocessable", "the worker ended here before")
        self._under_way.begin(*place)
        try:
            folded = self._bounded(fold, message.partition, message.value, int(time.time() * 1000))
        except Exception as exc:  # noqa: BLE001 - whatever it is: what no record is to blame for, rejection raises
            return rejection(exc)
        self._under_way.end(message.topic, message.partition)
        self._ownership.check_lease()  # the longest part lies behind us: a worker that was frozen was so in there
        return folded

    async def fold_carefully(self, message: Any, fold: Fold) -> FoldedBatch | None:  # noqa: ANN401
        """Return what a batch did, bad records among the rejected ones; None when the partition may be another's.

        Nothing else of the partition may be under way.

        Raises:
            Exception: what no record is to blame for.
        """
        topic, partition, first, last = _place(message)
        records = await asyncio.to_thread(self._read_again, topic, partition, first, last)
        if not self._ownership.may_begin(message.generation_id):
            self._under_way.end(topic, partition)
            return None
        bounded, now_ms = partial(self._bounded, fold), int(time.time() * 1000)
        refused = await self._suspected(message, bounded, records, now_ms)
        self._under_way.begin(topic, partition, first, last)
        folded = await self._careful.fold(bounded, partition, without(records, refused), now_ms)
        folded.rejected += refused
        folded.events += len(refused)
        self._under_way.end(topic, partition)
        return folded if self._ownership.may_begin(message.generation_id) else None

    async def _suspected(self, message: Any, fold: Fold, records: Sequence[Any], now_ms: int) -> Refused:  # noqa: ANN401
        """Return the records that are set aside because the worker ended at them before."""
        suspect = self._under_way.suspect(*_place(message))
        if suspect is None:
            return []
        why = told(message.topic, message.partition, suspect)
        some = [record for record in records if suspect.first <= record.offset <= suspect.last]
        if suspect.proven:
            return [(record, why) for record in some]

        def note(record: Any) -> None:  # noqa: ANN401
            self._under_way.begin(message.topic, message.partition, record.offset, record.offset)

        return await self._careful.one_by_one(fold, message.partition, some, now_ms, note)

    def _bounded(self, fold: Fold, partition: int, records: Iterable[Any], now_ms: int) -> FoldedBatch:
        """Fold records, and make sure that the changelog takes the states."""
        folded, topic = fold(partition, records, now_ms), self._table.changelog_topic_name
        most = self._outputs.limits.of(topic)
        for touched in folded.touched.values():
            if touched.changed and len(touched.key) + len(touched.value or b"") > most:
                raise RecordTooLargeError(topic, len(touched.key) + len(touched.value or b""), most)
        return folded


def _place(message: Any) -> tuple[str, int, int, int]:  # noqa: ANN401
    return message.topic, message.partition, message.value.first_offset, message.offset
