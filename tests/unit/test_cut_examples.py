"""A.1: whatever a user does within one batch, its examples fit into records that Kafka takes, and say the same."""

import pytest

from streams.agents.answers import MAX_EXAMPLE_BYTES, MAX_OUTCOMES, encoded_examples
from streams.decoding import decode_example
from streams.records import TYPE_CODES, Example, Exposure, Shown
from streams.state.batch_fold import Touched
from streams.state.entries import columns_of
from streams.state.user_state import UserState
from tests.builders import NOON, interaction

WIDE = "\x01" * 255
"""An id that JSON spells with six bytes each."""


def touched(events: int, history: int = 0, item_id: str = "i") -> Touched:
    state = UserState()
    for number in range(history):
        head, tail = columns_of(f"{item_id}{number}"[-255:], TYPE_CODES["view"], NOON - history + number)
        state.heads, state.tails = state.heads + head, state.tails + tail
    user = Touched("u1", state)
    user.added = [
        (interaction(item_id=f"{item_id}{number}"[-255:], timestamp=NOON + number), number) for number in range(events)
    ]
    return user


def cut(user: Touched, length: int = 50, max_bytes: int = MAX_EXAMPLE_BYTES) -> list[Example]:
    values = list(encoded_examples(user, 0, NOON, length, max_bytes))
    assert all(len(value) <= max_bytes for value in values)
    return [decode_example(value) for value in values]


def test_a_few_outcomes_are_one_example() -> None:
    [one] = cut(touched(MAX_OUTCOMES, history=2))
    assert (len(one.outcomes), one.history.items) == (MAX_OUTCOMES, ["i0", "i1"])


@pytest.mark.parametrize("item_id", ["i", WIDE])
def test_fifteen_thousand_outcomes_are_cut_and_each_history_goes_on_where_the_last_ended(item_id: str) -> None:
    user = touched(15_000, history=3, item_id=item_id)
    examples = cut(user)
    assert [outcome.offset for one in examples for outcome in one.outcomes] == list(range(15_000))
    assert max(len(one.outcomes) for one in examples) <= MAX_OUTCOMES
    did = [*examples[0].history.items, *(outcome.item_id for one in examples for outcome in one.outcomes)]
    seen = 3
    for one in examples:
        assert one.history.items == did[max(0, seen - 50) : seen]
        assert len(one.history.items) == len(one.history.types) == len(one.history.timestamps)
        seen += len(one.outcomes)


def test_the_longest_history_of_the_longest_ids_is_cut_to_its_younger_part() -> None:
    [one] = cut(touched(1, history=1000, item_id=WIDE), length=1000)
    assert len(one.outcomes) == 1
    assert one.history.timestamps[-1] == NOON - 1
    assert len(one.history.items) >= 250


def test_what_was_shown_goes_with_its_outcome() -> None:
    user = touched(3000)
    passed = [Shown(f"{number}{WIDE}"[:255], number) for number in range(200)]
    user.exposures = [Exposure(f"m{at}", NOON, Shown("i", 0), passed, offset=at) for at in range(0, 3000, 100)]
    examples = cut(user)
    assert [one.offset for example in examples for one in example.shown] == list(range(0, 3000, 100))
    for example in examples:
        assert {one.offset for one in example.shown} <= {outcome.offset for outcome in example.outcomes}


def test_impressions_alone_are_cut_too_and_keep_their_history() -> None:
    user = touched(0, history=2)
    passed = [Shown(f"{number}{WIDE}"[:255], number) for number in range(200)]
    user.exposures = [Exposure(f"m{at}", NOON, Shown("i", 0), passed) for at in range(20)]
    examples = cut(user)
    assert [one.impression_id for example in examples for one in example.shown] == [f"m{at}" for at in range(20)]
    assert all(example.history.items == ["i0", "i1"] for example in examples)


def test_one_impression_that_no_record_holds_is_left_out() -> None:
    user = touched(1)
    passed = [Shown(f"{number}{WIDE}"[:255], number) for number in range(200)]
    user.exposures = [Exposure("m1", NOON, Shown("i", 0), passed, offset=0)]
    assert all(not example.shown for example in cut(user, max_bytes=5_000))
