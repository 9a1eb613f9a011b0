"""What each contender makes of the outcomes before they are learned; memory has a bound, however many rows there are.

Legend: P outcomes, A those that newcomers are compared before, I rows, U cold rows, D width, K places of a list.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from engine.batch import HistoryBatch
from engine.blending.blend import BlendStep
from engine.blending.scoring import FEATURES, RecommenderModel
from engine.blending.selection import best
from engine.metrics import rank_for_all, rank_of
from engine.online.quality import CONTENDERS, MISSED

_LIST: Final = 10
_SCORES_BYTES: Final = 64 * 1024 * 1024
"""Of one (P, I) array; four of them are there at once. 15,000 outcomes and 20,000 rows in one took 3.5 GB."""


@dataclass(frozen=True)
class Asked:
    """Outcomes to predict."""

    before: HistoryBatch
    """The history before each."""
    states_PD: Tensor
    """The sequence model's state after it."""
    targets_P: NDArray[np.int64]
    """Row of each outcome; 0 where it has none that could be proposed."""


@dataclass(frozen=True)
class Predictions:
    """What was found."""

    ranks: Mapping[str, NDArray[np.int64]]
    """Rank of each outcome, by contender, counted from 0; MISSED where it could not be proposed."""
    shown_I: NDArray[np.int64]
    """How often each row is among the first ten."""
    step: BlendStep
    """What the blend may learn of it."""
    scores_AI: Tensor
    """Scores before the outcomes that newcomers are compared before."""


def most_places(rows: int) -> int:
    """How many places the scores of all rows may be held for at once.

    >>> most_places(20_000), most_places(2**30)
    (838, 1)
    """
    return max(1, _SCORES_BYTES // (4 * max(rows, 1)))


def parts(places: int, rows: int) -> Iterator[NDArray[np.int64]]:
    """Places, in order, in parts of as many as may be held at once.

    >>> [len(part) for part in parts(2000, 20_000)]
    [838, 838, 324]
    """
    most = most_places(rows)
    for begin in range(0, places, most):
        yield np.arange(begin, min(begin + most, places))


def predict(
    scorer: RecommenderModel, asked: Asked, counts_I: NDArray[np.float32], drawn_A: NDArray[np.int64]
) -> Predictions:
    """Predicts each outcome and ranks it by every contender.

    Args:
        scorer: What serves.
        asked: The outcomes.
        counts_I: How popular each row is.
        drawn_A: Places in P whose scores are wanted.
    """
    rows, targets_P = scorer.rows, asked.targets_P
    step = BlendStep(torch.from_numpy(targets_P), torch.log1p(torch.from_numpy(counts_I)))
    scores_AI = torch.empty(len(drawn_A), rows)
    found: list[tuple[NDArray[np.int64], ...]] = []
    shown_I = np.zeros(rows, np.int64)
    items_ID = scorer.sequence.item_vectors().detach()
    for part in parts(len(targets_P), rows):
        targets = targets_P[part]
        with torch.inference_mode():
            features = scorer.features(asked.before.select(part), asked.states_PD[part], items_ID)
            scores = features.scores(scorer.blend)
            _, best_K = best(scores, min(_LIST, rows))
        alone = features.model_BI.numpy()
        cold_U = np.flatnonzero(scorer.sequence.cold_I[:rows])
        if len(cold_U):  # what the sequence model alone makes of them
            alone = alone.copy()
            alone[:, cold_U] *= float(scorer.blend[0])
        covisits = features.sparse[FEATURES.index("covisit") - 2]
        found.append((rank_of(scores.numpy(), targets), rank_of(alone, targets), covisits.ranks(targets, rows)))
        shown_I += np.bincount(best_K.numpy().ravel(), minlength=rows)
        held_A = np.flatnonzero((drawn_A >= part[0]) & (drawn_A <= part[-1]))
        scores_AI[torch.from_numpy(held_A)] = scores[torch.from_numpy(drawn_A[held_A] - part[0])]
        step.add(features, scores, torch.from_numpy(targets))
    ranks = (*map(np.concatenate, zip(*found, strict=True)), rank_for_all(counts_I, targets_P))
    named = {name: np.where(targets_P > 0, each, MISSED) for name, each in zip(CONTENDERS, ranks, strict=True)}
    return Predictions(named, shown_I, step, scores_AI)
