"""Popularity: how often each row was an outcome, older outcomes counting less. Legend: I rows, P outcomes."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from engine.network.growing import grown

_LARGEST = 1e6


class Fading:
    """The weight of a new count when all older ones shall fade: it grows, and everything is scaled down now and then.

    So fading costs nothing a step: a count of `weight` today halves against the counts of `half_life` events later.
    """

    def __init__(self, half_life: float) -> None:
        self.half_life = half_life
        self.weight = 1.0

    def advance(self, events: int) -> float:
        """Factor for all counts so far, nearly always 1, after so many more events."""
        self.weight *= 2.0 ** (events / self.half_life)
        if self.weight < _LARGEST:
            return 1.0
        factor, self.weight = 1 / self.weight, 1.0
        return factor


class Popularity:
    """Outcomes a row, halved every `half_life` outcomes."""

    def __init__(self, half_life: float = float("inf")) -> None:
        self._fading = Fading(half_life)
        self._counts_I = np.zeros(1)
        self.rows = 1

    def update(self, rows_P: NDArray[np.integer[Any]]) -> None:
        """Count outcomes; row 0 is no item."""
        rows_P = rows_P[rows_P > 0]
        self.rows = max(self.rows, int(rows_P.max(initial=0)) + 1)
        self._counts_I = grown(self._counts_I, self.rows)
        self._counts_I *= self._fading.advance(len(rows_P))
        np.add.at(self._counts_I, rows_P, self._fading.weight)

    def counts(self, rows: int) -> NDArray[np.float32]:
        """Faded counts of the first `rows` rows.

        >>> popularity = Popularity(half_life=2)
        >>> popularity.update(np.array([1, 1])); popularity.update(np.array([2, 0, 3]))
        >>> popularity.counts(4).tolist()
        [0.0, 1.0, 1.0, 1.0]
        """
        self._counts_I = grown(self._counts_I, rows)
        return (self._counts_I[:rows] / self._fading.weight).astype(np.float32)

    def state(self) -> dict[str, NDArray[np.float64]]:
        """All that the next update depends on."""
        return {"counts": self._counts_I[: self.rows].copy(), "weight": np.array(self._fading.weight)}

    def restore(self, state: dict[str, NDArray[np.float64]]) -> None:
        """Goes on from a state taken by `state`."""
        self._counts_I, self.rows = state["counts"].copy(), len(state["counts"])
        self._fading.weight = float(state["weight"])
