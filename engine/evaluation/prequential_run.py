"""A stream from a file: predict, score and learn each interaction once, in order."""

from typing import Any

import numpy as np

from engine.batch import HistoryBatch
from engine.evaluation.interactions import Interactions
from engine.online.config import OnlineConfig
from engine.online.examples import Examples
from engine.online.prequential import OnlineLearner


def prequential_run(
    interactions: Interactions, config: OnlineConfig, micro_batch: int = 256, every: int = 10_000, seed: int = 0
) -> dict[str, Any]:
    """Runs a learner over a stream and reports quality on the way.

    Returns:
        `quality`: last window by contender and metric; `curve`: the same NDCG@10 every `every` interactions;
        `ranks`: those of the last window by contender; `seconds`: CPU time by stage; `events`.
    """
    learner = OnlineLearner(config, seed)
    histories: dict[int, list[int]] = {}
    curve, seconds = [], {"score": 0.0, "learn": 0.0}
    total = len(interactions.rows_N)
    for begin in range(0, total, micro_batch):
        end = min(begin + micro_batch, total)
        scored = learner.observe(_next_examples(interactions, range(begin, end), histories, config.model.length))
        for stage, spent in scored.seconds.items():
            seconds[stage] += spent
        if end // every > begin // every or end == total:
            report = learner.quality.report()
            curve.append({"events": end, **{name: values["ndcg@10"] for name, values in report.items()}})
    return {
        "quality": learner.quality.report(),
        "ranks": learner.quality.state(),
        "curve": curve,
        "seconds": seconds,
        "events": total,
    }


def _next_examples(interactions: Interactions, places: range, histories: dict[int, list[int]], length: int) -> Examples:
    """One history a user of the batch, as indices into the stream, and its growth."""
    new: dict[int, int] = {}
    for place, user in zip(places, interactions.users_N[places.start : places.stop].tolist(), strict=True):
        histories.setdefault(user, []).append(place)
        new[user] = new.get(user, 0) + 1
    parts = []
    for user, count in new.items():
        histories[user] = histories[user][-(length + count) :]
        parts.append(np.array(histories[user]))
    index = np.concatenate(parts)
    batch = HistoryBatch(
        interactions.rows_N[index],
        interactions.types_N[index],
        interactions.times_N[index],
        np.array([len(part) for part in parts], np.int32),
    )
    return Examples.of(batch, np.array(list(new.values()), np.int32))
