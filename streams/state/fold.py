"""interactions -> user states: each event is folded once, in event time. Pure: no Kafka, no clock, no store."""

from enum import Enum, auto
from typing import Final

from streams.errors import RejectedEventError
from streams.records import TYPE_CODES, Interaction
from streams.settings import StateSettings
from streams.state.entries import (
    HEAD_BYTES,
    Entry,
    columns_of,
    entry_time,
    surely_since,
    tails_end,
)
from streams.state.kept import keep
from streams.state.user_state import DAY_MS, UserState, digest_of


class Folded(Enum):
    """What became of an interaction."""

    ADDED = auto()
    REPLAYED = auto()
    """Read before, by its offset: the state already reflects it."""
    DUPLICATE = auto()
    """Its event id is among the user's last ones."""


_ADDED: Final = Folded.ADDED
"""Python 3.11 calls a descriptor to look up a member: .1 us."""


class Fold:
    """Folds interactions into states, within the bounds that the settings name."""

    def __init__(self, settings: StateSettings) -> None:
        self._length = settings.history_length
        self._untrimmed_bytes = 2 * self._length * HEAD_BYTES
        self._max_age_ms = settings.max_age_days * DAY_MS
        self._max_late_ms = settings.max_late_seconds * 1000
        self._ids = settings.duplicate_window
        self._kept = settings.kept

    def add(self, state: UserState, interaction: Interaction, offset: int, day: int = 0) -> Folded:
        """Fold one interaction into the state, in place.

        Args:
            state: of the interaction's user.
            interaction: decoded, its timestamp in epoch milliseconds.
            offset: of its record, in the partition that the user belongs to.
            day: processing time, days since 1970: event ids are remembered by it.

        Raises:
            RejectedEventError: it is too late: older than the user's newest by more than the settings allow.
        """
        if offset <= state.offset:
            return Folded.REPLAYED
        first, rest = digest_of(interaction.event_id)
        if state.firsts.find(first) >= 0 and state.repeats(first, rest):
            return Folded.DUPLICATE
        timestamp: int = interaction.timestamp  # type: ignore[assignment] # decode_interaction made it an int
        newest = state.newest
        if timestamp < newest - self._max_late_ms:
            raise RejectedEventError(
                "too_late",
                f"timestamp {timestamp} lies {(newest - timestamp) // 1000} s before the user's newest event",
                "timestamp",
            )
        state.offset = offset
        if day > state.day:
            state.begin_day(day)
        if self._ids:
            state.remember(first, rest, self._ids)
        head, tail = columns_of(interaction.item_id, TYPE_CODES[interaction.type], timestamp)
        if timestamp >= newest:
            state.newest = timestamp
            state.heads += head
            state.tails += tail
        else:
            _insert(state, timestamp, head, tail)
        if len(state.heads) > self._untrimmed_bytes:
            self.trim(state)
        return _ADDED

    def trim(self, state: UserState) -> None:
        """Cut the history to its bounds: what stays is the same whether this is done after each event or each batch."""
        heads, tails = state.heads, state.tails
        count = len(heads) // HEAD_BYTES
        cut = max(0, count - self._length)
        oldest = state.newest - self._max_age_ms
        if not heads or (not cut and surely_since(state.kept_heads or heads, oldest)):
            return
        end = tails_end(heads, cut)
        while cut < count - 1 and entry_time(heads, tails, cut, end) < oldest:
            cut += 1
            end = tails_end(heads, cut)
        at = cut * HEAD_BYTES
        state.heads, state.tails = heads[at:], tails[end:]
        if cut or state.kept_heads:
            kept = state.kept_heads, state.kept_tails
            state.kept_heads, state.kept_tails = keep(kept, (heads[:at], tails[:end]), oldest, self._kept)


def before(state: UserState, interactions: list[Interaction]) -> list[Entry]:
    """Return the history as it was before replayed interactions, which it already holds at its end.

    An interaction that has since been trimmed away, or was never added, is no longer there to take out.
    """
    history = state.history()
    for interaction in reversed(interactions):
        entry = Entry(interaction.item_id, TYPE_CODES[interaction.type], interaction.timestamp)  # type: ignore[arg-type]
        for at in range(len(history) - 1, -1, -1):
            if history[at] == entry:
                del history[at:]
                break
    return history


def _insert(state: UserState, timestamp: int, head: bytes, tail: bytes) -> None:
    """Place a late entry after all that are not younger."""
    heads, tails, number, end = state.heads, state.tails, 0, 0
    while number < state.count and entry_time(heads, tails, number, end) <= timestamp:
        number += 1
        end = tails_end(heads, number)
    at = number * HEAD_BYTES
    state.heads, state.tails = heads[:at] + head + heads[at:], tails[:end] + tail + tails[end:]
