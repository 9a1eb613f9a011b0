"""Where items differ in popularity and in nothing else, what is served is as good as popularity."""

import numpy as np

from engine.metrics import ndcg
from engine.online.gate import Decision
from engine.online.prequential import OnlineLearner
from tests.learning.streams_of import BATCH, CONFIG, stream

ITEMS = 10_000


def test_items_of_different_popularity_are_served_by_popularity_and_no_gate_goes_back() -> None:
    rows: dict[int, int] = {}

    def popular(_: int, __: list[int], generator: np.random.Generator) -> int:
        item = int(ITEMS * generator.random() ** 3)  # the first one in 1 of 22
        return rows.setdefault(item, len(rows) + 1)

    learner = OnlineLearner(CONFIG)
    gains: dict[str, list[float]] = {"model": [], "popularity": []}
    decisions: list[Decision] = []
    for number, examples in enumerate(stream(popular, 4000, users=2000)):
        learner.grow(len(rows) + 1)  # as the role does: an item has its row before its first outcome is learned
        scored = learner.observe(examples)
        decisions += scored.decisions
        for decision in scored.decisions:
            learner.decide(decision)
        if number * BATCH >= CONFIG.settled:
            for name in gains:
                gains[name] += ndcg(scored.ranks[name], 10).tolist()
    assert not [decision for decision in decisions if decision.action == "rollback"]
    assert np.mean(gains["popularity"]) > 0.05
    assert np.mean(gains["model"]) >= 0.9 * np.mean(gains["popularity"])
