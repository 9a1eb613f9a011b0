"""Outcomes are predicted in parts of bounded memory, and what comes of it is the same."""

from dataclasses import replace

import numpy as np
import pytest

from engine import metrics
from engine.blending.scoring import RecommenderModel
from engine.network.model import ModelConfig
from engine.online import predictions
from engine.online.prequential import OnlineLearner
from engine.online.scored import Scored
from tests.learning.streams_of import CONFIG, stream

ITEMS, WIDTH = 200, 16


def behaviour(_: int, history: list[int], generator: np.random.Generator) -> int:
    return history[-1] % 50 + 1 if history and generator.random() < 0.7 else int(generator.integers(1, 60))


def learned() -> tuple[OnlineLearner, list[Scored]]:
    """A learner with an anchor, cold items and texts, and what it said on the way."""
    learner = OnlineLearner(replace(CONFIG, model=ModelConfig.preset("tiny", length=20, text_dim=WIDTH)))
    texts = np.random.default_rng(1).normal(size=(ITEMS, WIDTH)).astype(np.float16)
    learner.describe(np.arange(1, ITEMS), texts[1:] / np.linalg.norm(texts[1:], axis=1, keepdims=True))
    return learner, [learner.observe(examples) for examples in stream(behaviour, 1200)]


def test_in_parts_the_same_is_found_and_learned(monkeypatch: pytest.MonkeyPatch) -> None:
    """A.2: the scores of one step's outcomes took 5 GB of memory."""
    monkeypatch.setattr(metrics, "_GOLDEN", 0.0)  # else a target's place among its equals goes by its place in its part
    whole, told = learned()
    sizes: list[int] = []
    features = RecommenderModel.features

    def measured(scorer: RecommenderModel, batch: object, *rest: object) -> object:
        sizes.append(4 * len(batch) * scorer.rows)  # type: ignore[arg-type]
        return features(scorer, batch, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(RecommenderModel, "features", measured)
    monkeypatch.setattr(predictions, "_SCORES_BYTES", 4 * ITEMS * 65)
    in_parts, told_in_parts = learned()
    assert whole.anchor
    assert max(sizes) == 4 * ITEMS * 65
    for one, other in zip(told, told_in_parts, strict=True):
        assert other.loss == pytest.approx(one.loss, rel=1e-3)
        assert other.cold_share == pytest.approx(one.cold_share, abs=0.01)
        for name, ranks in one.ranks.items():
            assert np.mean(ranks == other.ranks[name]) > 0.98  # sums of another order are another in the last digits
    assert in_parts.blend.blend_F.numpy() == pytest.approx(whole.blend.blend_F.numpy(), abs=1e-3)
    assert in_parts.gate.sequence.count == whole.gate.sequence.count


def test_an_outcome_at_a_time_is_predicted_where_the_rows_are_many() -> None:
    assert predictions.most_places(2**30) == 1
    assert [part.tolist() for part in predictions.parts(2, 2**30)] == [[0], [1]]
    assert list(predictions.parts(0, 100)) == []
