"""In streams with a known answer the learner finds it, within a stated number of events."""

import numpy as np

from engine.batch import HistoryBatch
from engine.online.prequential import OnlineLearner
from tests.learning.streams_of import CONFIG, recall_at_1, stream

ITEMS = 40


def markov(_: int, history: list[int], generator: np.random.Generator) -> int:
    """Nine times in ten the item's one successor, else anything."""
    if history and generator.random() < 0.9:
        return history[-1] * 7 % (ITEMS + 1)  # 41 is prime: a permutation of 1 to 40
    return int(generator.integers(1, ITEMS + 1))


def test_a_markov_chain_is_found_within_2000_events() -> None:
    learner = OnlineLearner(CONFIG)
    list(map(learner.observe, stream(markov, 2000)))
    assert recall_at_1(learner, stream(markov, 1000, start=2000)) >= 0.8  # 0.9 + 0.1 / 40 at best


def test_a_user_with_a_period_of_three_is_found_within_3000_events() -> None:
    def periodic(_: int, history: list[int], generator: np.random.Generator) -> int:
        return history[-3] if len(history) >= 3 else int(generator.integers(1, ITEMS + 1))

    learner = OnlineLearner(CONFIG)
    list(map(learner.observe, stream(periodic, 3000)))
    assert recall_at_1(learner, stream(periodic, 1000, start=3000, histories=None)) >= 0.5


def test_a_swap_of_tastes_is_followed_within_3000_events() -> None:
    def other(_: int, history: list[int], generator: np.random.Generator) -> int:
        if history and generator.random() < 0.9:
            return history[-1] * 11 % (ITEMS + 1)
        return int(generator.integers(1, ITEMS + 1))

    learner, histories = OnlineLearner(CONFIG), {}
    list(map(learner.observe, stream(markov, 3000, histories=histories)))
    just_after = recall_at_1(learner, stream(other, 200, start=3000, histories=histories))
    list(map(learner.observe, stream(other, 2800, start=3200, histories=histories)))
    later = recall_at_1(learner, stream(other, 1000, start=6000, histories=histories))
    assert just_after < 0.5
    assert later >= 0.7


def test_a_swap_of_tastes_is_noticed_as_drift() -> None:
    def uniform(_: int, __: list[int], generator: np.random.Generator) -> int:
        return int(generator.integers(1, ITEMS + 1))

    learner, histories = OnlineLearner(CONFIG), {}
    before = [learner.observe(each).drift for each in stream(markov, 4000, histories=histories)]
    after = [learner.observe(each).drift for each in stream(uniform, 1000, start=4000, histories=histories)]
    assert sum(before) == 0
    assert any(after)


def test_an_item_launched_at_an_event_is_among_five_within_1000_more() -> None:
    launched = ITEMS + 1

    def with_launch(_: int, history: list[int], generator: np.random.Generator) -> int:
        if history and history[-1] == 7:
            return launched
        return markov(_, history if history[-1:] != [launched] else [], generator)

    learner, histories = OnlineLearner(CONFIG), {}
    list(map(learner.observe, stream(markov, 2000, histories=histories)))
    asked = HistoryBatch.of([([3, 21, 7], [1, 1, 1], [0, 60, 120])])
    assert launched not in learner.scorer.top_k(asked, 5)[0]
    list(map(learner.observe, stream(with_launch, 1000, start=2000, histories=histories)))
    assert launched in learner.scorer.top_k(asked, 5)[0]


def test_the_blend_is_not_below_item_knn_on_any_thousand_outcomes() -> None:
    learner = OnlineLearner(CONFIG)
    for number, each in enumerate(stream(markov, 4000), start=1):
        learner.observe(each)
        if number % 10 == 0:
            quality = learner.quality.report()
            assert quality["model"]["ndcg@10"] >= quality["item_knn"]["ndcg@10"] - 0.01
