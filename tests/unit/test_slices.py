"""An example is learned in slices that a batch has room for; what belongs to an outcome stays with it."""

from collections import defaultdict
from typing import Any

import numpy as np

from streams.learning.examples import ExampleBatch
from streams.learning.exposures import Exposures
from streams.learning.ledger import Ledger
from streams.learning.slices import Slices
from streams.records import Example, ExampleHistory, Exposure, Outcome, Shown
from tests.builders import NOON

LENGTH, MOST = 4, 3


class Rows:
    """`i7` has row 7."""

    def of(self, item_ids: Any) -> list[int]:
        return [int(item_id[1:]) for item_id in item_ids]


def sliced(example: Example, *taken: int, most: int = MOST) -> tuple[list[ExampleBatch], list[int]]:
    """The batches that come of an example of which some offsets were learned before, and how many were skipped."""
    ledgers: defaultdict[int, Ledger] = defaultdict(Ledger)
    for offset in taken:
        ledgers[0].take(offset)
    slices, exposures, batches, skipped = Slices(example, Rows()), Exposures(), [], []  # type: ignore[arg-type]
    while not slices.done:
        batches.append(ExampleBatch(LENGTH, most))
        skipped.append(slices.put(batches[-1], ledgers, exposures))
    return batches, skipped


def of(outcomes: int, *shown: Exposure) -> Example:
    """A user with items 1 and 2 who then took items 3, 4, …, at offsets 10, 11, …"""
    history = ExampleHistory(["i1", "i2"], [1, 1], [NOON, NOON])
    after = [Outcome(f"i{3 + number}", 1, NOON + 1000 * number, 10 + number) for number in range(outcomes)]
    return Example("u1", 0, history, after, 0, list(shown))


def rows(batch: ExampleBatch) -> tuple[list[int], list[bool]]:
    examples = batch.examples()
    return examples.batch.rows_T.tolist(), examples.is_outcome_T.tolist()


def test_histories_are_carried_over_from_slice_to_slice() -> None:
    """A.2: one record's outcomes were one step, however many they were."""
    batches, _ = sliced(of(7))
    assert [batch.outcomes for batch in batches] == [3, 3, 1]
    assert rows(batches[0]) == ([1, 2, 3, 4, 5], [False, False, True, True, True])
    assert rows(batches[1]) == ([2, 3, 4, 5, 6, 7, 8], [False] * 4 + [True] * 3)
    assert rows(batches[2]) == ([5, 6, 7, 8, 9], [False] * 4 + [True])
    assert [offset for batch in batches for _, offset in batch.sources] == list(range(10, 17))


def test_what_was_learned_before_is_history_and_takes_no_room() -> None:
    batches, skipped = sliced(of(7), 10, 11, 14)
    assert [batch.outcomes for batch in batches] == [3, 1]
    assert rows(batches[0]) == ([1, 2, 3, 4, 5, 6, 8], [False] * 4 + [True] * 3)
    assert skipped == [3, 0]


def test_a_choice_comes_with_its_outcome() -> None:
    shown = [Exposure(f"m{at}", NOON, Shown(f"i{at - 7}", 1), [Shown("i50", 2)], offset=at) for at in (11, 15)]
    batches, _ = sliced(of(7, *shown))
    choices = [batch.examples().choices for batch in batches]
    assert [found.taken_E.tolist() for found in choices] == [[4], [8], []]
    assert [found.after_E.tolist() for found in choices] == [[2], [5], []]


def test_choices_that_became_known_late_take_room_as_outcomes_do() -> None:
    late = [Exposure(f"m{number}", NOON, Shown("i1", 1), [Shown("i50", 2)]) for number in range(5)]
    batches, _ = sliced(of(2, *late))
    assert [(len(batch.late), batch.outcomes) for batch in batches] == [(3, 0), (2, 1), (0, 1)]


def test_no_more_is_passed_over_than_an_impression_holds() -> None:
    passed = [Shown("i51", 2, 0.5), *[Shown("i52", 3)] * 500]
    [batch], _ = sliced(of(1, Exposure("m", NOON, Shown("i3", 1), passed, offset=10)))
    choices = batch.examples().choices
    assert choices.passed_EN.shape == (1, 200)
    assert np.exp(choices.offsets_EN[0, :2]).tolist() == [2.0, 1.0]
