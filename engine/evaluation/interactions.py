"""What happened -> interactions in arrays; knows nothing of models, nor of files.

Rows are numbered from 1 in the order in which items first appear. Legend: N interactions of the data set.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from engine.batch import HistoryBatch


class DataError(ValueError):
    """Data that cannot be evaluated so; the message says why and what to do."""


@dataclass(frozen=True)
class Interactions:
    """A data set: parallel arrays, in the order in which things happened as far as it is known."""

    users_N: NDArray[np.int64]
    rows_N: NDArray[np.int32]
    types_N: NDArray[np.uint8]
    times_N: NDArray[np.int64]
    """Epoch seconds; 0 where the file has no clock time."""
    periods_N: NDArray[np.int64]
    """Period folder only: which file; else 0."""
    items: Sequence[str]
    """Item id of each row; row 0 is no item."""
    ordered: bool
    """Whether the order across users is known, not only within each."""
    titles: Sequence[str] = ()
    """What each row's item says of itself; empty where the file has no such column."""
    left_out: Mapping[str, int] = field(default_factory=dict)
    """Lines that were not taken, by reason."""
    notes: Sequence[str] = ()
    """What whoever reads the report must know of the file: columns that were guessed, the first lines left out."""

    def __len__(self) -> int:
        return len(self.rows_N)

    @property
    def rows(self) -> int:
        """Size of an item table for this data set, row 0 included."""
        return len(self.items)

    def histories(self, kept_N: NDArray[np.bool_] | None = None) -> tuple[HistoryBatch, NDArray[np.int64]]:
        """History of each user, and where in N each of its interactions lies."""
        index_N = np.arange(len(self)) if kept_N is None else np.flatnonzero(kept_N)
        order_T = index_N[np.argsort(self.users_N[index_N], kind="stable")]
        _, lengths_B = np.unique(self.users_N[order_T], return_counts=True)
        batch = HistoryBatch(
            self.rows_N[order_T], self.types_N[order_T], self.times_N[order_T], lengths_B.astype(np.int32)
        )
        return batch, order_T


@dataclass
class Events:
    """What happened, event by event, as it was read: parallel lists."""

    users: list[str] = field(default_factory=list)
    items: list[str] = field(default_factory=list)
    types: list[int] = field(default_factory=list)
    times: list[float] = field(default_factory=list)
    """Epoch seconds; empty where no time is known, else one for each event."""
    periods: list[int] = field(default_factory=list)
    """Empty where there are none."""
    titles: list[str] = field(default_factory=list)
    """Empty where items say nothing of themselves."""

    def interactions(
        self,
        *,
        ordered: bool,
        limit: int | None = None,
        left_out: Mapping[str, int] | None = None,
        notes: Sequence[str] = (),
    ) -> Interactions:
        """The data set: by time where one is known, else as they were read.

        Args:
            ordered: Whether the order across users is known.
            limit: Interactions at most, the oldest.
            left_out: See Interactions.
            notes: See Interactions.
        """
        count = len(self.users)
        order_N = np.argsort(np.array(self.times), kind="stable") if self.times else np.arange(count)
        places = order_N[:limit].tolist()
        users_N, _ = _codes((self.users[place] for place in places), first=0)
        rows_N, rows = _codes((self.items[place] for place in places), first=1)
        return Interactions(
            users_N,
            rows_N.astype(np.int32),
            _taken(self.types, places).astype(np.uint8),
            _taken(self.times, places).astype(np.int64),
            _taken(self.periods, places).astype(np.int64),
            ["", *rows],
            ordered,
            _first_titles(rows_N, [self.titles[place] for place in places]) if self.titles else (),
            left_out or {},
            notes,
        )


def _codes(values: Iterable[str], first: int) -> tuple[NDArray[np.int64], list[str]]:
    """A number for each value, in the order in which they first appear."""
    codes: dict[str, int] = {}
    numbers_N = np.array([codes.setdefault(value, len(codes) + first) for value in values], np.int64)
    return numbers_N, list(codes)


def _taken(values: Sequence[float], places: Sequence[int]) -> NDArray[np.float64]:
    return np.array([values[place] for place in places] if values else [0.0] * len(places))


def _first_titles(rows_N: NDArray[np.int64], values: Sequence[str]) -> list[str]:
    """The first title that each row has."""
    titles = [""] * (int(rows_N.max(initial=0)) + 1)
    for row, title in zip(rows_N.tolist(), values, strict=True):
        titles[row] = titles[row] or title
    return titles
