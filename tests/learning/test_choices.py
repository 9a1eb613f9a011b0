"""What is shown and passed over sinks below what is taken, though both are clicked equally often."""

from dataclasses import replace
from functools import cache

import numpy as np
import pytest
import torch

from engine.batch import HistoryBatch
from engine.network.choices import NO_CHOICES, Choices
from engine.network.negatives import Negatives
from engine.network.training import TrainingConfig
from engine.online.config import OnlineConfig
from engine.online.examples import Examples
from engine.online.prequential import OnlineLearner
from tests.learning.streams_of import CONFIG

CONTEXT, TAKEN, PASSED = 1, 2, 3
ITEMS = 20
BATCH = 50
ASKED = HistoryBatch.of_rows(np.array([9, 8, CONTEXT], np.int32), np.array([3], np.int32))


@cache
def learned(config: OnlineConfig, *, late: bool = False, shown: bool = True, batches: int = 30) -> OnlineLearner:
    """After CONTEXT half the users click TAKEN and half PASSED; who took TAKEN was shown PASSED beside it."""
    learner, generator = OnlineLearner(config), np.random.default_rng(0)
    learner.grow(ITEMS + 1)
    for _ in range(batches):
        before = generator.integers(4, ITEMS + 1, (BATCH, 2))
        after = np.where(np.arange(BATCH) % 2 == 0, TAKEN, PASSED)
        rows = np.column_stack([before, np.full(BATCH, CONTEXT), after]).astype(np.int32)
        batch = HistoryBatch.of_rows(rows.ravel(), np.full(BATCH, 4, np.int32))
        chosen = Choices.of([(4 * user + 2, TAKEN, [(PASSED, None)]) for user in range(0, BATCH, 2)])
        learner.observe(
            replace(
                Examples.of(batch, np.full(BATCH, 1, np.int32)), choices=chosen if shown and not late else NO_CHOICES
            )
        )
        if late:
            seen = HistoryBatch.of_rows(rows[::2, :3].ravel(), np.full(BATCH // 2, 3, np.int32))
            chosen = Choices.of([(3 * user + 2, TAKEN, [(PASSED, None)]) for user in range(BATCH // 2)])
            learner.observe(Examples(seen, np.zeros(len(seen.rows_T), bool), chosen))
    return learner


def lead(learner: OnlineLearner) -> float:
    """How far the sequence model scores TAKEN above PASSED; ln 2 is where loss and choices are in balance."""
    with torch.no_grad():
        scores = learner.model.scores(ASKED)[0]
    return float(scores[TAKEN] - scores[PASSED])


def served(learner: OnlineLearner) -> list[int]:
    """The two best rows of the list."""
    rows: list[int] = learner.scorer.top_k(ASKED, 2)[0][0].tolist()
    return rows


SAMPLED = replace(
    CONFIG, training=replace(CONFIG.training, loss="sampled_softmax", negatives=Negatives(8, 0, in_batch=False))
)


@pytest.mark.parametrize("config", [CONFIG, SAMPLED], ids=["softmax", "sampled_softmax"])
def test_the_item_passed_over_ranks_lower_within_1500_events(config: OnlineConfig) -> None:
    shown = lead(learned(config))
    assert shown > 0.3
    assert shown - lead(learned(config, shown=False)) > 0.3


def test_the_served_list_has_it_below() -> None:
    assert served(learned(CONFIG)) == [TAKEN, PASSED]


def test_an_impression_that_comes_after_its_click_teaches_the_same() -> None:
    assert lead(learned(CONFIG, late=True)) > 0.3


def test_a_weight_of_zero_learns_nothing_from_impressions() -> None:
    silent = replace(CONFIG, training=replace(CONFIG.training, choice_weight=0.0))
    assert lead(learned(silent, batches=5)) == pytest.approx(lead(learned(silent, shown=False, batches=5)))


def test_a_choice_goes_with_its_outcome_when_the_outcome_looks_made_up() -> None:
    batch = HistoryBatch.of_rows(np.array([1, 2, 4, 5], np.int32), np.array([2, 2], np.int32))
    examples = Examples(batch, np.array([0, 1, 0, 1], bool), Choices.of([(0, 2, [(3, None)]), (3, 6, [(7, None)])]))
    assert examples.accept(np.array([0, 0, 0, 1], bool)).choices.taken_E.tolist() == [6]  # a late one has no outcome


def test_the_default_learns_from_impressions() -> None:
    assert TrainingConfig().choice_weight > 0
