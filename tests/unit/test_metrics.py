"""Ranking metrics agree with examples worked by hand; what carries no information gains nothing."""

import math

import numpy as np
import pytest

from engine import metrics


def test_every_metric_at_every_cutoff_by_hand() -> None:
    found = metrics.means(metrics.accuracy(np.array([0, 7, 30])))
    assert found["recall@5"] == pytest.approx(1 / 3)
    assert found["hit_rate@10"] == pytest.approx(2 / 3)
    assert found["mrr@10"] == pytest.approx((1 + 1 / 8) / 3)
    assert found["ndcg@20"] == pytest.approx((1 + 1 / math.log2(9)) / 3)


def test_a_constant_score_gains_what_chance_does() -> None:
    """C.3: with half of its equals before it, a target among 15 was always in the first 10: recall 1.0."""
    scores = np.zeros((3000, 16), np.float32)
    scores[:, 0] = -np.inf
    ranks = metrics.rank_of(scores, np.full(3000, 4))
    found = metrics.means(metrics.accuracy(ranks))
    assert found["recall@10"] == pytest.approx(10 / 15, abs=0.002)
    assert found["recall@5"] == pytest.approx(5 / 15, abs=0.002)
    assert found["mrr@10"] == pytest.approx(sum(1 / place for place in range(1, 11)) / 15, abs=0.002)


def test_one_score_for_all_ranks_as_it_does_in_each_row() -> None:
    scores = np.random.default_rng(0).integers(0, 20, 100).astype(np.float32)
    expected = metrics.rank_of(np.repeat(scores[None], 100, 0), np.arange(100))
    assert metrics.rank_for_all(scores, np.arange(100)).tolist() == expected.tolist()


def test_the_interval_holds_the_mean_and_narrows_with_cases() -> None:
    generator = np.random.default_rng(0)
    narrow, wide = (metrics.interval((np.arange(count) % 2).astype(float), generator) for count in (10_000, 100))
    assert narrow[0] < 0.5 < narrow[1]
    # 1.96 * sqrt(.25 / 10,000) = .0098 each side
    assert narrow[1] - narrow[0] == pytest.approx(0.0196, rel=0.1)
    assert wide[1] - wide[0] == pytest.approx(0.196, rel=0.1)


def test_no_cases_have_no_interval() -> None:
    assert all(math.isnan(bound) for bound in metrics.interval(np.empty(0), np.random.default_rng(0)))
