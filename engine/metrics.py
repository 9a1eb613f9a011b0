"""Ranking metrics from the rank of each case's relevant item; knows nothing of models.

Ranks count from 0: the item that leads the list has rank 0. Legend: B cases, I rows, K length of a list.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

CUTOFFS = (5, 10, 20)
_GOLDEN = (math.sqrt(5) - 1) / 2


def rank_of(scores_BI: NDArray[np.float32], targets_B: NDArray[np.integer[Any]]) -> NDArray[np.int64]:
    """Rank of each target in its row of scores; see `tied_rank` for its equals.

    >>> rank_of(np.array([[-np.inf, 2.0, 3.0, 1.0]], np.float32), np.array([1])).tolist()
    [1]
    """
    own_B1 = np.take_along_axis(scores_BI, np.asarray(targets_B, np.int64)[:, None], 1)
    return tied_rank((scores_BI > own_B1).sum(1), (scores_BI == own_B1).sum(1) - 1)


def rank_for_all(scores_I: NDArray[np.float32], targets_B: NDArray[np.integer[Any]]) -> NDArray[np.int64]:
    """Rank of each target where everybody gets the same scores.

    >>> rank_for_all(np.array([0.0, 7.0, 3.0, 1.0], np.float32), np.array([1, 3])).tolist()
    [0, 2]
    """
    ordered_I, own_B = np.sort(scores_I), scores_I[targets_B]
    not_above_B = np.searchsorted(ordered_I, own_B, "right")
    return tied_rank(len(scores_I) - not_above_B, not_above_B - np.searchsorted(ordered_I, own_B) - 1)


def tied_rank(above_B: NDArray[np.integer[Any]], equal_B: NDArray[np.integer[Any]]) -> NDArray[np.int64]:
    """Rank of targets that share their score with others: over many cases, each place among the equals as often.

    So a metric's mean is its expectation over the order of equals. One place for all cases would not do: with half of
    the equals before it, a target among 15 equals was in the first 10 always, not in 10 of 15 cases. The places follow
    the golden ratio (Weyl's sequence), which covers any number of them evenly, and is the same in each run.

    Args:
        above_B: Rows with a greater score.
        equal_B: Other rows with the same score.

    >>> tied_rank(np.full(6, 2), np.full(6, 2)).tolist()
    [3, 2, 4, 3, 2, 4]
    """
    share_B = (np.arange(1, len(above_B) + 1) * _GOLDEN) % 1.0
    ranks_B: NDArray[np.int64] = above_B + (share_B * (equal_B + 1)).astype(np.int64)
    return ranks_B


def recall(ranks_B: NDArray[np.int64], k: int) -> NDArray[np.float64]:
    """1 where the one relevant item is among the first k; equal to the hit rate, since a case has one relevant item.

    >>> recall(np.array([0, 4, 10]), 10).tolist()
    [1.0, 1.0, 0.0]
    """
    return (ranks_B < k).astype(np.float64)


def ndcg(ranks_B: NDArray[np.int64], k: int) -> NDArray[np.float64]:
    """Discounted cumulative gain at k over the best possible one: 1 / log2(rank + 2) within the first k.

    >>> ndcg(np.array([0, 2, 10]), 10).tolist()
    [1.0, 0.5, 0.0]
    """
    return np.where(ranks_B < k, 1 / np.log2(ranks_B + 2.0), 0.0)


def mrr(ranks_B: NDArray[np.int64], k: int) -> NDArray[np.float64]:
    """Reciprocal of the place in the list, 0 beyond k.

    >>> mrr(np.array([0, 3, 10]), 10).tolist()
    [1.0, 0.25, 0.0]
    """
    return np.where(ranks_B < k, 1 / (ranks_B + 1.0), 0.0)


def accuracy(ranks_B: NDArray[np.int64], cutoffs: Sequence[int] = CUTOFFS) -> dict[str, NDArray[np.float64]]:
    """Every accuracy metric of every case, by name, such as `ndcg@10`."""
    return {
        f"{name}@{k}": metric(ranks_B, k)
        for k in cutoffs
        for name, metric in (("recall", recall), ("ndcg", ndcg), ("mrr", mrr), ("hit_rate", recall))
    }


def interval(
    values_B: NDArray[np.float64], generator: np.random.Generator, draws: int = 1000, level: float = 0.95
) -> tuple[float, float]:
    """Bootstrap percentile interval of the mean.

    Cases are resampled through their distinct values (a rank metric has at most k + 1): a multinomial draw, not a copy.

    >>> interval(np.ones(50), np.random.default_rng(0))
    (1.0, 1.0)
    """
    if not len(values_B):
        return (math.nan, math.nan)
    distinct, counts = np.unique(values_B, return_counts=True)
    drawn = generator.multinomial(len(values_B), counts / len(values_B), draws)
    means = drawn @ distinct / len(values_B)
    low, high = np.quantile(means, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def coverage(shown_I: NDArray[np.integer[Any]], items: int) -> float:
    """Share of the catalogue that was shown at all.

    >>> coverage(np.array([0, 3, 0, 1, 0]), 4)
    0.5
    """
    return float(np.count_nonzero(shown_I)) / max(items, 1)


def novelty(shown_I: NDArray[np.integer[Any]], popularity_I: NDArray[np.float64]) -> float:
    """Mean surprise of what was shown in bits, -log2 of an item's share of the interactions (one added to each).

    >>> round(novelty(np.array([0, 1, 1]), np.array([0.0, 6.0, 0.0])), 3)  # 8 in all: (log2 8/7 + log2 8) / 2
    1.596
    """
    smoothed_I = popularity_I + 1.0
    smoothed_I[0] = 0.0
    bits_I = -np.log2(np.maximum(smoothed_I, 1e-300) / smoothed_I.sum())
    return float((shown_I * bits_I).sum() / max(shown_I.sum(), 1))


def popularity_bias(
    shown_I: NDArray[np.integer[Any]], popularity_I: NDArray[np.float64], targets_I: NDArray[np.integer[Any]]
) -> float:
    """Mean popularity of what was shown over the mean popularity of what was wanted: above 1 the list leans to hits.

    >>> popularity_bias(np.array([0, 2, 0]), np.array([0.0, 8.0, 2.0]), np.array([0, 1, 1]))
    1.6
    """
    shown = (shown_I * popularity_I).sum() / max(shown_I.sum(), 1)
    wanted = (targets_I * popularity_I).sum() / max(targets_I.sum(), 1)
    return float(shown / max(wanted, 1e-12))


def cold_share(shown_I: NDArray[np.integer[Any]], popularity_I: NDArray[np.float64], few: int = 5) -> float:
    """Share of what was shown that had fewer than `few` interactions before.

    >>> cold_share(np.array([0, 3, 1]), np.array([0.0, 8.0, 2.0]))
    0.25
    """
    return float(shown_I[popularity_I < few].sum() / max(shown_I.sum(), 1))


def means(cases: Mapping[str, NDArray[np.float64]]) -> dict[str, float]:
    """Mean of each metric over its cases."""
    return {name: float(values_B.mean()) if len(values_B) else math.nan for name, values_B in cases.items()}
