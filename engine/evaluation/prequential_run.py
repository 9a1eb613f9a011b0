"""A stream from a file: predict, score and learn each interaction once, in order."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from engine.batch import HistoryBatch
from engine.evaluation.interactions import Interactions
from engine.online.config import OnlineConfig
from engine.online.examples import Examples
from engine.online.prequential import OnlineLearner


def prequential_run(
    interactions: Interactions,
    config: OnlineConfig,
    texts_IF: NDArray[np.float16] | None = None,
    micro_batch: int = 256,
    every: int = 10_000,
    seed: int = 0,
    *,
    announced: bool = False,
) -> dict[str, Any]:
    """Runs a learner over a stream and reports quality on the way.

    Args:
        interactions: The stream.
        config: Of the learner, `model.text_dim` as wide as the texts.
        texts_IF: Text vector of each row.
        micro_batch: Interactions predicted, scored and learned together.
        every: Interactions between entries of the curve.
        seed: Of everything random.
        announced: The whole catalogue is known and can be proposed from the beginning, else an item once it was seen.

    Returns:
        `quality`: last window by contender and metric; `curve`: the same NDCG@10 every `every` interactions;
        `ranks`: those of the last window by contender; `before`: how often each one's item had been seen;
        `cold_share@10`: of the lists over that window; `seconds`: CPU time by stage; `events`.
    """
    learner = OnlineLearner(config, seed)
    histories: dict[int, list[int]] = {}
    curve, seconds = [], {"score": 0.0, "learn": 0.0}
    before, cold_shares = [np.empty(0)], []
    total, described = len(interactions.rows_N), 1
    if announced:
        learner.grow(interactions.rows)
    for begin in range(0, total, micro_batch):
        end = min(begin + micro_batch, total)
        if texts_IF is not None and described < learner.model.rows:
            new = np.arange(described, described := learner.model.rows)
            learner.describe(new, texts_IF[new])
        scored = learner.observe(_next_examples(interactions, range(begin, end), histories, config.model.length))
        for stage, spent in scored.seconds.items():
            seconds[stage] += spent
        before.append(scored.before_P)
        cold_shares.append(scored.cold_share)
        if end // every > begin // every or end == total:
            report = learner.quality.report()
            curve.append({"events": end, **{name: values["ndcg@10"] for name, values in report.items()}})
    return {
        "quality": learner.quality.report(),
        "ranks": learner.quality.state(),
        "before": np.concatenate(before)[-config.window :],
        "cold_share@10": float(np.mean(cold_shares[-max(config.window // micro_batch, 1) :])),
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
