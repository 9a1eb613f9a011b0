"""Which cases stand best for what was learned: per item, those whose states keep nearest to the mean of its states.

Legend: B cases, D width, N cases of one item.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray


def herd(states_BD: NDArray[np.floating[Any]], targets_B: NDArray[np.integer[Any]], budget: int) -> NDArray[np.int64]:
    """Places of at most `budget` cases, shared out by how often each item is the target (ADER, algorithm 1).

    Items too rare for a whole share get one in the order of their fractions.

    >>> herd(np.array([[0.0], [1.0], [5.0], [9.0]]), np.array([1, 1, 1, 2]), 2).tolist()
    [1, 3]
    """
    _, counts = np.unique(targets_B, return_counts=True)
    shares = counts * min(budget / max(len(targets_B), 1), 1.0)
    quota = np.floor(shares).astype(np.int64)
    left = min(budget, len(targets_B)) - int(quota.sum())
    quota[np.argsort(quota - shares, kind="stable")[:left]] += 1
    order = np.argsort(targets_B, kind="stable")
    ends = np.cumsum(counts)
    chosen = [
        order[end - count : end][nearest(states_BD[order[end - count : end]], wanted)]
        for end, count, wanted in zip(ends.tolist(), counts.tolist(), quota.tolist(), strict=True)
        if wanted
    ]
    return np.sort(np.concatenate([np.empty(0, np.int64), *chosen]))


def nearest(states_ND: NDArray[np.floating[Any]], wanted: int) -> NDArray[np.int64]:
    """Places of the states that, one after another, keep their mean nearest to the mean of all (Welling 2009).

    >>> nearest(np.array([[0.0], [4.0], [5.0], [11.0]]), 2).tolist()
    [2, 1]
    """
    mean_D, total_D = states_ND.mean(0), np.zeros(states_ND.shape[1])
    free, chosen = np.ones(len(states_ND), bool), []
    for taken in range(1, min(wanted, len(states_ND)) + 1):
        distance_N = np.square(mean_D - (total_D + states_ND) / taken).sum(1)
        best = int(np.where(free, distance_N, np.inf).argmin())
        free[best] = False
        total_D += states_ND[best]
        chosen.append(best)
    return np.array(chosen, np.int64)
