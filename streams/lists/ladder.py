"""histories -> lists: Triton, then co-visit, then popular: the first rung that answers in time, and which one it was.

A list is always returned. Where the answering rung has too few items (seen, retired and excluded ones are taken out),
the next rungs fill it up; every item says what proposed it.
"""

import asyncio
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final, Protocol

import numpy as np
from numpy.typing import NDArray

from engine.batch import HistoryBatch
from engine.weights import CHAMPION
from streams.catalogue.catalogue import Catalogue
from streams.errors import ScorerUnavailableError
from streams.followers.neighbours import NeighbourTables
from streams.instruments import WorkerInstruments
from streams.records import RecommendedItem
from streams.settings import Settings
from streams.state.user_state import Entry, UserState
from streams.triton.scorer import Proposals

RUNGS: Final = ("triton", "covisit", "popular")
_RETRY_SECONDS: Final = 0.2
"""After a failure Triton is asked again once in so long, so that a dead one costs no list its deadline."""


class Scorer(Protocol):
    """The model server, as the ladder needs it."""

    async def top_k(self, batch: HistoryBatch, k: int, timeout_seconds: float, slot: str = CHAMPION) -> Proposals:
        """Return the k best rows of each history, by the champion when the slot asked for is empty.

        Raises:
            ScorerUnavailableError: it is dead, late or fails.
        """


class Neighbours(Protocol):
    """Where the newest NeighbourTables are, None before the first generation."""

    @property
    def tables(self) -> NeighbourTables | None:
        """The newest."""


@dataclass(frozen=True)
class Query:
    """One list that is wanted."""

    history: Sequence[Entry]
    k: int
    exclude: frozenset[str] = frozenset()
    user_id: str = ""
    """As stored: it decides which slot answers."""
    kept: Sequence[Entry] = ()
    """Purchases and dislikes that the history holds no more."""

    @classmethod
    def of(cls, state: UserState | None, k: int, user_id: str, exclude: frozenset[str] = frozenset()) -> "Query":
        """Return the query of a user as the state is now; without a state, of one who did nothing yet."""
        if state is None:
            return cls([], k, exclude, user_id)
        return cls(state.history(), k, exclude, user_id, state.kept())


@dataclass(frozen=True)
class RankedList:
    """One list, and how it came about."""

    items: list[RecommendedItem]
    rung: str
    version: int
    generation: int
    slot: str = CHAMPION


class Ladder:
    """Answers queries, in batches of users."""

    def __init__(
        self,
        scorer: Scorer,
        neighbours: Neighbours,
        catalogue: Catalogue,
        settings: Settings,
        instruments: WorkerInstruments,
        slot_of: Callable[[str], str] = lambda _: CHAMPION,
    ) -> None:
        self._slot_of = slot_of
        self._scorer = scorer
        self._neighbours = neighbours
        self._catalogue = catalogue
        self._candidates = settings.triton.candidates
        self._batch_users = settings.triton.batch_users
        self._timeout_seconds = settings.triton.timeout_ms / 1000
        self._filter_seen = settings.serving.filter_seen
        self._instruments = instruments
        self._closed_until = 0.0

    async def recommend(self, queries: Sequence[Query], seconds_left: float) -> list[RankedList]:
        """Return a list for each query, in order; seconds_left is what remains of their deadline."""
        lists: list[RankedList] = []
        for start in range(0, len(queries), self._batch_users):
            some = queries[start : start + self._batch_users]
            began = time.monotonic()
            lists += await self._answer(some, seconds_left)
            seconds_left -= time.monotonic() - began
        self._count_touched(lists)
        return lists

    def similar(self, item_id: str, k: int) -> list[RecommendedItem] | None:
        """Return the items nearest to one, None when it is unknown."""
        row = self._catalogue.rows.get(item_id)
        if row is None:
            return None
        listing = _Listing(k, self._unavailable({row}), self._catalogue.ids)
        tables = self._neighbours.tables
        if tables is not None and row < len(tables.rows_IK):
            listing.add("covisit", tables.rows_IK[row], tables.weights_IK[row])
        return listing.items

    async def _answer(self, queries: Sequence[Query], seconds_left: float) -> list[RankedList]:
        places: dict[str, list[int]] = {}
        for at, query in enumerate(queries):
            places.setdefault(self._slot_of(query.user_id), []).append(at)
        scored = await asyncio.gather(
            *(self._ask([queries[at] for at in some], seconds_left, slot) for slot, some in places.items())
        )
        answers = {
            at: (answer, number)
            for some, answer in zip(places.values(), scored, strict=True)
            for number, at in enumerate(some)
        }
        return [self._list(query, *answers[at]) for at, query in enumerate(queries)]

    async def _ask(self, queries: Sequence[Query], seconds_left: float, slot: str) -> Proposals | None:
        now = time.monotonic()
        timeout = min(self._timeout_seconds, seconds_left)
        if timeout <= 0 or now < self._closed_until:
            return None
        self._closed_until = now + _RETRY_SECONDS if self._closed_until else 0.0  # one probe at a time while it is down
        batch = HistoryBatch.of([self._rows(query.history) for query in queries])
        try:
            scored = await self._scorer.top_k(batch, self._candidates, timeout, slot)
        except ScorerUnavailableError as exc:
            self._closed_until = time.monotonic() + _RETRY_SECONDS
            self._instruments.scorer_failures.labels(type(exc.__cause__).__name__).inc()
            return None
        self._closed_until = 0.0
        return scored

    def _rows(self, history: Sequence[Entry]) -> tuple[list[int], list[int], list[int]]:
        row_of = self._catalogue.rows.get
        return (
            [row_of(entry.item_id, 0) for entry in history],
            [entry.type for entry in history],
            [entry.timestamp // 1000 for entry in history],
        )

    def _list(self, query: Query, scored: Proposals | None, at: int) -> RankedList:
        row_of = self._catalogue.rows.get
        left_out = {row_of(item_id, 0) for item_id in query.exclude}
        if self._filter_seen:
            left_out |= {row_of(entry.item_id, 0) for entry in query.history}
        listing = _Listing(query.k, self._unavailable(left_out), self._catalogue.ids)
        tables = self._neighbours.tables
        if scored is not None:
            listing.add("sequence", scored.rows_BK[at], scored.scores_BK[at])
        if not listing.full and tables is not None:
            listing.add("covisit", *_covisits(self._rows(query.history)[0], tables, self._candidates))
        if not listing.full:
            listing.add("popular", *self._popular(tables))
        rung = "triton" if scored else (listing.items[0].source if listing.items else "popular")
        version = scored.version if scored else 0
        generation = scored.generation if scored else (tables.generation if tables else 0)
        return RankedList(listing.items, rung, version, generation, scored.slot if scored else CHAMPION)

    def _count_touched(self, lists: Sequence[RankedList]) -> None:
        tables, row_of = self._neighbours.tables, self._catalogue.rows
        if tables is None:
            return
        rows = np.array([row_of[item.item_id] for ranked in lists for item in ranked.items], np.int64)
        touched = np.count_nonzero(tables.popularity_I[rows[rows < len(tables.popularity_I)]])
        self._instruments.listed_items.labels("yes").inc(touched)
        self._instruments.listed_items.labels("no").inc(len(rows) - touched)

    def _unavailable(self, left_out: set[int]) -> set[int]:
        return left_out | self._catalogue.unavailable_rows | {0}

    def _popular(self, tables: NeighbourTables | None) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
        """Return the most popular rows; before the first generation, the catalogue from its beginning."""
        if tables is None:
            rows = np.arange(1, min(len(self._catalogue.ids), self._candidates + 1), dtype=np.int32)
            return rows, np.zeros(len(rows), np.float32)
        count = min(self._candidates, len(tables.popularity_I))
        best = np.sort(np.argpartition(-tables.popularity_I, count - 1)[:count])  # equally popular ones by row
        best = best[np.argsort(-tables.popularity_I[best], kind="stable")]
        return best.astype(np.int32), tables.popularity_I[best]


class _Listing:
    """A list being filled."""

    def __init__(self, k: int, left_out: set[int], ids: Sequence[str]) -> None:
        self.items: list[RecommendedItem] = []
        self._k = k
        self._taken = left_out
        self._ids = ids

    @property
    def full(self) -> bool:
        return len(self.items) >= self._k

    def add(self, source: str, rows: NDArray[np.int32], scores: NDArray[np.float32]) -> None:
        """Take from rows, best first, what the list still needs."""
        for row, score in zip(rows.tolist(), scores.tolist(), strict=True):
            if self.full:
                return
            if row in self._taken or not 0 < row < len(self._ids):
                continue
            self._taken.add(row)
            self.items.append(RecommendedItem(self._ids[row], round(score, 4), source))


def _covisits(
    rows: Sequence[int], tables: NeighbourTables, count: int
) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
    """Return the rows nearest to a history; each step back in it counts 0.9 of the one after."""
    recent = np.asarray([row for row in rows[-20:] if 0 < row < len(tables.rows_IK)], np.int64)
    decay = 0.9 ** np.arange(len(recent) - 1, -1, -1, dtype=np.float32)
    found = tables.rows_IK[recent].ravel()
    weights = (tables.weights_IK[recent] * decay[:, None]).ravel()
    candidates, where = np.unique(found, return_inverse=True)
    scores = np.bincount(where, weights, len(candidates)).astype(np.float32)
    best = np.argsort(-scores, kind="stable")[:count]
    best = best[scores[best] > 0]
    return candidates[best].astype(np.int32), scores[best]
