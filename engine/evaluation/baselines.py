"""What a sequence model has to beat: popularity, item-kNN, session-kNN, sequential rules; each is one sparse matrix.

Legend: I rows, B histories, T interactions, S training histories.
"""

from typing import Final, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import sparse
from torch import Tensor

from engine.batch import HistoryBatch
from engine.evaluation.protocols import Fold


class Ranker(Protocol):
    """Whatever can be fitted to a fold and score all rows for a batch of histories."""

    def fit(self, fold: Fold) -> None:
        """Learns from the fold's training histories; called once a fold, in order."""

    def scores(self, batch: HistoryBatch) -> Tensor:
        """Higher is better, (B, I)."""


class Popularity:
    """How often an item was interacted with."""

    def fit(self, fold: Fold) -> None:
        """Counts."""
        self._scores_I = np.bincount(fold.train.rows_T, minlength=fold.rows).astype(np.float32)

    def scores(self, batch: HistoryBatch) -> Tensor:
        """The same for everybody."""
        return torch.from_numpy(np.repeat(self._scores_I[None], len(batch), 0))


class DecayedPopularity(Popularity):
    """Popularity that halves with every tenth of the data that follows; plain where only users have an order."""

    def fit(self, fold: Fold) -> None:
        """Counts, newest heaviest."""
        age_T = fold.order_T.max(initial=0) - fold.order_T
        weights_T = 0.5 ** (age_T / max(len(age_T) / 10, 1)) if fold.ordered else None
        self._scores_I = np.bincount(fold.train.rows_T, weights_T, fold.rows).astype(np.float32)


class ItemKnn:
    """BM25-weighted co-occurrence in histories, the 100 nearest of each item, summed over the history."""

    _SATURATION: Final = 1.2
    _LENGTH_WEIGHT: Final = 0.75

    def __init__(self, neighbours: int = 100) -> None:
        self.neighbours = neighbours

    def fit(self, fold: Fold) -> None:
        """Counts pairs."""
        users = _matrix(fold.train, fold.rows)
        counts_I = np.asarray(users.sum(0)).ravel()
        inverse_I = np.log((len(fold.train) + 0.5) / (counts_I + 0.5)).clip(0)
        length_S = np.asarray(users.sum(1)).ravel()
        relative_S = 1 - self._LENGTH_WEIGHT + self._LENGTH_WEIGHT * length_S / max(length_S.mean(), 1e-9)
        values = (
            users.data
            * (self._SATURATION + 1)
            / (users.data + np.repeat(self._SATURATION * relative_S, np.diff(users.indptr)))
        )
        weighted = sparse.csr_matrix((values * inverse_I[users.indices], users.indices, users.indptr), users.shape)
        self._weights = _strongest((weighted.T @ weighted).tocsr(), self.neighbours)

    def scores(self, batch: HistoryBatch) -> Tensor:
        """Sum of the similarities to the history."""
        return _dense(_matrix(batch, self._weights.shape[0]) @ self._weights)


class SequentialRules:
    """What followed the last item, nearer followers counting more (Ludewig & Jannach 2018: weight 1 / distance)."""

    def __init__(self, distance: int = 10) -> None:
        self.distance = distance

    def fit(self, fold: Fold) -> None:
        """Counts ordered pairs."""
        rows_T, users_T = fold.train.rows_T, fold.train.users_T
        total = sparse.csr_matrix((fold.rows, fold.rows), dtype=np.float32)
        for step in range(1, self.distance + 1):
            same = users_T[step:] == users_T[:-step]
            pairs = (rows_T[:-step][same], rows_T[step:][same])
            total += sparse.csr_matrix((np.full(len(pairs[0]), 1 / step, np.float32), pairs), total.shape)
        self._weights = total

    def scores(self, batch: HistoryBatch) -> Tensor:
        """The rules of the last item."""
        return _dense(_matrix(batch.last(1), self._weights.shape[0]) @ self._weights)


class SessionKnn:
    """Items of the most similar training histories, later items of the current one counting more (V-SkNN)."""

    def __init__(self, neighbours: int = 500) -> None:
        self.neighbours = neighbours

    def fit(self, fold: Fold) -> None:
        """Keeps the training histories."""
        self._sessions = _matrix(fold.train, fold.rows)
        self._sessions.data[:] = 1
        self._scale_S = 1 / np.sqrt(np.maximum(np.diff(self._sessions.indptr), 1)).astype(np.float32)

    def scores(self, batch: HistoryBatch) -> Tensor:
        """Similarity-weighted votes."""
        place_T = (batch.positions_T + 1) / np.repeat(batch.lengths_B, batch.lengths_B)
        history = _matrix(batch, self._sessions.shape[1], place_T.astype(np.float32))
        similar = (history @ self._sessions.T).tocsr()
        similar.data *= self._scale_S[similar.indices]
        return _dense(_strongest(similar, self.neighbours) @ self._sessions)


BASELINES: Final[dict[str, type[Ranker]]] = {
    "popularity": Popularity,
    "decayed_popularity": DecayedPopularity,
    "item_knn": ItemKnn,
    "session_knn": SessionKnn,
    "sequential_rules": SequentialRules,
}


def _matrix(batch: HistoryBatch, rows: int, values_T: NDArray[np.float32] | None = None) -> sparse.csr_matrix:
    values_T = np.ones(len(batch.rows_T), np.float32) if values_T is None else values_T
    known_T = (batch.rows_T > 0) & (batch.rows_T < rows)
    places = (batch.users_T[known_T], batch.rows_T[known_T])
    return sparse.csr_matrix((values_T[known_T], places), (len(batch), rows))


def _strongest(matrix: sparse.csr_matrix, count: int) -> sparse.csr_matrix:
    """The largest values of each row."""
    rows = np.repeat(np.arange(matrix.shape[0]), np.diff(matrix.indptr))
    order = np.lexsort((-matrix.data, rows))
    rank = np.arange(len(order)) - matrix.indptr[rows]
    kept = order[rank < count]
    return sparse.csr_matrix((matrix.data[kept], (rows[kept], matrix.indices[kept])), matrix.shape)


def _dense(matrix: sparse.csr_matrix) -> Tensor:
    return torch.from_numpy(matrix.toarray().astype(np.float32, copy=False))
