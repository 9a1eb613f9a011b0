"""popularity, catalogue -> the most popular items that can be had.

The order is made once a generation, and what can be had of its beginning is kept until the one or the other changes:
a list costs the same with a thousand items and with a million, of which the first hundred thousand are retired.
"""

import time
from collections.abc import Iterator
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from streams.catalogue.catalogue import Catalogue
from streams.followers.neighbours import NeighbourTables
from streams.lists.listing import is_available

Candidates = tuple[NDArray[np.integer[Any]], NDArray[np.float32]]

_HEAD: Final = 1024
"""Kept ready. A list takes 100 items at most, and leaves out few of a user's hundreds."""
_CHUNK: Final = 8192
_SECONDS: Final = 1.0
"""While a large catalogue changes all the time, items that have come back are looked for again after so long."""
_NOTHING: Final = np.zeros(0, np.int32)


class Popular:
    """The popular rung's candidates; before the first generation, the catalogue from its beginning."""

    def __init__(self, catalogue: Catalogue) -> None:
        self._catalogue = catalogue
        self._tables: NeighbourTables | None = None
        self._changes = -1
        self._made = 0.0
        self._head: Candidates = _NOTHING, np.zeros(0, np.float32)
        self._end = 0
        """Place in the order after the last one that the head was made of."""

    def candidates(self, tables: NeighbourTables | None) -> Iterator[Candidates]:
        """Yield rows, best first, and their popularity: enough for nearly every list, then the rest piece by piece."""
        if self._outdated(tables):
            self._make(tables)
        yield self._head
        for piece in _pieces(tables, self._end, len(self._catalogue.ids)):
            yield piece, _scores(piece, tables)

    def _outdated(self, tables: NeighbourTables | None) -> bool:
        if tables is not self._tables or self._changes < 0:
            return True
        if self._changes == self._catalogue.changes:
            return False
        return len(self._catalogue.ids) <= _CHUNK or time.monotonic() >= self._made + _SECONDS

    def _make(self, tables: NeighbourTables | None) -> None:
        self._tables, self._changes, self._made = tables, self._catalogue.changes, time.monotonic()
        found: list[NDArray[np.integer[Any]]] = [_NOTHING]
        count = end = 0
        for piece in _pieces(tables, 0, len(self._catalogue.ids)):
            held = piece[is_available(self._catalogue, piece)]
            found.append(held)
            count, end = count + len(held), end + len(piece)
            if count >= _HEAD:
                break
        rows = np.concatenate(found)
        self._head, self._end = (rows, _scores(rows, tables)), end


def _pieces(tables: NeighbourTables | None, start: int, rows: int) -> Iterator[NDArray[np.integer[Any]]]:
    """Yield the order from a place on, the rows that the generation does not have yet at its end."""
    order_I = tables.order_I if tables is not None else _NOTHING
    while start < max(rows, len(order_I)):
        stop = start + _CHUNK
        piece = order_I[start:stop] if start < len(order_I) else np.arange(start, min(stop, rows))
        yield piece
        start += len(piece)


def _scores(rows: NDArray[np.integer[Any]], tables: NeighbourTables | None) -> NDArray[np.float32]:
    scores = np.zeros(len(rows), np.float32)
    if tables is not None:
        held = rows < len(tables.popularity_I)
        scores[held] = tables.popularity_I[rows[held]]
    return scores
