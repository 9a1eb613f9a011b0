"""Histories as ragged arrays: the one input of every scorer and of the trainer; knows nothing of ids, Kafka or torch.

Legend of shape suffixes: T all interactions of the batch one after another, B histories.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

History = tuple[ArrayLike, ArrayLike, ArrayLike]
"""Rows, types and times of one history, oldest first."""


@dataclass(frozen=True)
class HistoryBatch:
    """Several histories without padding."""

    rows_T: NDArray[np.int32]
    """Item rows, oldest first within a history; 0 is an unknown item."""
    types_T: NDArray[np.uint8]
    """Interaction type codes; 0 is an unknown type."""
    times_T: NDArray[np.int64]
    """Event time, epoch seconds."""
    lengths_B: NDArray[np.int32]
    """Interactions of each history; they add up to T, and 0 is a user with no history."""

    def __len__(self) -> int:
        return len(self.lengths_B)

    @classmethod
    def of(cls, histories: Iterable[History]) -> "HistoryBatch":
        """Joins single histories.

        >>> batch = HistoryBatch.of([([3, 7], [1, 4], [0, 60]), ([], [], [])])
        >>> batch.rows_T.tolist(), batch.lengths_B.tolist()
        ([3, 7], [2, 0])
        """
        parts = [
            (np.asarray(rows, np.int32), np.asarray(types, np.uint8), np.asarray(times, np.int64))
            for rows, types, times in histories
        ]
        if not parts:
            return cls(np.empty(0, np.int32), np.empty(0, np.uint8), np.empty(0, np.int64), np.empty(0, np.int32))
        rows, types, times = zip(*parts, strict=True)
        lengths_B = np.fromiter(map(len, rows), np.int32, len(rows))
        return cls(np.concatenate(rows), np.concatenate(types), np.concatenate(times), lengths_B)

    @classmethod
    def of_rows(cls, rows_T: NDArray[np.int32], lengths_B: NDArray[np.int32]) -> "HistoryBatch":
        """Histories of which only the order is known: types and times are 0."""
        return cls(rows_T, np.zeros(len(rows_T), np.uint8), np.zeros(len(rows_T), np.int64), lengths_B)

    @property
    def offsets_B(self) -> NDArray[np.int64]:
        """Where each history begins in T."""
        return np.cumsum(self.lengths_B, dtype=np.int64) - self.lengths_B

    @property
    def users_T(self) -> NDArray[np.int64]:
        """Which history of the batch each interaction belongs to."""
        return np.repeat(np.arange(len(self), dtype=np.int64), self.lengths_B)

    @property
    def positions_T(self) -> NDArray[np.int64]:
        """Place of each interaction within its history, from 0.

        >>> HistoryBatch.of_rows(np.array([5, 6, 9], np.int32), np.array([2, 1], np.int32)).positions_T.tolist()
        [0, 1, 0]
        """
        return np.arange(len(self.rows_T), dtype=np.int64) - np.repeat(self.offsets_B, self.lengths_B)

    def take(self, kept_T: NDArray[np.bool_]) -> "HistoryBatch":
        """The same histories with only the marked interactions."""
        lengths_B = np.bincount(self.users_T[kept_T], minlength=len(self)).astype(np.int32)
        return HistoryBatch(self.rows_T[kept_T], self.types_T[kept_T], self.times_T[kept_T], lengths_B)

    def select(self, users: NDArray[np.integer[Any]]) -> "HistoryBatch":
        """The histories at these places of the batch, in this order.

        >>> batch = HistoryBatch.of_rows(np.array([5, 6, 9], np.int32), np.array([2, 1], np.int32))
        >>> batch.select(np.array([1, 0])).rows_T.tolist()
        [9, 5, 6]
        """
        lengths_B = self.lengths_B[users]
        starts_B = np.cumsum(lengths_B, dtype=np.int64) - lengths_B
        index_T = np.arange(int(lengths_B.sum())) + np.repeat(self.offsets_B[users] - starts_B, lengths_B)
        return HistoryBatch(self.rows_T[index_T], self.types_T[index_T], self.times_T[index_T], lengths_B)

    def last(self, length: int) -> "HistoryBatch":
        """Each history cut to its newest interactions.

        >>> HistoryBatch.of_rows(np.array([5, 6, 9], np.int32), np.array([2, 1], np.int32)).last(1).rows_T.tolist()
        [6, 9]
        """
        if not len(self) or self.lengths_B.max() <= length:
            return self
        return self.take(self.positions_T >= np.repeat(self.lengths_B - length, self.lengths_B))


def joined(batches: Sequence[HistoryBatch]) -> HistoryBatch:
    """The histories of all, in order."""
    return HistoryBatch(
        np.concatenate([batch.rows_T for batch in batches]),
        np.concatenate([batch.types_T for batch in batches]),
        np.concatenate([batch.times_T for batch in batches]),
        np.concatenate([batch.lengths_B for batch in batches]),
    )
