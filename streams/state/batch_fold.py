"""record batch -> changed users: the part of keep-histories that computes. Sends nothing, waits for nothing."""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from streams.decoding import decode_interaction
from streams.errors import BrokenStateError, RejectedEventError
from streams.kafka.misplaced import partition_of
from streams.pseudonyms import pseudonyms
from streams.records import HISTORY_HEADER, INTERACTION_TYPES, Exposure, Interaction
from streams.repair import Fates
from streams.settings import Settings
from streams.state.fold import Fold, Folded
from streams.state.impressions import Impressions
from streams.state.user_state import DAY_MS, UserState
from streams.state.user_states import UserStates

Positioned = tuple[Interaction, int]
"""An interaction and the offset of its record."""


class Touched:
    """A user of a batch."""

    __slots__ = (
        "added",
        "cause",
        "changed",
        "exposures",
        "heads_before",
        "key",
        "replayed",
        "state",
        "tails_before",
        "user_id",
        "value",
    )

    def __init__(self, user_id: str, state: UserState) -> None:
        self.user_id = user_id
        self.key = user_id.encode()
        self.state = state
        self.heads_before, self.tails_before = state.heads, state.tails
        self.changed = False
        self.exposures: list[Exposure] = []
        """Impressions joined in this batch."""
        self.added: list[Positioned] = []
        """Folded in this batch and to be answered."""
        self.replayed: list[Positioned] = []
        """Folded before a restart and to be answered again: perhaps nobody got the first answer."""
        self.cause = -1
        """Offset of the last interaction that the list answers; -1 when there is none."""
        self.value: bytes | None = b""
        """The state after the batch; None forgets the user."""


@dataclass(slots=True)
class FoldedBatch:
    """What a batch did."""

    came: float = 0.0
    """When the first of its records was fetched, monotonic seconds."""
    events: int = 0
    """Read, whatever became of them."""
    touched: dict[str, Touched] = field(default_factory=dict)
    rejected: list[tuple[Any, RejectedEventError]] = field(default_factory=list)
    broken: list[tuple[str, bytes | None, RejectedEventError]] = field(default_factory=list)
    """User, bytes and reason of each state that could not be read; the user starts afresh."""
    new_items: set[str] = field(default_factory=set)
    types: dict[str, int] = field(default_factory=lambda: dict.fromkeys(INTERACTION_TYPES, 0))
    """Interactions folded, by type."""
    replayed: int = 0
    duplicates: int = 0
    misplaced: int = 0
    """Users whose records belong into another partition."""
    fates: Counter[str] = field(default_factory=Counter)
    """Impressions, by what became of them."""
    lenient: Fates = field(default_factory=Counter)
    """Fields that did not fit their record."""


class BatchFold:
    """Folds the records of one partition batch after the other into the users' states."""

    def __init__(self, settings: Settings, states: UserStates, known_items: dict[str, int]) -> None:
        self._fold = Fold(settings.state)
        self._impressions = Impressions(settings.impressions)
        self._answered = settings.serving.recommend
        """Who answers nothing need not hold a batch's interactions: letting go of each at once saves .8 us an event."""
        self._max_future_ms = settings.state.max_future_seconds * 1000
        self._states = states
        self._known_items = known_items
        self._partitions = settings.kafka.partitions
        self._pseudonym = pseudonyms(settings.pseudonym_key, settings.kafka.partitions)

    def fold(self, partition: int, records: Iterable[Any], now_ms: int) -> FoldedBatch:
        """Fold each record, in order; now_ms bounds the clock skew of producers."""
        batch = FoldedBatch()
        touched_user, known_items, types = batch.touched.get, self._known_items, batch.types
        add, max_future_ms, pseudonym = self._fold.add, self._max_future_ms, self._pseudonym
        decode, answered, added, lenient = decode_interaction, self._answered, Folded.ADDED, batch.lenient
        day, partitions = now_ms // DAY_MS, self._partitions
        for record in records:
            offset = record.offset
            try:
                interaction = decode(record.value, now_ms, max_future_ms, lenient)
                user_id = pseudonym(interaction.user_id, partition)
                touched = touched_user(user_id) or touch(
                    self._states, partition, user_id, batch, partition_of(interaction.user_id, partitions)
                )
                folded = add(touched.state, interaction, offset, day)
            except RejectedEventError as why:
                batch.rejected.append((record, why))
                continue
            if folded is added:
                touched.changed = True
                types[interaction.type] += 1
                if interaction.item_id not in known_items:
                    batch.new_items.add(interaction.item_id)
                followed = touched.added
            elif folded is Folded.REPLAYED:
                batch.replayed += 1
                followed = touched.replayed
            else:
                batch.duplicates += 1
                continue
            if record.headers and _is_history(record.headers):
                if not touched.added:
                    touched.heads_before, touched.tails_before = touched.state.heads, touched.state.tails
                continue
            if answered:
                followed.append((interaction, offset))
            if touched.state.sections:
                touched.exposures += self._impressions.take(touched.state, interaction, offset, batch.fates)
            touched.cause = offset
        batch.events = sum(types.values()) + batch.replayed + batch.duplicates + len(batch.rejected)
        self._close(batch)
        return batch

    def _close(self, batch: FoldedBatch) -> None:
        for touched in batch.touched.values():
            if touched.changed:
                self._fold.trim(touched.state)
                touched.value = touched.state.encode()


def touch(states: UserStates, partition: int, user_id: str, batch: FoldedBatch, home: int) -> Touched:
    """Return a user who is new in the batch, with the state as it is; one that cannot be read is set aside.

    Args:
        states: of all users.
        partition: of the batch.
        user_id: as stored.
        batch: what has been folded of it so far.
        home: the partition that is the user's.
    """
    batch.misplaced += home != partition
    try:
        state = states.get(partition, user_id) or UserState()
    except BrokenStateError as exc:
        why = RejectedEventError("broken_state", f"{exc}; the user starts afresh")
        batch.broken.append((user_id, states.stored(partition, user_id), why))
        state = UserState()
    states.keep(partition, user_id, state)
    touched = batch.touched[user_id] = Touched(user_id, state)
    return touched


def _is_history(headers: Sequence[tuple[str, bytes]]) -> bool:
    """Whether a record says that it is history: folded, but neither answered nor made an example."""
    return any(name == HISTORY_HEADER for name, _ in headers)
