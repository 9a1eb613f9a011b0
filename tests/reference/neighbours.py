"""The definition that the sparse scores of neighbours are held against. Legend: B histories, I rows, K neighbours."""

import numpy as np
from numpy.typing import NDArray

from engine.batch import HistoryBatch


def neighbour_scores(
    batch: HistoryBatch,
    neighbour_rows: NDArray[np.int32],
    neighbour_weights: NDArray[np.float32],
    window: int = 20,
    decay: float = 0.9,
) -> NDArray[np.float32]:
    """How strongly each row is a neighbour of each history's newest interactions, (B, I).

    Args:
        batch: The histories.
        neighbour_rows: (I, K).
        neighbour_weights: (I, K).
        window: Newest interactions that count.
        decay: Each step back counts this much of the one after it.

    >>> rows, weights = np.array([[0], [2], [1]], np.int32), np.array([[0], [4], [8]], np.float32)
    >>> batch = HistoryBatch.of_rows(np.array([1, 2], np.int32), np.array([2], np.int32))
    >>> neighbour_scores(batch, rows, weights, decay=0.5)
    array([[0., 8., 2.]], dtype=float32)
    """
    recent = batch.last(window)
    rows = len(neighbour_rows)
    steps_back_T = np.repeat(recent.lengths_B, recent.lengths_B) - 1 - recent.positions_T
    known_T = np.where(recent.rows_T < rows, recent.rows_T, 0)
    flat = recent.users_T[:, None] * rows + neighbour_rows[known_T]
    weights = neighbour_weights[known_T] * (decay**steps_back_T)[:, None]
    scores_BI = np.bincount(flat.ravel(), weights.ravel(), len(batch) * rows).reshape(len(batch), rows)
    scores_BI[:, :1] = 0
    return scores_BI.astype(np.float32)
