"""a batch that cannot be folded -> the batch without the records that are to blame, which are dead letters.

A fold that raises has left the states of its users half changed, and has read its records, which come only once. So the
records are read from Kafka again, and each attempt begins with the states as the local store has them. Halves that
raise are cut in halves until the record is found. Nothing else of the partition may be under way meanwhile.
"""

import asyncio
import time
from collections.abc import Callable, Sequence
from typing import Any, Final

import structlog

from streams.agents.batch import Fold
from streams.agents.faults import rejection
from streams.errors import HeadraceError, RejectedEventError
from streams.state.batch_fold import FoldedBatch
from streams.state.user_states import UserStates

_log = structlog.get_logger()
_SECONDS: Final = 40.0
"""For one batch. A fold of 20,000 records takes .1 s, and one bad record among them needs 16 folds of ever fewer."""

Refused = list[tuple[Any, RejectedEventError]]
"""Records, and why each is set aside."""


class UnfoldableBatchError(HeadraceError):
    """A batch raises, and it is not found out on which record."""


class CarefulFold:
    """Folds what can be folded."""

    def __init__(self, states: UserStates, check: Callable[[], None]) -> None:
        self._states = states
        self._check = check
        """Raises when the worker is to stop; asked between two attempts."""

    async def fold(self, fold: Fold, partition: int, records: Sequence[Any], now_ms: int) -> FoldedBatch:
        """Return the batch, among its rejected records those that the fold raises on.

        Raises:
            UnfoldableBatchError: they are not found in time.
            Exception: the fold's, when it is no record's fault.
        """
        deadline, refused = time.monotonic() + _SECONDS, Refused()

        def attempt(some: Sequence[Any]) -> FoldedBatch | RejectedEventError:
            if time.monotonic() > deadline:
                raise _unfoldable(records)
            return self._attempt(fold, partition, some, now_ms)

        folded = attempt(records)
        if isinstance(folded, RejectedEventError):
            refused += await self._to_blame(attempt, records, beside_others=False)
            refused += await self._to_blame(attempt, without(records, refused), beside_others=True)
            folded = attempt(without(records, refused))
        if isinstance(folded, RejectedEventError):
            raise _unfoldable(records) from folded
        for record, why in refused:
            _log.error("record_set_aside", offset=record.offset, reason=why.detail)
        folded.rejected += refused
        folded.events += len(refused)
        return folded

    async def one_by_one(
        self, fold: Fold, partition: int, records: Sequence[Any], now_ms: int, note: Callable[[Any], None]
    ) -> Refused:
        """Fold each record by itself; return those that raise.

        Args:
            fold: what folds.
            partition: of the records.
            records: from which the worker may not come back.
            now_ms: the time, epoch milliseconds.
            note: is told of each record right before it is folded.
        """
        found = Refused()
        for record in records:
            note(record)
            why = self._attempt(fold, partition, [record], now_ms)
            if isinstance(why, RejectedEventError):
                found.append((record, why))
            await asyncio.sleep(0)
            self._check()
        self._states.forget(partition)
        return found

    async def _to_blame(
        self,
        attempt: Callable[[Sequence[Any]], FoldedBatch | RejectedEventError],
        records: Sequence[Any],
        *,
        beside_others: bool,
    ) -> Refused:
        """Return the records that raise: by themselves, or after those before them that do not."""
        before: list[Any] = []
        found = Refused()
        waiting = [records]
        while waiting:
            some = waiting.pop()
            why = attempt([*before, *some])
            if not isinstance(why, RejectedEventError):
                before += some if beside_others else ()
            elif len(some) == 1:
                found.append((some[0], why))
            else:
                middle = len(some) // 2
                waiting += [some[middle:], some[:middle]]
            await asyncio.sleep(0)
            self._check()
        return found

    def _attempt(
        self, fold: Fold, partition: int, records: Sequence[Any], now_ms: int
    ) -> FoldedBatch | RejectedEventError:
        self._states.forget(partition)
        try:
            return fold(partition, records, now_ms)
        except Exception as exc:  # noqa: BLE001 - whatever it is: what no record is to blame for, rejection raises
            self._states.forget(partition)
            return rejection(exc)


def without(records: Sequence[Any], refused: Refused) -> list[Any]:
    """Return the records but for those that are refused."""
    taken = {id(record) for record, _ in refused}
    return [record for record in records if id(record) not in taken]


def _unfoldable(records: Sequence[Any]) -> UnfoldableBatchError:
    return UnfoldableBatchError(
        f"The records from offset {records[0].offset} to {records[-1].offset} cannot be folded, and on which of them "
        "the fold fails was not found; the worker ends. Please report it with the records."
    )
