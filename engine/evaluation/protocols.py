"""How a data set is cut into what may be learned and what is asked: one fold after another, older first.

Legend: T interactions of the training histories, B cases.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from engine.batch import HistoryBatch
from engine.evaluation.interactions import DataError, Interactions

ProtocolName = Literal["leave-one-out", "continual", "time-split", "stream"]


@dataclass(frozen=True)
class Cases:
    """Questions with their answers: after this history, which item came next?"""

    histories: HistoryBatch
    targets_B: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.targets_B)

    def part(self, index: NDArray[np.int64]) -> "Cases":
        """The cases at these places."""
        return Cases(self.histories.select(index), self.targets_B[index])


@dataclass(frozen=True)
class Fold:
    """What is known at one moment, and what is asked then."""

    name: str
    train: HistoryBatch
    """All histories that may be learned from."""
    new_T: NDArray[np.bool_]
    """Which of their interactions the fold before did not have."""
    order_T: NDArray[np.int64]
    """Rank of each interaction in the order in which things happened."""
    ordered: bool
    """Whether that order is known across users, not only within each."""
    rows: int
    """Items with rows below this are ranked."""
    validation: Cases
    """Held out of `train`, for choices such as when to stop; may be empty."""
    test: Cases


def folds(name: ProtocolName, data: Interactions) -> Iterator[Fold]:
    """The folds of a protocol.

    leave-one-out: each user's last item is asked, the one before validates, everything before trains.
    time-split: the last tenth of the time is asked, the tenth before validates.
    continual: ADER's (RecSys 2020): each period is asked after the ones before it; clicks on items never seen before
    are dropped, then sessions of length 1; every prefix is a case; all items seen so far are ranked.

    Raises:
        DataError: The data has no order or no periods, and the protocol needs them.
    """
    if name == "leave-one-out":
        yield _leave_one_out(data)
    elif name == "time-split":
        yield _time_split(data)
    elif name == "continual":
        yield from _continual(data)
    else:
        raise DataError(f"{name} has no folds")


def _leave_one_out(data: Interactions) -> Fold:
    histories, order_T = data.histories()
    left_T = np.repeat(histories.lengths_B, histories.lengths_B) - histories.positions_T
    train_T = left_T > 2  # noqa: PLR2004  # the last is asked, the one before validates
    return Fold(
        name="leave-one-out",
        train=histories.take(train_T),
        new_T=np.ones(int(train_T.sum()), bool),
        order_T=order_T[train_T],
        ordered=data.ordered,
        rows=data.rows,
        validation=cases(histories, left_T == 2),  # noqa: PLR2004
        test=cases(histories, left_T == 1),
    )


def _time_split(data: Interactions, asked: float = 0.1) -> Fold:
    if not data.ordered:
        raise DataError("a time split needs the order across users: use a table with a time column or a period folder")
    histories, order_T = data.histories()
    edges = np.quantile(np.arange(len(data)), [1 - 2 * asked, 1 - asked])
    train_T, test_T = order_T < edges[0], order_T >= edges[1]
    known = np.zeros(data.rows, bool)
    known[histories.rows_T[train_T]] = True
    known_T = known[histories.rows_T]
    return Fold(
        name="time-split",
        train=histories.take(train_T),
        new_T=np.ones(int(train_T.sum()), bool),
        order_T=order_T[train_T],
        ordered=data.ordered,
        rows=data.rows,
        validation=cases(histories, ~train_T & ~test_T & known_T),
        test=cases(histories, test_T & known_T),
    )


def _continual(data: Interactions) -> Iterator[Fold]:
    last = int(data.periods_N.max(initial=0))
    if not last:
        raise DataError("the continual protocol needs a folder of periods")
    for period in range(1, last + 1):
        before_N = data.periods_N < period
        rows = int(data.rows_N[before_N].max()) + 1
        train, order_T = data.histories(before_N)
        asked, _ = data.histories((data.periods_N == period) & (data.rows_N < rows))
        yield Fold(
            name=f"period {period}",
            train=train,
            new_T=data.periods_N[order_T] == period - 1,
            order_T=order_T,
            ordered=data.ordered,
            rows=rows,
            validation=cases(asked, np.zeros(len(asked.rows_T), bool)),
            test=cases(asked, np.ones(len(asked.rows_T), bool)),
        )


def cases(histories: HistoryBatch, asked_T: NDArray[np.bool_]) -> Cases:
    """One case for each marked interaction that has another before it.

    >>> found = cases(HistoryBatch.of_rows(np.array([5, 6, 9], np.int32), np.array([3], np.int32)), np.ones(3, bool))
    >>> found.targets_B.tolist(), found.histories.rows_T.tolist(), found.histories.lengths_B.tolist()
    ([6, 9], [5, 5, 6], [1, 2])
    """
    positions_T = histories.positions_T
    ends_B = np.flatnonzero(asked_T & (positions_T > 0))
    lengths_B = positions_T[ends_B]
    begins_B = np.cumsum(lengths_B) - lengths_B
    index_T = np.arange(int(lengths_B.sum())) + np.repeat(ends_B - lengths_B - begins_B, lengths_B)
    prefixes = HistoryBatch(
        histories.rows_T[index_T], histories.types_T[index_T], histories.times_T[index_T], lengths_B.astype(np.int32)
    )
    return Cases(prefixes, histories.rows_T[ends_B].astype(np.int64))
