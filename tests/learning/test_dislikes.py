"""What a user dislikes is context: no item leads to it, and it leads to none (B.8)."""

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest

from engine.batch import HistoryBatch
from engine.online.examples import Examples
from engine.online.prequential import OnlineLearner
from tests.learning.streams_of import CONFIG

VIEW, DISLIKE = 1, 8
USERS = 50
LIKED, HATED, NEXT = 3, 5, 7


def visits(count: int) -> Iterator[Examples]:
    """Everybody views an item, dislikes another and views a third, among items of their own."""
    generator = np.random.default_rng(0)
    for step in range(count):
        rows = np.array([(generator.integers(10, 30), LIKED, HATED, NEXT) for _ in range(USERS)], np.int32).ravel()
        types = np.array([VIEW, VIEW, DISLIKE, VIEW] * USERS, np.uint8)
        lengths = np.full(USERS, 4, np.int32)
        batch = HistoryBatch(rows, types, np.full(len(rows), 60 * step, np.int64), lengths)
        yield Examples(batch, (batch.positions_T > 0) & (types != DISLIKE))


def learned(not_wanted: frozenset[int]) -> OnlineLearner:
    learner = OnlineLearner(replace(CONFIG, not_wanted=not_wanted))
    for examples in visits(40):
        learner.observe(examples)
    return learner


def score(learner: OnlineLearner, row: int) -> float:
    """Return what the sequence model alone gives a row after the item that everybody likes."""
    batch = HistoryBatch.of_rows(np.array([LIKED], np.int32), np.array([1], np.int32))
    return float(learner.model.scores(batch)[0, row])


@pytest.fixture(scope="module")
def learner() -> OnlineLearner:
    return learned(frozenset({DISLIKE}))


def test_a_disliked_item_has_no_neighbours_and_is_nobodys(learner: OnlineLearner) -> None:
    for tables in (learner.covisits, learner.successors):
        assert tables.neighbour_weights[HATED].sum() == 0
        assert HATED not in tables.neighbour_rows[tables.neighbour_weights > 0]
        assert NEXT in tables.neighbour_rows[LIKED]


def test_the_sequence_model_does_not_learn_to_propose_it(learner: OnlineLearner) -> None:
    assert score(learner, HATED) < score(learner, NEXT) - 1
    before = learned(frozenset())  # so it was: context of half a weight
    assert score(before, HATED) > score(before, NEXT) + 1
