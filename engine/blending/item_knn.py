"""Streaming item-kNN: who is followed by whom, kept in arrays of bounded size and read as the best neighbours of a row.

A pair (earlier, later) counts for each outcome and each of the interactions before it. Each row keeps its `slots`
strongest pairs; a new pair takes the place of the weakest. Legend: I rows, S slots, K neighbours, T interactions,
P pairs, B histories.
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from engine.batch import HistoryBatch
from engine.blending.popularity import Fading
from engine.network.growing import grown


@dataclass(frozen=True)
class PairConfig:
    """What counts as a pair, and what a neighbour's weight is."""

    window: int = 10
    """Interactions before the outcome that are paired with it."""
    decay: float = 1.0
    """Each step back counts this much of the one after it."""
    both_ways: bool = True
    """The outcome is also a neighbour of the earlier item; else only what follows what."""
    normalise: Literal["target", "source"] = "target"
    """`target` divides by the root of the neighbour's popularity, `source` by how often the row was left."""
    slots: int = 256
    """Pairs kept a row; not fewer than its neighbours."""
    half_life: float = float("inf")
    """Outcomes after which a count is worth half."""


class ItemKnn:
    """Counts pairs and keeps each row's best neighbours up to date."""

    def __init__(self, config: PairConfig, neighbours: int = 64) -> None:
        self.config = config
        self.neighbours = neighbours
        self.rows = 1
        self._fading = Fading(config.half_life)
        self._slots_IS = np.zeros((1, max(config.slots, neighbours)), np.int32)
        self._counts_IS = np.zeros(self._slots_IS.shape, np.float32)
        self._norm_I = np.zeros(1, np.float64)
        self._neighbour_rows_IK = np.zeros((1, neighbours), np.int32)
        self._neighbour_weights_IK = np.zeros((1, neighbours), np.float32)

    @property
    def neighbour_rows(self) -> NDArray[np.int32]:
        """Best neighbours of each row, strongest first, 0 where there are fewer, (I, K)."""
        return self._neighbour_rows_IK[: self.rows]

    @property
    def neighbour_weights(self) -> NDArray[np.float32]:
        """Their weights, (I, K)."""
        return self._neighbour_weights_IK[: self.rows]

    def grow(self, rows: int) -> None:
        """Makes room for rows up to `rows - 1`."""
        self.rows = max(self.rows, rows)
        self._slots_IS, self._counts_IS = grown(self._slots_IS, rows), grown(self._counts_IS, rows)
        self._norm_I = grown(self._norm_I, rows)
        self._neighbour_rows_IK = grown(self._neighbour_rows_IK, rows)
        self._neighbour_weights_IK = grown(self._neighbour_weights_IK, rows)

    def update(self, batch: HistoryBatch, is_outcome_T: NDArray[np.bool_]) -> NDArray[np.int64]:
        """Counts the pairs that end in an outcome.

        Args:
            batch: Histories with their outcomes at the end.
            is_outcome_T: Which interactions are outcomes.

        Returns:
            Rows whose neighbours have changed.
        """
        outcomes_T = is_outcome_T & (batch.rows_T > 0)
        self.grow(int(batch.rows_T.max(initial=0)) + 1)
        factor = self._fading.advance(int(outcomes_T.sum()))
        if factor != 1.0:
            self._counts_IS *= factor
            self._norm_I *= factor
        source_P, target_P, weight_P = _pairs(batch, outcomes_T, self.config.window, self.config.decay)
        weight_P = weight_P * self._fading.weight
        if self.config.normalise == "target":
            np.add.at(self._norm_I, batch.rows_T[outcomes_T], self._fading.weight)
        else:
            np.add.at(self._norm_I, source_P, weight_P)
        if self.config.both_ways:
            source_P, target_P = np.append(source_P, target_P), np.append(target_P, source_P)
            weight_P = np.append(weight_P, weight_P)
        apart_P = source_P != target_P
        self._add(source_P[apart_P], target_P[apart_P], weight_P[apart_P])
        touched = np.unique(source_P).astype(np.int64)
        self._refresh(touched)
        return touched

    def state(self) -> dict[str, NDArray[np.generic]]:
        """All that the next update depends on."""
        return {
            "slots": self._slots_IS[: self.rows].copy(),
            "counts": self._counts_IS[: self.rows].copy(),
            "norm": self._norm_I[: self.rows].copy(),
            "neighbour_rows": self.neighbour_rows.copy(),
            "neighbour_weights": self.neighbour_weights.copy(),
            "weight": np.array(self._fading.weight),
        }

    def restore(self, state: dict[str, NDArray[np.generic]]) -> None:
        """Goes on from a state taken by `state`."""
        self.rows = len(state["norm"])
        self._slots_IS, self._counts_IS = state["slots"].copy(), state["counts"].copy()  # type: ignore[assignment]
        self._norm_I = state["norm"].astype(np.float64)
        self._neighbour_rows_IK = state["neighbour_rows"].copy()  # type: ignore[assignment]
        self._neighbour_weights_IK = state["neighbour_weights"].copy()  # type: ignore[assignment]
        self._fading.weight = float(state["weight"])

    def _add(self, source_P: NDArray[np.int32], target_P: NDArray[np.int32], weight_P: NDArray[np.float64]) -> None:
        pairs, places = np.unique(source_P.astype(np.int64) << 32 | target_P, return_inverse=True)
        weight = np.bincount(places, weight_P, len(pairs)).astype(np.float32)
        source, target = pairs >> 32, (pairs & 0xFFFFFFFF).astype(np.int32)
        matches = self._slots_IS[source] == target[:, None]
        slot = matches.argmax(1)
        held = matches[np.arange(len(source)), slot]
        self._counts_IS[source[held], slot[held]] += weight[held]
        self._replace_weakest(source[~held], target[~held], weight[~held])

    def _replace_weakest(
        self, source: NDArray[np.int64], target: NDArray[np.int32], weight: NDArray[np.float32]
    ) -> None:
        """Gives new pairs, sorted by source, the weakest slots of their row."""
        distinct, first, which = np.unique(source, return_index=True, return_inverse=True)
        rank = np.arange(len(source)) - first[which]
        slots = self._slots_IS.shape[1]
        fits = rank < slots
        most = int(rank.max(initial=0)) + 1
        if most >= slots:
            weakest = np.argsort(self._counts_IS[distinct], axis=1)
        else:
            weakest = np.argpartition(self._counts_IS[distinct], most, axis=1)
        slot = weakest[which[fits], rank[fits]]
        self._slots_IS[source[fits], slot] = target[fits]
        self._counts_IS[source[fits], slot] = weight[fits]

    def _refresh(self, touched: NDArray[np.int64]) -> None:
        slots, counts = self._slots_IS[touched], self._counts_IS[touched] / self._fading.weight
        norm_I = self._norm_I / self._fading.weight + 1
        if self.config.normalise == "target":
            weights = counts / np.sqrt(norm_I)[slots]
        else:
            weights = counts / norm_I[touched, None]
        best = np.argpartition(-weights, self.neighbours - 1, axis=1)[:, : self.neighbours]
        best_weights = np.take_along_axis(weights, best, 1)
        order = np.argsort(-best_weights, axis=1)
        self._neighbour_weights_IK[touched] = np.take_along_axis(best_weights, order, 1)
        self._neighbour_rows_IK[touched] = np.take_along_axis(np.take_along_axis(slots, best, 1), order, 1)


def _pairs(
    batch: HistoryBatch, outcomes_T: NDArray[np.bool_], window: int, decay: float
) -> tuple[NDArray[np.int32], NDArray[np.int32], NDArray[np.float64]]:
    places = np.flatnonzero(outcomes_T)
    back = np.arange(1, window + 1)
    sources = places[:, None] - back
    held = back <= batch.positions_T[places][:, None]
    held &= batch.rows_T[np.maximum(sources, 0)] > 0
    targets = np.broadcast_to(places[:, None], sources.shape)[held]
    weights = np.broadcast_to(decay ** (back - 1.0), sources.shape)[held]
    return batch.rows_T[sources[held]], batch.rows_T[targets], weights
