"""Of two values of a user, the one that reflects more is kept, in whatever order they come; of two halves, both."""

from collections import Counter
from itertools import permutations

import pytest

from streams.records import Impression, Shown
from streams.settings import ImpressionSettings, StateSettings
from streams.state.entries import columns_of
from streams.state.fold import Fold
from streams.state.impressions import Impressions, impressions_offset
from streams.state.precedence import settle, tombstone_headers
from streams.state.user_state import UserState, decode_state, section_of, source_offset
from tests.builders import NOON, interaction

DAY = 20_000


def value(offset: int, impressions: int = -1, day: int = DAY) -> bytes:
    """A state that reflects interactions and impressions up to these offsets."""
    state = UserState(offset=offset, day=day)
    state.set_section(200, b"of another tag")
    if impressions >= 0:
        shown = Impression(f"m{impressions}", "u1", [Shown("a", 0), Shown("b", 1)], NOON)
        Impressions(ImpressionSettings()).show(state, shown, impressions, Counter())
    return state.encode()


def reached(kept: bytes | None) -> tuple[int, int]:
    assert kept
    return source_offset(kept), impressions_offset(kept)


@pytest.mark.parametrize(
    ("held", "late", "kept"),
    [
        ((5, 3), (5, 3), (5, 3)),
        ((5, 3), (6, 3), (6, 3)),
        ((6, 3), (5, 3), (6, 3)),
        ((5, 4), (5, 3), (5, 4)),  # impressions only
        ((5, 4), (5, -1), (5, 4)),
        ((9, 3), (7, 5), (9, 5)),  # neither reflects all of the other
        ((7, 5), (9, 3), (9, 5)),
    ],
)
def test_what_a_value_reflects_is_never_lost(
    held: tuple[int, int], late: tuple[int, int], kept: tuple[int, int]
) -> None:
    assert reached(settle(value(*held), value(*late))) == kept


def test_the_order_in_which_values_come_does_not_matter() -> None:
    values = [value(9, 3), value(7, 5), value(8, 4), value(2, -1)]
    for first, *others in permutations(values):
        kept: bytes | None = first
        for late in others:
            kept = settle(kept, late)
        assert reached(kept) == (9, 5)


def test_halves_are_joined_with_their_history_and_their_impressions() -> None:
    newer, older = decode_state(value(9, 3)), decode_state(value(7, 5))
    newer.heads, newer.tails = columns_of("i1", 2, NOON)
    kept = settle(newer.encode(), older.encode())
    assert kept
    assert [entry.item_id for entry in decode_state(kept).history()] == ["i1"]
    assert section_of(kept, 1) == older.section(1)
    assert section_of(kept, 200) == b"of another tag"


def test_joined_halves_keep_the_event_ids_and_what_outlived_the_history() -> None:
    # Issue 10, B.1 and B.8: what is added to a state must survive a former owner's late values.
    fold, newer = Fold(StateSettings(history_length=1)), UserState(day=DAY)
    for offset, kind in enumerate(["purchase", "view"]):
        fold.add(newer, interaction(event_id=f"e{offset}", type=kind, timestamp=NOON + offset), offset)
        fold.trim(newer)
    for held, late in ((newer.encode(), value(0, 5)), (value(0, 5), newer.encode())):
        kept = settle(held, late)
        assert kept
        assert reached(kept) == (1, 5)
        joined = decode_state(kept)
        assert (joined.firsts, joined.rests, joined.kept()) == (newer.firsts, newer.rests, newer.kept())
        assert joined.kept()


def test_a_value_that_cannot_be_read_does_not_stand_in_the_way() -> None:
    poison = b"\x02" + b"\x7f" * 60
    assert source_offset(poison) > 5
    assert settle(poison, value(5)) == value(5)
    assert settle(b"short", value(5)) == value(5)


def test_a_tombstone_takes_only_a_user_who_was_idle_for_so_long() -> None:
    headers = tombstone_headers(DAY)
    assert settle(value(5, day=DAY - 1), None, headers) is None
    assert settle(value(5, day=DAY), None, headers) == value(5, day=DAY)  # the user had come back
    assert settle(value(5), None) is None  # of a release before, which wrote no day
    assert settle(None, None, headers) is None
    assert settle(None, value(5)) == value(5)
