"""What must hold of every event that is decoded, whatever its bytes."""

from typing import Final

from streams.errors import MAX_DETAIL, RejectedEventError
from streams.records import INTERACTION_TYPES, MAX_ID_BYTES, REASONS, Interaction, decode_interaction, encode
from streams.settings import StateSettings
from streams.state.fold import Fold
from streams.state.user_state import UserState, decode_state
from tests.builders import NOON

FUTURE_MS: Final = 300_000
_FOLD: Final = Fold(StateSettings())


def outcome(value: bytes | None) -> str:
    """Return `accepted` or the reason of the rejection, after checking what must hold of either."""
    try:
        interaction = decode_interaction(value, NOON, FUTURE_MS)
    except RejectedEventError as why:
        check_rejection(why)
        return why.reason
    check_event(interaction)
    return "accepted"


def check_rejection(why: RejectedEventError) -> None:
    """Check a rejection: a dead letter's headers and a problem document can carry it."""
    assert why.reason in REASONS
    assert 0 < len(why.detail) <= MAX_DETAIL
    assert encode(why.detail)
    assert why.field is None or why.field.isidentifier()


def check_event(interaction: Interaction) -> None:
    """Check an accepted event: the state can hold it and the wire can carry it."""
    for identifier in (interaction.user_id, interaction.item_id):
        assert 0 < len(identifier.encode()) <= MAX_ID_BYTES
    assert interaction.type in INTERACTION_TYPES
    assert type(interaction.timestamp) is int
    assert 0 < interaction.timestamp <= NOON + FUTURE_MS
    assert decode_interaction(encode(interaction), NOON, FUTURE_MS) == interaction
    state = UserState()
    _FOLD.add(state, interaction, 0)
    [entry] = decode_state(state.encode()).history()
    assert (entry.item_id, entry.timestamp) == (interaction.item_id, interaction.timestamp)
