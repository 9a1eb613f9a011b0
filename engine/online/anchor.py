"""Weights that are known to be good: the learner is compared with them, serves them, and goes back to them."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from engine.batch import HistoryBatch
from engine.blending.scoring import RecommenderModel, load_scorer
from engine.metrics import rank_of
from engine.online.checkpoint import Apart
from engine.online.predictions import parts
from engine.online.quality import MISSED

if TYPE_CHECKING:
    from engine.online.prequential import OnlineLearner


@dataclass(frozen=True)
class Anchor:
    """A learner as it was."""

    scorer: RecommenderModel
    state: Apart

    @classmethod
    def of(cls, learner: "OnlineLearner") -> "Anchor":
        """The learner as it is now."""
        return cls(load_scorer(learner.weights()), Apart(learner.state()))

    def ranks(self, before: HistoryBatch, rows_P: NDArray[np.int64]) -> NDArray[np.int64]:
        """Rank of each outcome after its history; MISSED where it has no such row."""
        rows = self.scorer.rows
        targets_P = np.where(rows_P < rows, rows_P, 0)
        found = [
            rank_of(self.scorer.scores(before.select(part)).numpy(), targets_P[part])
            for part in parts(len(rows_P), rows)
        ]
        return np.where(targets_P > 0, np.concatenate(found), MISSED)
