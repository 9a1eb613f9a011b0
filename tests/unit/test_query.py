"""What a user dislikes stays away always; what was bought or seen stays away when the setting says so (B.8)."""

import pytest

from streams.lists.query import FilterSeen, Query
from streams.records import TYPE_CODES
from streams.settings import StateSettings
from streams.state.entries import Entry
from streams.state.fold import Fold
from streams.state.user_state import UserState
from tests.builders import NOON, interaction


def entries(*events: str) -> list[Entry]:
    """Return interactions written as `type item`."""
    parts = [event.split() for event in events]
    return [Entry(item_id, TYPE_CODES[kind], 1000 * at) for at, (kind, item_id) in enumerate(parts)]


HISTORY = entries("view a", "purchase b", "dislike c", "like d", "remove e")
KEPT = entries("purchase f", "dislike g")


@pytest.mark.parametrize(
    ("setting", "expected"),
    [("none", "cgx"), ("bought", "bcfgx"), ("seen", "abcdefgx")],
)
def test_the_setting_says_what_is_left_out_beside_dislikes(setting: FilterSeen, expected: str) -> None:
    query = Query(HISTORY, 10, frozenset("x"), kept=KEPT)
    assert query.left_out(query.disliked(), setting) == set(expected)


def test_a_like_or_a_purchase_takes_an_older_dislike_back_and_a_view_does_not() -> None:
    assert Query(entries("dislike a", "dislike b", "like a", "view b"), 1).disliked() == {"b"}
    assert Query(entries("like a", "dislike a"), 1).disliked() == {"a"}
    assert Query(entries("like g"), 1, kept=KEPT).disliked() == set()
    assert Query(entries("purchase g"), 1, kept=KEPT).disliked() == set()
    assert Query(entries("cart g", "purchase b"), 1, kept=KEPT).disliked() == {"g"}


def test_what_was_disliked_or_bought_sixty_views_ago_stays_away() -> None:
    fold, state = Fold(StateSettings()), UserState()
    events = [("socks", "purchase"), ("hat", "dislike"), *((f"p{number}", "view") for number in range(60))]
    for offset, (item_id, kind) in enumerate(events):
        fold.add(state, interaction(event_id=str(offset), item_id=item_id, type=kind, timestamp=NOON + offset), offset)
    fold.trim(state)
    query = Query.of(state, 10, "u1")
    assert query.left_out(query.disliked(), "none") == {"hat"}
    assert query.left_out(query.disliked(), "bought") == {"hat", "socks"}
