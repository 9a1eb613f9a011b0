"""states -> queries: what is asked of the ladder, and what stays out of the answer."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Literal

from streams.records import TYPE_CODES
from streams.state.entries import Entry
from streams.state.user_state import UserState

FilterSeen = Literal["none", "bought", "seen"]

_DISLIKE: Final = TYPE_CODES["dislike"]
_OPINIONS: Final = frozenset({_DISLIKE, TYPE_CODES["like"], TYPE_CODES["purchase"]})
_FILTERED: Final = {
    "none": frozenset[int](),
    "bought": frozenset({TYPE_CODES["purchase"]}),
    "seen": frozenset(TYPE_CODES.values()),
}


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

    def disliked(self) -> set[str]:
        """Return the items that the user dislikes; a like or a purchase that came later takes a dislike back."""
        found: set[str] = set()
        for entry in self._of_type(_OPINIONS):
            if entry.type == _DISLIKE:
                found.add(entry.item_id)
            else:
                found.discard(entry.item_id)
        return found

    def left_out(self, disliked: set[str], filter_seen: FilterSeen) -> set[str]:
        """Return the items that no rung may list: excluded, disliked, and what the setting says of those before."""
        return {*self.exclude, *disliked, *(entry.item_id for entry in self._of_type(_FILTERED[filter_seen]))}

    def _of_type(self, types: frozenset[int]) -> list[Entry]:
        return [entry for entry in (*self.kept, *self.history) if entry.type in types] if types else []
