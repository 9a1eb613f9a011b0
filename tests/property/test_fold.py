"""A fold over interactions: any replay gives the same state, each event once, in event time, within bounds."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streams.errors import BrokenStateError, RejectedEventError
from streams.records import INTERACTION_TYPES, Interaction
from streams.settings import StateSettings
from streams.state.fold import Fold, Folded, before
from streams.state.user_state import UserState, decode_state
from tests.builders import NOON, interaction

DAY = 86_400_000

interactions = st.builds(
    interaction,
    event_id=st.integers(0, 40).map(str),
    item_id=st.text(min_size=1, max_size=60).filter(lambda text: len(text.encode(errors="replace")) < 255),
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
    settings, state = StateSettings(history_length=5, max_age_days=1), UserState()
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
    assert (again.offset, again.newest, again.window) == (state.offset, state.newest, state.window)
    assert again.history() == state.history()


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
