"""examples -> arrays: what came in since the last step, one history a user, ready for the learner."""

from collections.abc import Mapping, Sequence
from typing import Final

import numpy as np

from engine.batch import HistoryBatch
from engine.network.choices import Choices
from engine.online.examples import Examples
from streams.records import TYPE_CODES, Exposure

LearnedEntry = tuple[int, int, int]
"""Row, type code, epoch seconds."""

Choice = tuple[int, Sequence[tuple[int, float | None]]]
"""Row of what was taken; row and propensity of each item passed over. Row 0 is an item that nobody knows."""

NOT_WANTED: Final = frozenset({TYPE_CODES["dislike"], TYPE_CODES["remove"]})
"""Part of a history, but nothing to recommend: never an outcome."""


class ExampleBatch:
    """Histories that grow by outcomes; several examples of one user become one history.

    Args:
        length: of a history before its first outcome.
        most: outcomes, and choices that became known late, that are learned together.
    """

    def __init__(self, length: int, most: int) -> None:
        self._length = length
        self._most = most
        self._histories: dict[tuple[str, int], list[tuple[LearnedEntry, bool]]] = {}
        """By user, and one for each choice that became known late."""
        self._choices: list[tuple[tuple[str, int], int, Choice]] = []
        """History, place in it of the interaction before the choice, and the choice."""
        self.outcomes = 0
        self.sources: list[tuple[int, int]] = []
        """Partition of `interactions` and offset of each outcome."""
        self.late: list[Exposure] = []
        """Whose outcome was learned before."""
        self.records: dict[int, tuple[int, int]] = {}
        """First and last offset of the records that it was made of, by partition of `examples`."""

    @property
    def room(self) -> int:
        """How many outcomes more it may take."""
        return self._most - self.outcomes - len(self.late)

    @property
    def full(self) -> bool:
        """Whether it is to be learned now."""
        return self.room <= 0

    def note(self, partition: int, offset: int) -> None:
        """Remember that a record of `examples` is part of it."""
        first, _ = self.records.get(partition, (offset, offset))
        self.records[partition] = first, offset

    def holds_only(self, partition: int, offset: int) -> bool:
        """Whether this record is all that it was made of."""
        return self.records == {partition: (offset, offset)}

    @property
    def empty(self) -> bool:
        """Whether there is nothing to learn yet."""
        return not self._histories

    def extend(
        self,
        user_id: str,
        history: Sequence[LearnedEntry],
        outcomes: Sequence[LearnedEntry],
        choices: Mapping[int, Choice] | None = None,
    ) -> None:
        """Add what a user did next.

        Args:
            user_id: Whose history it is.
            history: What came before, oldest first; only the first call for a user needs it.
            outcomes: What came then.
            choices: By place among the outcomes, what was shown with it.
        """
        key = (user_id, 0)
        entries = self._histories.get(key)
        if entries is None:
            entries = self._histories[key] = [(entry, False) for entry in history[-self._length :]]
        self._choices += [(key, len(entries) + place - 1, choice) for place, choice in (choices or {}).items()]
        entries += [(entry, entry[1] not in NOT_WANTED) for entry in outcomes]
        self.outcomes += len(outcomes)

    def choose(self, user_id: str, history: Sequence[LearnedEntry], choice: Choice, exposure: Exposure) -> None:
        """Add a choice that became known after its outcome was learned; a user without a past teaches nothing by it."""
        if history:
            self.late.append(exposure)
            key = (user_id, len(self._choices) + 1)
            self._histories[key] = [(entry, False) for entry in history[-self._length :]]
            self._choices.append((key, len(self._histories[key]) - 1, choice))

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
        begins = dict(zip(self._histories, batch.offsets_B.tolist(), strict=True))
        choices = [(begins[key] + place, *choice) for key, place, choice in self._choices if place >= 0]
        is_outcome_T = np.array([outcome for history in histories for _, outcome in history], np.bool_)
        return Examples(batch, is_outcome_T, Choices.of(choices))
