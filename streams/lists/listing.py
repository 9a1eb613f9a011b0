"""candidates -> a list: the best that can be had, each once, until it is full."""

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from streams.catalogue.catalogue import Catalogue
from streams.records import RecommendedItem

_SLICE: Final = 64
"""Candidates looked at together: nearly every list is full after the first."""


class Listing:
    """A list being filled.

    Args:
        k: how many are wanted.
        left_out: rows that may not be listed; the listing adds those that it holds.
        catalogue: says what can be had, asked for the candidates alone: nothing here grows with the catalogue.
    """

    def __init__(self, k: int, left_out: set[int], catalogue: Catalogue) -> None:
        self.items: list[RecommendedItem] = []
        self._k = k
        self._taken = left_out
        self._catalogue = catalogue

    @property
    def full(self) -> bool:
        """Whether it holds what is wanted."""
        return len(self.items) >= self._k

    def add(self, source: str, rows: NDArray[np.integer[Any]], scores: NDArray[np.float32]) -> None:
        """Take from rows, best first, what the list still needs."""
        for start in range(0, len(rows), _SLICE):
            if self.full:
                return
            self._take(source, rows[start : start + _SLICE], scores[start : start + _SLICE])

    def _take(self, source: str, rows: NDArray[np.integer[Any]], scores: NDArray[np.float32]) -> None:
        ids = self._catalogue.ids
        held = is_available(self._catalogue, rows)
        for row, score in zip(rows[held].tolist(), scores[held].tolist(), strict=True):
            if self.full:
                return
            if row not in self._taken:
                self._taken.add(row)
                self.items.append(RecommendedItem(ids[row], round(score, 4), source))


def is_available(catalogue: Catalogue, rows: NDArray[np.integer[Any]]) -> NDArray[np.bool_]:
    """Return which of the rows can be recommended; row 0 and rows that the catalogue does not have yet cannot."""
    available = catalogue.columns.available
    return available.take(rows, mode="clip") & (rows < len(available))
