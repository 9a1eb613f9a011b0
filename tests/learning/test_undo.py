"""A batch that spoils the weights of a learner of a file is left out, and nothing else is."""

import numpy as np
import pytest
import torch

from engine.online.examples import Examples
from engine.online.guards import SpoiledError
from engine.online.prequential import OnlineLearner
from engine.online.undo import Undo
from tests.learning.streams_of import CONFIG, stream
from tests.learning.test_known_streams import markov


def test_what_is_learned_is_what_it_would_be_without_the_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    """B.7's sibling: a spoilt batch of a file took all that was learned of it before along."""
    monkeypatch.setattr("engine.online.undo._BATCHES", 4)
    batches = list(stream(markov, 1200))
    plain = OnlineLearner(CONFIG)
    for number, examples in enumerate(batches):
        if number != 6:
            plain.observe(examples)
    learner = OnlineLearner(CONFIG)
    observe = learner.observe

    def spoil(examples: Examples) -> object:
        scored = observe(examples)
        if examples is batches[6]:
            learner.model.item_table.data.fill_(torch.nan)
            raise SpoiledError("the loss is nan")
        return scored

    monkeypatch.setattr(learner, "observe", spoil)
    learning = Undo(learner)
    told = [learning.observe(examples) for examples in batches]
    assert [number for number, scored in enumerate(told) if scored is None] == [6]
    assert learner.outcomes == plain.outcomes
    for name, table in plain.weights().tables.items():
        np.testing.assert_array_equal(learner.weights().tables[name], table)
