"""histories -> lists: Triton, then co-visit, then popular: the first rung that answers in time, and which one it was.

A list is always returned. Where the answering rung has too few items (disliked, seen, retired and excluded ones are
taken out), the next rungs fill it up; every item says what proposed it.
"""

import asyncio
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final, Protocol

import numpy as np

from engine.batch import HistoryBatch
from engine.weights import CHAMPION
from streams.catalogue.catalogue import Catalogue
from streams.errors import ScorerUnavailableError
from streams.followers.neighbours import NeighbourTables
from streams.instruments import WorkerInstruments
from streams.lists.admission import Admission, Ticket
from streams.lists.covisit import covisits
from streams.lists.freshness import Freshness
from streams.lists.listing import Listing
from streams.lists.popular import Popular
from streams.lists.query import Query
from streams.records import RecommendedItem
from streams.settings import Settings
from streams.triton.scorer import Proposals

RUNGS: Final = {"sequence": "triton", "covisit": "covisit", "popular": "popular"}
"""By what proposes their items, from the top down."""
_PATIENCE_SECONDS: Final = 1.0
"""A late answer is waited for so long at least, though no list needs it any more: it tells what the server can do."""


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
        self._admission = Admission()
        self._freshness = Freshness(settings.triton.max_behind_seconds, serve_untrained=settings.triton.serve_untrained)
        self._popular = Popular(catalogue)
        self._asking: set[asyncio.Task[Proposals | None]] = set()

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
        listing = Listing(k, {row}, self._catalogue)
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
            if answer is not None and number < len(answer.rows_BK)
        }
        return [self._list(query, *answers.get(at, (None, 0))) for at, query in enumerate(queries)]

    async def _ask(self, queries: Sequence[Query], seconds_left: float, slot: str) -> Proposals | None:
        """Return what the model proposes for the first queries, as many as it can answer in time."""
        timeout = min(self._timeout_seconds, seconds_left)
        if timeout <= 0:
            self._fall("no_time", len(queries))
            return None
        ticket = self._admission.admit(len(queries), timeout)
        if ticket.users < len(queries):
            self._fall(ticket.refusal, len(queries) - ticket.users)
        if not ticket.users:
            return None
        batch = HistoryBatch.of([self._history(query) for query in queries[: ticket.users]])
        asking = asyncio.create_task(self._answered(batch, max(timeout, _PATIENCE_SECONDS), slot, ticket))
        self._asking.add(asking)
        asking.add_done_callback(self._asking.discard)
        await asyncio.wait([asking], timeout=timeout)
        if not asking.done():
            self._admission.late(ticket)
            self._instruments.scorer_failures.labels("TimeoutError").inc()
            self._fall("late", ticket.users)
            return None
        return self._counted(asking.result(), ticket.users)

    async def _answered(self, batch: HistoryBatch, seconds: float, slot: str, ticket: Ticket) -> Proposals | None:
        """Ask, and let the admission learn from the answer, also when it is late."""
        try:
            answer = await self._scorer.top_k(batch, self._candidates, seconds, slot)
        except ScorerUnavailableError as exc:
            self._admission.failed(ticket, gone=exc.gone)
            self._instruments.scorer_failures.labels(type(exc.__cause__).__name__).inc()
            return None
        except BaseException:
            self._admission.failed(ticket, gone=False)
            raise
        self._admission.answered(ticket)
        return answer

    def _counted(self, answer: Proposals | None, lists: int) -> Proposals | None:
        """Return an answer that counts."""
        if answer is None:
            self._fall("failed", lists)
            return None
        if answer.slot == CHAMPION:
            self._instruments.triton_generation.set(answer.generation)
        fault = self._freshness.fault(answer, self._neighbours.tables, time.monotonic())
        if fault:
            self._fall(fault, lists)
        return None if fault else answer

    def _fall(self, reason: str, lists: int) -> None:
        self._instruments.fallbacks.labels(reason).inc(lists)

    def _history(self, query: Query) -> tuple[list[int], list[int], list[int]]:
        row_of = self._catalogue.rows.get
        return (
            [row_of(entry.item_id, 0) for entry in query.history],
            [entry.type for entry in query.history],
            [entry.timestamp // 1000 for entry in query.history],
        )

    def _list(self, query: Query, scored: Proposals | None, at: int) -> RankedList:
        row_of, tables = self._catalogue.rows.get, self._neighbours.tables
        disliked = query.disliked()
        left_out = {row_of(item_id, 0) for item_id in query.left_out(disliked, self._filter_seen)}
        listing = Listing(query.k, left_out, self._catalogue)
        if scored is not None:
            listing.add("sequence", scored.rows_BK[at], scored.scores_BK[at])
        if not listing.full and tables is not None:
            liked = [row_of(entry.item_id, 0) for entry in query.history if entry.item_id not in disliked]
            listing.add("covisit", *covisits(liked, tables, self._candidates))
        for candidates in self._popular.candidates(tables):
            if listing.full:
                break
            listing.add("popular", *candidates)
        rung = RUNGS[listing.items[0].source] if listing.items else "triton" if scored else "popular"
        if scored is None or rung != "triton":
            return RankedList(listing.items, rung, 0, tables.generation if tables else 0)
        return RankedList(listing.items, rung, scored.version, scored.generation, scored.slot)

    def _count_touched(self, lists: Sequence[RankedList]) -> None:
        tables, row_of = self._neighbours.tables, self._catalogue.rows
        if tables is None:
            return
        rows = np.array([row_of[item.item_id] for ranked in lists for item in ranked.items], np.int64)
        touched = np.count_nonzero(tables.popularity_I[rows[rows < len(tables.popularity_I)]])
        self._instruments.listed_items.labels("yes").inc(touched)
        self._instruments.listed_items.labels("no").inc(len(rows) - touched)
