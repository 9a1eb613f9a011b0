"""Streams with a known answer, as micro-batches of examples."""

from collections.abc import Callable, Iterator

import numpy as np

from engine.batch import HistoryBatch
from engine.network.model import ModelConfig
from engine.online.config import OnlineConfig
from engine.online.examples import Examples
from engine.online.prequential import OnlineLearner

Next = Callable[[int, list[int], np.random.Generator], int]
"""What a user does next: time, the history so far, randomness -> row."""

BATCH = 100
CONFIG = OnlineConfig(model=ModelConfig.preset("tiny", length=20), replay_capacity=512, window=1000, settled=500)


def stream(
    behaviour: Next, outcomes: int, users: int = 50, start: int = 0, histories: dict[int, list[int]] | None = None
) -> Iterator[Examples]:
    """Users take turns at random; a minute passes between events."""
    generator = np.random.default_rng(start)
    histories = {} if histories is None else histories
    for begin in range(start, start + outcomes, BATCH):
        new: dict[int, int] = {}
        for time in range(begin, begin + BATCH):
            user = int(generator.integers(users))
            history = histories.setdefault(user, [])
            history.append(behaviour(time, history, generator))
            new[user] = new.get(user, 0) + 1
        parts = [histories[user][-(20 + count) :] for user, count in new.items()]
        rows = np.array([row for part in parts for row in part], np.int32)
        lengths = np.array([len(part) for part in parts], np.int32)
        times = np.full(len(rows), begin * 60, np.int64)
        batch = HistoryBatch(rows, np.ones(len(rows), np.uint8), times, lengths)
        yield Examples.of(batch, np.array(list(new.values()), np.int32))


def recall_at_1(learner: OnlineLearner, examples: Iterator[Examples]) -> float:
    """Share of the outcomes of the last half of a stream whose item led the list, learning all the while."""
    ranks = [learner.observe(each).ranks.get("model", np.empty(0)) for each in examples]
    return float((np.concatenate(ranks[len(ranks) // 2 :]) == 0).mean())
