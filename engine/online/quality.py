"""The newest ranks of what was predicted before it was learned, by contender. Legend: P outcomes."""

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from engine.metrics import accuracy, means

CONTENDERS = ("model", "sequence", "item_knn", "popularity")
"""What is scored over the same outcomes: the served blend, the sequence model alone, and the two baselines."""
MISSED = np.iinfo(np.int32).max
"""Rank of an outcome that could not be proposed: its item had no row yet."""


class Quality:
    """Ranks of the newest outcomes, by contender."""

    def __init__(self, window: int) -> None:
        self._window = window
        self._ranks: dict[str, NDArray[np.int64]] = {}

    def add(self, ranks: Mapping[str, NDArray[np.int64]]) -> None:
        """Takes the ranks of a batch; the oldest ones fall out."""
        for name, ranks_P in ranks.items():
            self._ranks[name] = np.append(self._ranks.get(name, np.empty(0, np.int64)), ranks_P)[-self._window :]

    def state(self) -> dict[str, NDArray[np.int64]]:
        """The ranks in the window."""
        return dict(self._ranks)

    def restore(self, state: dict[str, NDArray[np.int64]]) -> None:
        """Goes on from a state taken by `state`."""
        self._ranks = dict(state)

    def report(self) -> dict[str, dict[str, float]]:
        """Mean of each metric by contender."""
        return {name: means(accuracy(ranks_P, (10,))) for name, ranks_P in self._ranks.items()}
