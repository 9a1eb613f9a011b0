"""examples -> arrays: what came in since the last step, one history a user, ready for the learner."""

from collections.abc import Sequence
from typing import Final

import numpy as np

from engine.batch import HistoryBatch
from engine.online.examples import Examples
from streams.records import TYPE_CODES

Entry = tuple[int, int, int]
"""Row, type code, epoch seconds."""

NOT_WANTED: Final = frozenset({TYPE_CODES["dislike"], TYPE_CODES["remove"]})
"""Part of a history, but nothing to recommend: never an outcome."""


class ExampleBatch:
    """Histories that grow by outcomes; several examples of one user become one history."""

    def __init__(self, length: int) -> None:
        self._length = length
        self._histories: dict[str, list[tuple[Entry, bool]]] = {}
        self.outcomes = 0

    def extend(self, user_id: str, history: Sequence[Entry], outcomes: Sequence[Entry]) -> None:
        """Add what a user did next.

        Args:
            user_id: Whose history it is.
            history: What came before, oldest first; only the first call for a user needs it.
            outcomes: What came then.
        """
        entries = self._histories.get(user_id)
        if entries is None:
            entries = self._histories[user_id] = [(entry, False) for entry in history[-self._length :]]
        entries += [(entry, entry[1] not in NOT_WANTED) for entry in outcomes]
        self.outcomes += len(outcomes)

    def examples(self) -> Examples:
        """All of it as arrays."""
        histories = self._histories.values()
        entries = np.array([entry for history in histories for entry, _ in history], np.int64).reshape(-1, 3)
        batch = HistoryBatch(
            entries[:, 0].astype(np.int32),
            entries[:, 1].astype(np.uint8),
            entries[:, 2],
            np.array([len(history) for history in histories], np.int32),
        )
        return Examples(batch, np.array([outcome for history in histories for _, outcome in history], np.bool_))
