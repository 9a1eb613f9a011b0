"""Stand-ins for ports, for unit tests only."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from engine.batch import HistoryBatch
from engine.weights import CHAMPION
from streams.errors import NotReadyError, PositionError, ScorerUnavailableError
from streams.lists.ladder import Proposals
from streams.records import Cause, HistoryEntry, Interaction, Recommendation, RecommendedItem, UserHistory, encode


class FakeServing:
    """streams.api.endpoints.Serving in memory: one partition, every user but those in `elsewhere` is this worker's."""

    def __init__(self) -> None:
        self.events: list[Interaction] = []
        self.asked: list[tuple[str, int, frozenset[str]]] = []
        self.elsewhere: dict[str, str] = {}
        self.unready: str | None = None
        self.failure: Exception | None = None
        self.titles: dict[str, str] = {}
        self.neighbours: dict[str, list[RecommendedItem]] = defaultdict(list)

    def owner(self, user_id: str) -> str | None:
        if self.unready:
            raise NotReadyError(self.unready)
        return self.elsewhere.get(user_id)

    async def add_events(self, interactions: Sequence[Interaction]) -> list[str]:
        if self.failure:
            raise self.failure
        for interaction in interactions:
            encode(interaction)  # as it must be, to be sent
        first = len(self.events)
        self.events.extend(interactions)
        return [f"interactions/0/{offset}" for offset in range(first, len(self.events))]

    async def recommend(self, user_id: str, k: int, exclude: frozenset[str], after: str | None) -> Recommendation:
        self._reach(after)
        self.asked.append((user_id, k, exclude))
        items = [RecommendedItem(f"i{n}", 1 / n, "popular") for n in range(1, 101) if f"i{n}" not in exclude][:k]
        cause = Cause("interactions", 0, len(self.events) - 1)
        return Recommendation("r1", user_id, cause, items, 0, 0, "popular", 1795540384012, {"total": 0.1})

    async def history(self, user_id: str, after: str | None) -> UserHistory:
        self._reach(after)
        mine = [(offset, event) for offset, event in enumerate(self.events) if event.user_id == user_id]
        entries = [HistoryEntry(event.item_id, event.type, int(event.timestamp)) for _, event in mine]
        return UserHistory(user_id, f"interactions/0/{mine[-1][0]}" if mine else None, entries)

    def similar(self, item_id: str, k: int) -> list[RecommendedItem] | None:
        return self.neighbours[item_id][:k] if item_id in self.neighbours else None

    def knows(self, item_id: str) -> bool:
        return item_id in self.titles

    def title(self, item_id: str) -> str | None:
        return self.titles.get(item_id)

    def health(self) -> Mapping[str, Any]:
        return {"partitions": [0]}

    def ready(self) -> str | None:
        return self.unready

    def _reach(self, after: str | None) -> None:
        if after is None:
            return
        _, partition, offset = after.split("/")
        if partition != "0":
            raise PositionError(f"{after} is not of this user's partition, 0.")
        if int(offset) >= len(self.events):
            raise TimeoutError


class FakeScorer:
    """streams.lists.ladder.Scorer in memory: the rows after the last known one of a history, nearest first."""

    def __init__(self, rows: int = 1024) -> None:
        self.rows = rows
        self.failure: Exception | None = None
        self.late = False
        self.version = 1
        self.generation = 9
        self.asked: list[HistoryBatch] = []
        self.slots = {CHAMPION}
        """Those that are filled."""

    async def top_k(self, batch: HistoryBatch, k: int, timeout_seconds: float, slot: str = CHAMPION) -> Proposals:  # noqa: ARG002 - the port has it
        self.asked.append(batch)
        if self.failure or self.late:
            cause = self.failure or TimeoutError()
            raise ScorerUnavailableError("the fake gives no answer", gone=self.failure is not None) from cause
        last_B = [
            self._last(batch.rows_T[start : start + n])
            for start, n in zip(batch.offsets_B, batch.lengths_B, strict=True)
        ]
        count = min(k, self.rows - 1)
        rows_BK = (np.array(last_B).reshape(-1, 1) + np.arange(count)) % (self.rows - 1) + 1
        rows_BK = np.pad(rows_BK, ((0, 0), (0, k - count))).astype(np.int32)
        scores_BK = np.where(rows_BK > 0, -np.arange(k, dtype=np.float32), -np.inf).astype(np.float32)
        return Proposals(rows_BK, scores_BK, self.version, self.generation, slot if slot in self.slots else CHAMPION)

    def _last(self, rows: np.ndarray) -> int:  # type: ignore[type-arg]
        known = rows[(rows > 0) & (rows < self.rows)]
        return int(known[-1]) if len(known) else 0
