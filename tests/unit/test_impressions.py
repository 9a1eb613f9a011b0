"""An interaction is joined to the newest impression of its item in the window, whichever of them comes first."""

from collections import Counter

import pytest

from streams.decoding import decode_impression
from streams.errors import RejectedEventError
from streams.records import Exposure, Impression, Shown, encode
from streams.settings import ImpressionSettings, StateSettings
from streams.state.fold import Fold
from streams.state.impressions import Impressions, waiting
from streams.state.user_state import UserState, decode_state
from tests.builders import NOON, interaction

HOUR = 3_600_000


class Bench:
    """One user, and the events in the order in which a worker reads them."""

    def __init__(self, **settings: int) -> None:
        self.state = UserState()
        self.fates: Counter[str] = Counter()
        self._impressions = Impressions(ImpressionSettings(**{"window_hours": 24, **settings}))
        self._fold = Fold(StateSettings())
        self._offset = -1

    def show(self, name: str, *items: str, at: int = NOON, offset: int | None = None) -> list[Exposure]:
        self._offset += 1
        shown = [Shown(item_id, place, 0.5) for place, item_id in enumerate(items)]
        impression = Impression(name, "u1", shown, at)
        return self._impressions.show(self.state, impression, self._offset if offset is None else offset, self.fates)

    def take(self, item_id: str, at: int, type_: str = "click") -> list[Exposure]:
        self._offset += 1
        event = interaction(event_id=f"e{self._offset}", item_id=item_id, timestamp=at, type=type_)
        self._fold.add(self.state, event, self._offset)
        return self._impressions.take(self.state, event, self._offset, self.fates)


def names(shown: list[Shown]) -> list[str]:
    return [one.item_id for one in shown]


def test_what_was_shown_beside_the_taken_item_is_negative() -> None:
    bench = Bench()
    bench.show("first", "a", "b", "c")
    [exposure] = bench.take("b", NOON + HOUR)
    assert exposure == Exposure("first", NOON, Shown("b", 1, 0.5), [Shown("a", 0, 0.5), Shown("c", 2, 0.5)], 1)
    assert bench.fates == Counter(shown=1, joined=1)


def test_what_was_taken_before_is_no_negative_and_an_impression_is_joined_once() -> None:
    bench = Bench()
    bench.show("first", "a", "b", "c")
    bench.take("a", NOON + 1)
    [exposure] = bench.take("b", NOON + 2)
    assert names(exposure.passed) == ["c"]
    assert bench.fates["joined"] == 1


def test_a_purchase_at_the_end_of_the_window_finds_its_impression_and_one_after_it_does_not() -> None:
    bench = Bench()
    bench.show("first", "a", "b")
    assert bench.take("a", NOON + 24 * HOUR, "purchase")
    assert not bench.take("b", NOON + 24 * HOUR + 1, "purchase")


def test_an_item_shown_twice_is_taken_from_the_newer_impression() -> None:
    bench = Bench()
    bench.show("old", "a", "b", at=NOON)
    bench.show("new", "a", "c", at=NOON + HOUR)
    [exposure] = bench.take("a", NOON + 2 * HOUR)
    assert exposure.impression_id == "new"
    [exposure] = bench.take("a", NOON + HOUR // 2)  # late: in its own time only the old one had been shown
    assert exposure.impression_id == "old"


def test_what_was_taken_before_it_was_shown_or_not_shown_at_all_is_not_joined() -> None:
    bench = Bench()
    bench.show("first", "a")
    assert not bench.take("a", NOON - 1)
    assert not bench.take("z", NOON + 1)


@pytest.mark.parametrize("type_", ["search", "dislike", "remove"])
def test_turning_an_item_down_is_not_taking_it(type_: str) -> None:
    bench = Bench()
    bench.show("first", "a", "b")
    assert not bench.take("a", NOON + 1, type_)


def test_an_impression_that_comes_after_the_click_finds_it_in_the_history() -> None:
    bench = Bench()
    bench.take("before", NOON - 1)
    bench.take("b", NOON + 1)
    [exposure] = bench.show("late", "a", "b", "before")
    assert (exposure.taken.item_id, names(exposure.passed), exposure.offset) == ("b", ["a", "before"], -1)
    assert bench.fates["joined"] == 1


def test_an_impression_read_again_says_the_same_and_is_kept_once() -> None:
    bench = Bench()
    bench.take("b", NOON + 1)
    first = bench.show("late", "a", "b", offset=7)
    value = bench.state.encode()
    assert bench.show("late", "a", "b", offset=7) == first
    assert bench.state.encode() == value
    assert not bench.show("late", "a", "b", offset=8)
    assert bench.fates == Counter(shown=1, joined=1, duplicate=1)


def test_what_nothing_followed_expires_and_is_counted() -> None:
    bench = Bench()
    bench.show("joined", "a")
    bench.show("ignored", "b")
    bench.take("a", NOON + 1)
    assert waiting(bench.state) == 1
    bench.take("z", NOON + 25 * HOUR)
    assert waiting(bench.state) == 0
    assert bench.fates == Counter(shown=2, joined=1, expired=1)


def test_the_oldest_makes_room_beyond_the_limit() -> None:
    bench = Bench(pending=2)
    for number in range(3):
        bench.show(f"m{number}", "a", at=NOON + number)
    assert bench.fates == Counter(shown=3, evicted=1)
    [exposure] = bench.take("a", NOON + 1)
    assert exposure.impression_id == "m1"


def test_pending_impressions_are_part_of_the_states_bytes() -> None:
    bench = Bench()
    bench.show("first", "a", "b")
    bench.state = decode_state(bench.state.encode())
    [exposure] = bench.take("a", NOON + 1)
    assert names(exposure.passed) == ["b"]


def test_an_impression_of_nothing_or_from_the_future_is_rejected() -> None:
    now, shown = NOON, [Shown("a", 0)]
    empty, future = Impression("m", "u1", [], NOON), Impression("m", "u1", shown, NOON + 10_001)
    for broken, reason in ((empty, "wrong_type"), (future, "timestamp_out_of_range")):
        with pytest.raises(RejectedEventError) as rejected:
            decode_impression(encode(broken), now, 10_000)
        assert rejected.value.reason == reason
    assert decode_impression(encode(Impression("m", "u1", shown, NOON)), now, 0).items == shown
