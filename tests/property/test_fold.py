"""A fold over interactions: any replay gives the same state, each event once, in event time, within bounds."""

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streams.errors import BrokenStateError, RejectedEventError
from streams.records import INTERACTION_TYPES, Impression, Interaction, Shown
from streams.settings import HttpSettings, ImpressionSettings, StateSettings
from streams.state.fold import Fold, Folded, before
from streams.state.impressions import Impressions
from streams.state.user_state import MOST_BYTES, UserState, decode_state
from tests.builders import NOON, interaction

DAY = 86_400_000

item_ids = st.text(min_size=1, max_size=60).filter(lambda text: len(text.encode(errors="replace")) < 255)
interactions = st.builds(
    interaction,
    event_id=st.integers(0, 40).map(str),
    item_id=st.sampled_from(["i1", "i2", "i3", "i4"]) | item_ids,
    type=st.sampled_from(INTERACTION_TYPES),
    timestamp=st.integers(NOON - DAY, NOON + DAY),
).filter(lambda event: event.item_id.isprintable())


def fold_all(events: list[Interaction], settings: StateSettings, state: UserState | None = None) -> UserState:
    fold, state = Fold(settings), state or UserState()
    for offset, event in enumerate(events):
        fold.add(state, event, offset)
    fold.trim(state)
    return state


@given(st.lists(interactions, max_size=60), st.integers(0, 60))
def test_folding_again_from_any_earlier_offset_changes_nothing(events: list[Interaction], again_from: int) -> None:
    settings = StateSettings(history_length=10)
    state = fold_all(events, settings)
    value, fold = state.encode(), Fold(settings)
    for offset, event in enumerate(events[again_from:], start=again_from):
        assert fold.add(state, event, offset) in {Folded.REPLAYED, Folded.DUPLICATE}
    assert state.encode() == value


@given(st.lists(interactions, max_size=60), st.integers(1, 60))
def test_the_state_does_not_depend_on_where_batches_end(events: list[Interaction], size: int) -> None:
    settings, state = StateSettings(history_length=5, max_age_days=1, kept=3), UserState()
    fold = Fold(settings)
    for offset, event in enumerate(events):
        fold.add(state, event, offset)
        if offset % size == 0:
            fold.trim(state)
    fold.trim(state)
    assert state.encode() == fold_all(events, settings).encode()


@given(st.lists(interactions, max_size=60))
def test_a_history_is_in_event_time_and_no_longer_than_its_bound(events: list[Interaction]) -> None:
    history = fold_all(events, StateSettings(history_length=10)).history()
    assert len(history) <= 10
    assert [entry.timestamp for entry in history] == sorted(entry.timestamp for entry in history)


@given(st.lists(interactions, max_size=60))
def test_the_bytes_hold_the_whole_state(events: list[Interaction]) -> None:
    state = fold_all(events, StateSettings(history_length=10))
    again = decode_state(state.encode())
    assert again.encode() == state.encode()
    assert (again.history(), again.kept()) == (state.history(), state.kept())


@given(st.lists(interactions, min_size=1, max_size=20, unique_by=lambda event: event.event_id), st.integers(0, 19))
def test_the_history_before_replayed_events_is_the_one_they_were_folded_into(
    events: list[Interaction], cut: int
) -> None:
    in_order = sorted(events, key=lambda event: event.timestamp)
    settings = StateSettings(history_length=50)
    first, rest = in_order[:cut], in_order[cut:]
    assert before(fold_all(in_order, settings), rest) == fold_all(first, settings).history()


@given(st.binary(max_size=200))
def test_bytes_that_are_no_state_are_told_apart(value: bytes) -> None:
    with pytest.raises(BrokenStateError):
        decode_state(value)


def test_a_repeated_event_id_is_a_duplicate_only_within_the_window() -> None:
    fold, state = Fold(StateSettings(duplicate_window=2)), UserState()
    assert fold.add(state, interaction(event_id="a"), 0) is Folded.ADDED
    assert fold.add(state, interaction(event_id="a"), 1) is Folded.DUPLICATE
    for offset, event_id in enumerate("bc", start=2):
        fold.add(state, interaction(event_id=event_id), offset)
    assert fold.add(state, interaction(event_id="a"), 4) is Folded.ADDED


def test_events_that_are_sent_again_are_duplicates() -> None:
    # Issue 10, B.1, shared/cases/forty_events_one_user.jsonl: 40 events sent twice were a history of 50 with 25 items.
    fold, state = Fold(StateSettings()), UserState()
    events = [interaction(event_id=f"e{n}", item_id=f"i{n}", type="view", timestamp=NOON + n) for n in range(40)]
    fates = Counter(fold.add(state, event, offset, 20_000) for offset, event in enumerate(events + events))
    fold.trim(state)
    assert fates == {Folded.ADDED: 40, Folded.DUPLICATE: 40}
    assert [entry.item_id for entry in state.history()] == [event.item_id for event in events]


@pytest.mark.parametrize("cut", [0, 1, 500, 999])
def test_a_whole_request_of_one_user_can_be_sent_again_after_any_part_of_it_came(cut: int) -> None:
    # Issue 10, B.1: a request carries up to 1,000 events, and its first try may have been cut anywhere.
    fold, state = Fold(StateSettings()), UserState()
    events = [interaction(event_id=f"e{n}", timestamp=NOON + n) for n in range(HttpSettings().max_events)]
    fates = Counter(fold.add(state, event, offset, 20_000) for offset, event in enumerate(events[:cut] + events))
    assert fates == Counter({Folded.ADDED: 1000, Folded.DUPLICATE: cut})
    state = decode_state(state.encode())
    assert {fold.add(state, event, 5000 + n, 20_001) for n, event in enumerate(events)} == {Folded.DUPLICATE}


def test_event_ids_are_remembered_for_a_day_and_the_last_16_for_ever() -> None:
    fold, state = Fold(StateSettings()), UserState()

    def add(event_id: str, day: int) -> Folded:
        return fold.add(state, interaction(event_id=event_id, timestamp=NOON + state.offset), state.offset + 1, day)

    for number in range(100):
        assert add(f"old {number}", 20_000) is Folded.ADDED
    for number in range(10):
        assert add(f"next {number}", 20_001) is Folded.ADDED
    assert add("old 0", 20_001) is Folded.DUPLICATE
    state = decode_state(state.encode())
    assert add("later", 20_007) is Folded.ADDED
    assert add("next 0", 20_007) is Folded.DUPLICATE
    assert add("old 93", 20_007) is Folded.ADDED
    assert add("old 94", 20_007) is Folded.DUPLICATE


def test_without_a_window_nothing_is_a_duplicate_and_nothing_is_remembered() -> None:
    fold, state = Fold(StateSettings(duplicate_window=0)), UserState()
    assert [fold.add(state, interaction(), offset) for offset in range(2)] == [Folded.ADDED, Folded.ADDED]
    assert not state.firsts


def test_what_was_bought_or_disliked_outlives_what_was_viewed() -> None:
    # Issue 10, B.8, shared/cases/bought_long_ago.jsonl: what was bought sixty views ago was forgotten.
    fold, state, events = Fold(StateSettings()), UserState(), [("socks", "purchase"), ("hat", "dislike")]
    events += [(f"p{number}", "view") for number in range(60)]
    for offset, (item_id, kind) in enumerate(events):
        fold.add(state, interaction(event_id=str(offset), item_id=item_id, type=kind, timestamp=NOON + offset), offset)
    fold.trim(state)
    assert [entry.item_id for entry in state.history()] == [f"p{number}" for number in range(10, 60)]
    assert [entry.item_id for entry in decode_state(state.encode()).kept()] == ["socks", "hat"]


@given(st.lists(interactions, max_size=60, unique_by=lambda event: event.event_id), st.integers(0, 5))
def test_what_is_kept_is_the_newest_of_each_item_among_what_fell_off(events: list[Interaction], limit: int) -> None:
    settings = StateSettings(history_length=5, kept=limit)
    newest: dict[tuple[str, bool], Interaction] = {}
    for event in sorted(events, key=lambda event: event.timestamp)[:-5]:
        if event.type in {"purchase", "like", "dislike"}:
            newest[event.item_id, event.type == "purchase"] = event
    ranked = sorted(newest.items(), key=lambda pair: (pair[1].timestamp, pair[0]))
    ranked = ranked[max(0, len(ranked) - limit) :]
    bought = {item_id: event.timestamp for (item_id, is_bought), event in ranked if is_bought}
    expected = [
        (event.item_id, event.type)
        for (item_id, _), event in ranked
        if event.type == "purchase" or (event.type == "dislike" and bought.get(item_id, -1) < event.timestamp)
    ]
    kept = fold_all(events, settings).kept()
    assert [(entry.item_id, INTERACTION_TYPES[entry.type - 1]) for entry in kept] == expected


@given(st.lists(st.sampled_from(["purchase", "dislike", "like", "remove"]), min_size=1, max_size=4))
def test_a_like_or_a_purchase_takes_an_older_dislike_back(types: list[str]) -> None:
    fold, state = Fold(StateSettings(history_length=1)), UserState()
    for offset, kind in enumerate([*types, "view"]):
        fold.add(state, interaction(event_id=str(offset), type=kind, timestamp=NOON + offset), offset)
        fold.trim(state)
    opinions = [kind for kind in types if kind != "remove"]
    kept = {INTERACTION_TYPES[entry.type - 1] for entry in state.kept()}
    assert ("dislike" in kept) == (opinions[-1:] == ["dislike"])
    assert ("purchase" in kept) == ("purchase" in types)


def test_no_state_is_larger_than_a_record_may_be() -> None:
    # Issue 10, B.8 and A.1: 20 impressions of 200 items with ids of 255 bytes alone were a megabyte.
    settings = StateSettings(history_length=1000, kept=255, duplicate_window=4096)
    fold, impressions, state = Fold(settings), Impressions(ImpressionSettings(pending=200)), UserState()
    for offset in range(6000):
        event = interaction(event_id=str(offset), item_id=f"{offset:0>255}", type="purchase", timestamp=NOON + offset)
        fold.add(state, event, offset)
    fold.trim(state)
    fates = Counter[str]()
    for number in range(30):
        shown = [Shown(f"{number}-{item:0>250}", 2**31 - 1, 1 / 3) for item in range(200)]
        impressions.show(state, Impression(f"{number:0>255}", "u1", shown, NOON + number), number, fates)
    assert 550_000 < len(state.encode()) < MOST_BYTES
    assert (fates["shown"], fates["evicted"]) == (30, 26)


def test_a_late_event_takes_its_place_by_event_time() -> None:
    fold, state = Fold(StateSettings()), UserState()
    for offset, (item_id, minute) in enumerate((("i1", 0), ("i2", 10), ("i3", 5))):
        fold.add(state, interaction(event_id=item_id, item_id=item_id, timestamp=NOON + minute * 60_000), offset)
    assert [entry.item_id for entry in state.history()] == ["i1", "i3", "i2"]


def test_an_event_later_than_allowed_is_rejected_and_leaves_the_state_alone() -> None:
    fold, state = Fold(StateSettings(max_late_seconds=60)), UserState()
    fold.add(state, interaction(event_id="a"), 0)
    value = state.encode()
    with pytest.raises(RejectedEventError) as rejected:
        fold.add(state, interaction(event_id="b", timestamp=NOON - 61_000), 1)
    assert rejected.value.reason == "too_late"
    assert state.encode() == value


def test_interactions_older_than_the_age_bound_are_forgotten() -> None:
    fold, state = Fold(StateSettings(max_age_days=1)), UserState()
    fold.add(state, interaction(event_id="a", item_id="old"), 0)
    fold.add(state, interaction(event_id="b", item_id="new", timestamp=NOON + DAY + 1), 1)
    fold.trim(state)
    assert [entry.item_id for entry in state.history()] == ["new"]
