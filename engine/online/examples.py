"""Histories that end in outcomes, and what was known before each of them.

Legend: T interactions, B histories, P outcomes, G windows, D width.
"""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from engine.batch import HistoryBatch
from engine.network.choices import NO_CHOICES, Choices
from engine.network.model import SequenceModel

_CHUNK = 16


@dataclass(frozen=True)
class Examples:
    """Histories that end with what the user did next."""

    batch: HistoryBatch
    is_outcome_T: NDArray[np.bool_]
    """Interactions to be predicted, scored and learned now; the others are context."""
    choices: Choices = NO_CHOICES
    """What was taken of what was shown; without an outcome where the impression became known after it."""

    def accept(self, accepted_T: NDArray[np.bool_]) -> "Examples":
        """The same with only these outcomes; a choice goes with its outcome."""
        refused_T = self.is_outcome_T & ~accepted_T & (self.batch.positions_T > 0)
        kept_E = ~np.append(refused_T, False)[self.choices.after_E + 1]  # nothing follows the last
        return Examples(self.batch, accepted_T, self.choices.keep(kept_E))

    def of_wanted(self, wanted_T: NDArray[np.bool_]) -> HistoryBatch:
        """The histories with the unknown item in place of what was not wanted."""
        batch = self.batch
        rows_T = np.where(wanted_T, batch.rows_T, 0).astype(batch.rows_T.dtype)
        return HistoryBatch(rows_T, batch.types_T, batch.times_T, batch.lengths_B)

    @classmethod
    def of(cls, batch: HistoryBatch, outcomes_B: NDArray[np.int32]) -> "Examples":
        """So many interactions at the end of each history are outcomes."""
        return cls(batch, batch.positions_T >= np.repeat(batch.lengths_B - outcomes_B, batch.lengths_B))


def histories_before(batch: HistoryBatch, places_P: NDArray[np.int64], length: int) -> HistoryBatch:
    """What came before each of these interactions in its history, the newest `length` of it.

    >>> batch = HistoryBatch.of_rows(np.array([5, 6, 7, 9], np.int32), np.array([3, 1], np.int32))
    >>> before = histories_before(batch, np.array([1, 2, 3]), 1)
    >>> before.rows_T.tolist(), before.lengths_B.tolist()
    ([5, 6], [1, 1, 0])
    """
    begins_P = np.maximum(places_P - batch.positions_T[places_P], places_P - length)
    return _cut(batch, begins_P, places_P)


def states_before(model: SequenceModel, batch: HistoryBatch, places_P: NDArray[np.int64]) -> Tensor:
    """The model's state before each of these interactions, zeros where it is the first, (P, D).

    Up to 16 interactions of one history share a pass: it costs a tenth. In a history longer than `length` the earlier
    ones then see up to 15 interactions less.

    Args:
        model: In evaluation mode.
        batch: The histories.
        places_P: Places in T, rising.
    """
    users_P = batch.users_T[places_P]
    _, first_P = np.unique(users_P, return_index=True)
    rank_P = np.arange(len(places_P)) - np.repeat(first_P, np.diff(np.append(first_P, len(places_P))))
    ends_G = np.flatnonzero(np.append((np.diff(users_P) != 0) | (rank_P[1:] % _CHUNK == 0), True))
    group_P = np.repeat(np.arange(len(ends_G)), np.diff(ends_G, prepend=-1))
    last_G = places_P[ends_G]
    begins_G = np.maximum(last_G - batch.positions_T[last_G], last_G - model.config.length)
    windows = _cut(batch, begins_G, last_G)
    states_PD = model.item_table.new_zeros(len(places_P), model.config.dim)
    if not len(windows.rows_T):
        return states_PD
    rows_T = torch.from_numpy(np.where(windows.rows_T < model.rows, windows.rows_T, 0).astype(np.int64))
    states_TD = model.encode(model.vectors(model.item_table[rows_T], rows_T), windows)
    held_P = np.flatnonzero(batch.positions_T[places_P] > 0)
    at_P = (windows.offsets_B[group_P] + places_P - 1 - begins_G[group_P])[held_P]
    return states_PD.index_copy(0, torch.from_numpy(held_P), states_TD[torch.from_numpy(at_P)])


def _cut(batch: HistoryBatch, begins: NDArray[np.int64], ends: NDArray[np.int64]) -> HistoryBatch:
    lengths = (ends - begins).astype(np.int32)
    starts = np.cumsum(lengths, dtype=np.int64) - lengths
    index = np.arange(int(lengths.sum())) + np.repeat(begins - starts, lengths)
    return HistoryBatch(batch.rows_T[index], batch.types_T[index], batch.times_T[index], lengths)
