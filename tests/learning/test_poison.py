"""A poisoned stream neither spoils what users get nor the checkpoint: a planted attack each, and what stopped it."""

from copy import deepcopy
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from engine.batch import HistoryBatch
from engine.blending.scoring import load_scorer
from engine.online.checkpoint import newest_checkpoint, write_checkpoint
from engine.online.examples import Examples
from engine.online.gate import GateConfig
from engine.online.guards import SpoiledError
from engine.online.prequential import OnlineLearner
from tests.learning.streams_of import CONFIG, stream
from tests.learning.test_known_streams import ITEMS, markov

POISONED = replace(CONFIG, gate=GateConfig(horizon=4000))
CLEAN = list(stream(markov, 600, start=50_000))


@pytest.fixture(scope="module")
def learned() -> dict[str, Any]:
    """The checkpoint of a learner that has learned a Markov chain, in 4,000 outcomes."""
    learner = OnlineLearner(POISONED)
    for each in stream(markov, 4000):
        observe(learner, each)
    return learner.checkpoint()


@pytest.fixture
def learner(learned: dict[str, Any]) -> OnlineLearner:
    """A learner that goes on from there."""
    learner = OnlineLearner(POISONED)
    learner.resume(deepcopy(learned))
    return learner


def observe(learner: OnlineLearner, examples: Examples) -> list[str]:
    """As the role does: each decision takes effect at once."""
    decisions = learner.observe(examples).decisions
    for decision in decisions:
        learner.decide(decision)
    return [f"{decision.against} {decision.action}" for decision in decisions]


def hits(learner: OnlineLearner) -> float:
    """Share of clean outcomes led by their item in what is served, nothing learned."""
    scorer = load_scorer(learner.served)
    right = []
    for examples in CLEAN:
        ends = np.cumsum(examples.batch.lengths_B) - 1
        before = examples.batch.take(~np.isin(np.arange(len(examples.batch.rows_T)), ends))
        right.append(scorer.top_k(before, 1)[0][:, 0] == examples.batch.rows_T[ends])
    return float(np.concatenate(right).mean())


def mixed(poison: Examples, clean: Examples) -> Examples:
    """Both in one batch: an attack is never all of the traffic."""
    first, second = poison.batch, clean.batch
    return Examples(
        HistoryBatch(
            np.append(first.rows_T, second.rows_T),
            np.append(first.types_T, second.types_T),
            np.append(first.times_T, second.times_T),
            np.append(first.lengths_B, second.lengths_B),
        ),
        np.append(poison.is_outcome_T, clean.is_outcome_T),
    )


def attack(learner: OnlineLearner, poison: list[Examples]) -> list[str]:
    clean = stream(markov, 100 * len(poison), start=4000)
    return [what for bad, good in zip(poison, clean, strict=True) for what in observe(learner, mixed(bad, good))]


def test_random_clicks_do_not_cost_the_users_more_than_a_tenth(learner: OnlineLearner) -> None:
    def random_clicks(_: int, __: list[int], generator: np.random.Generator) -> int:
        return int(generator.integers(1, ITEMS + 1))

    before = hits(learner)
    attack(learner, list(stream(random_clicks, 3000, start=90_000)))
    assert hits(learner) >= 0.9 * before


def test_shuffled_labels_in_half_of_the_traffic_cost_less_than_a_fifth_of_the_hits(learner: OnlineLearner) -> None:
    def shuffled(_: int, history: list[int], __: np.random.Generator) -> int:
        return history[-1] * 13 % (ITEMS + 1) if history else 1  # always the same wrong successor

    before = hits(learner)
    poison = list(stream(shuffled, 1000, start=90_000))
    attack(learner, poison)
    assert hits(learner) >= 0.8 * before


def test_a_bot_on_one_item_is_not_learned(learner: OnlineLearner) -> None:
    popularity = learner.popularity.counts(ITEMS + 1)[3]
    poison = list(stream(lambda *_: 3, 3000, users=1, start=90_000))
    learned = [learner.observe(each).accepted for each in poison]
    assert sum(learned) <= 3
    assert learner.popularity.counts(ITEMS + 1)[3] <= popularity + 3


def test_many_accounts_on_one_item_are_not_learned_beyond_its_share(learner: OnlineLearner) -> None:
    def crowd(_: int, history: list[int], generator: np.random.Generator) -> int:
        return 3 if len(history) % 2 else int(generator.integers(1, ITEMS + 1))

    poison = list(stream(crowd, 6000, users=3000, start=90_000))
    accepted = [learner.observe(each).accepted for each in poison]
    wanted = [int((each.batch.rows_T[each.is_outcome_T] != 3).sum()) for each in poison]
    assert accepted[-1] <= wanted[-1] + 2


def test_weights_that_are_not_finite_are_refused_and_the_checkpoint_stays_good(
    learner: OnlineLearner, tmp_path: Path
) -> None:
    write_checkpoint(tmp_path / "state", learner.checkpoint())
    next(learner.model.blocks.parameters()).data[0] = torch.nan
    with pytest.raises(SpoiledError):
        learner.observe(CLEAN[0])
    state, _ = newest_checkpoint(tmp_path / "state")
    assert state
    learner.resume(state)
    assert hits(learner) >= 0.7


def test_an_exploding_loss_is_refused(learner: OnlineLearner) -> None:
    learner.model.item_table.data *= 100
    with pytest.raises(SpoiledError, match="usual"):
        learner.observe(CLEAN[0])


def test_a_rollback_serves_the_anchor_and_undoes_what_was_learned_since(learner: OnlineLearner) -> None:
    assert learner.anchor
    anchor = learner.anchor.scorer.weights()
    learner.model.item_table.data.neg_()  # something went wrong that no guard knows
    learner.blend.blend_F[2:].neg_()
    decisions: list[str] = []
    for each in stream(markov, 1000, start=4000):
        decisions += [what for what in observe(learner, each) if what == "anchor rollback"]
        if decisions:
            break
    assert decisions == ["anchor rollback"]
    served = learner.served
    for name, table in anchor.tables.items():
        np.testing.assert_array_equal(served.tables[name], table)
    assert hits(learner) >= 0.7


def test_below_item_knn_users_get_item_knn(learner: OnlineLearner) -> None:
    learner.blend.blend_F[:] = -learner.blend.blend_F
    learner.blend.learning_rate = 0.0
    learner.gate.frozen = True  # or the anchor would serve before
    decisions = []
    for each in stream(markov, 1000, start=4000):
        decisions += [what for decision in learner.observe(each).decisions if (what := decision.against) == "item_knn"]
    assert decisions == ["item_knn"]
    assert learner.served.dense["blend"].tolist()[2] == 1.0
