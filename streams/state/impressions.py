"""impressions, interactions -> exposures: what was shown, what of it was taken. Pure: no Kafka, no clock, no store.

A user's latest impressions are a section of the user state, so they are durable, recovered and forgotten with it. Both
sides are joined on event time, whichever arrives first. An interaction follows the newest impression of its item.
"""

from collections import Counter
from typing import Final

import msgspec

from streams.records import TYPE_CODES, Exposure, Impression, Interaction, Shown
from streams.settings import ImpressionSettings
from streams.state.user_state import UserState, section_of

SECTION: Final = 1
MOST_BYTES: Final = 1 << 18
"""Of a user's impressions: 20 of 200 items with long ids are a megabyte, which Kafka takes in no record."""
_HOUR_MS: Final = 3_600_000
_NOT_TAKING: Final = frozenset({"search", "dislike", "remove"})
"""Types by which an item that was shown is not taken."""
_NOT_TAKING_CODES: Final = frozenset(TYPE_CODES[name] for name in _NOT_TAKING)


class _Item(msgspec.Struct, array_like=True):
    item_id: str
    position: int
    propensity: float | None = None
    taken: bool = False

    def shown(self) -> Shown:
        return Shown(self.item_id, self.position, self.propensity)


class _Pending(msgspec.Struct, array_like=True):
    event_id: str
    timestamp: int
    items: list[_Item]

    @property
    def joined(self) -> bool:
        return any(item.taken for item in self.items)

    def take(self, item_id: str, offset: int = -1) -> Exposure | None:
        """Mark an item as taken; return what that says, None when it was not shown."""
        taken = next((item for item in self.items if item.item_id == item_id), None)
        if taken is None:
            return None
        taken.taken = True
        passed = [item.shown() for item in self.items if not item.taken and item.item_id != item_id]
        return Exposure(self.event_id, self.timestamp, taken.shown(), passed, offset)


class _Impressions(msgspec.Struct, array_like=True):
    offset: int = -1
    """Of the last impression folded in: what was read before is not folded again."""
    pending: list[_Pending] = []
    """By event time, oldest first."""


class _Reached(msgspec.Struct, array_like=True):
    """The first of _Impressions; the rest is passed over."""

    offset: int = -1


_ENCODER: Final = msgspec.msgpack.Encoder()
_DECODER: Final = msgspec.msgpack.Decoder(_Impressions)
_REACHED: Final = msgspec.msgpack.Decoder(_Reached)


class Impressions:
    """Keeps impressions in user states and joins interactions to them, within the bounds that the settings name."""

    def __init__(self, settings: ImpressionSettings) -> None:
        self._window_ms = settings.window_hours * _HOUR_MS
        self._limit = settings.pending

    def show(self, state: UserState, impression: Impression, offset: int, fates: Counter[str]) -> list[Exposure]:
        """Keep an impression; return what the user had already taken of it, in a history that was faster.

        Args:
            state: of the impression's user, changed in place.
            impression: decoded, its timestamp in epoch milliseconds.
            offset: of its record.
            fates: counts what becomes of impressions.
        """
        held = _read(state)
        if offset <= held.offset:  # read again after a crash: perhaps nobody got the first exposures
            again = next((one for one in held.pending if one.event_id == impression.event_id), None)
            return self._exposures(state, again) if again else []
        held.offset = offset
        if any(pending.event_id == impression.event_id for pending in held.pending):
            fates["duplicate"] += 1
            self._write_bounded(state, held, fates)
            return []
        fates["shown"] += 1
        timestamp: int = impression.timestamp  # type: ignore[assignment] # decode_impression made it an int
        items = [_Item(shown.item_id, shown.position, shown.propensity) for shown in impression.items]
        pending = _Pending(impression.event_id, timestamp, items)
        exposures = self._exposures(state, pending)
        fates["joined"] += bool(exposures)
        held.pending = sorted([*held.pending, pending], key=lambda one: one.timestamp)
        self._bound(state, held, fates)
        self._write_bounded(state, held, fates)
        return exposures

    def take(self, state: UserState, interaction: Interaction, offset: int, fates: Counter[str]) -> list[Exposure]:
        """Join an interaction that was folded to the impression that it follows; empty when there is none."""
        if interaction.type in _NOT_TAKING:
            return []
        held = _read(state)
        timestamp: int = interaction.timestamp  # type: ignore[assignment]
        exposure = None
        for pending in reversed(held.pending):
            if 0 <= timestamp - pending.timestamp <= self._window_ms:
                joined_before = pending.joined
                if exposure := pending.take(interaction.item_id, offset):
                    fates["joined"] += not joined_before
                    break
        if self._bound(state, held, fates) or exposure:
            self._write_bounded(state, held, fates)
        return [exposure] if exposure else []

    def _write_bounded(self, state: UserState, held: _Impressions, fates: Counter[str]) -> None:
        """Keep impressions, of which the oldest make room when all together take too many bytes."""
        while len(value := _ENCODER.encode(held)) > MOST_BYTES and len(held.pending) > 1:
            fates["evicted"] += not held.pending[0].joined
            del held.pending[0]
        state.set_section(SECTION, value)

    def _exposures(self, state: UserState, pending: _Pending) -> list[Exposure]:
        taken = dict.fromkeys(
            entry.item_id
            for entry in state.history()
            if 0 <= entry.timestamp - pending.timestamp <= self._window_ms and entry.type not in _NOT_TAKING_CODES
        )
        return [exposure for item_id in taken if (exposure := pending.take(item_id))]

    def _bound(self, state: UserState, held: _Impressions, fates: Counter[str]) -> int:
        """Let go of what has waited too long and of the oldest beyond the limit; return how many."""
        if not held.pending:
            return 0
        oldest = max(state.newest, held.pending[-1].timestamp) - self._window_ms
        alive = [pending for pending in held.pending if pending.timestamp >= oldest]
        fates["expired"] += sum(not one.joined for one in held.pending if one.timestamp < oldest)
        surplus, kept = alive[: -self._limit], alive[-self._limit :]
        fates["evicted"] += sum(not pending.joined for pending in surplus)
        gone = len(held.pending) - len(kept)
        held.pending = kept
        return gone


def waiting(state: UserState) -> int:
    """Return how many impressions of a user nothing has followed yet: they expire when the user is forgotten."""
    return sum(not pending.joined for pending in _read(state).pending)


def impressions_offset(value: bytes) -> int:
    """Return the offset of the last impression that an encoded state reflects; -1 when it has none that can be read."""
    section = section_of(value, SECTION)
    try:
        return _REACHED.decode(section).offset if section else -1
    except msgspec.MsgspecError:
        return -1


def _read(state: UserState) -> _Impressions:
    value = state.section(SECTION)
    return _DECODER.decode(value) if value else _Impressions()
