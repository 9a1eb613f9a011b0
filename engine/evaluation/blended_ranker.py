"""What the product serves as a ranker of offline folds: sequence model, neighbours and popularity in one score.

The blend's weights are learned from questions asked before their answers were: a fold's validation cases, or its newest
histories as seen by the state before it. Legend: T interactions, B histories, I rows.
"""

from dataclasses import replace
from typing import Final

import numpy as np
import torch
from torch import Tensor

from engine.batch import HistoryBatch
from engine.blending.blend import BlendLearner
from engine.blending.item_knn import ItemKnn
from engine.blending.popularity import Popularity
from engine.blending.scoring import RecommenderModel
from engine.evaluation.protocols import Cases, Fold, cases
from engine.evaluation.sequence_ranker import SequenceRanker, held_out_T, with_validation
from engine.online.config import OnlineConfig
from engine.online.newcomers import Newcomers

_COUNTED: Final = 2048
"""Histories counted at a time: pairs are matched in memory."""
_BLEND_CASES: Final = 2048
_BLEND_BATCH: Final = 128
_BLEND_SCORES: Final = 2**27
"""Scores kept at most, 512 MB, so that only the first pass has to make them."""
_BLEND_PASSES: Final = 8
_BLEND_RATE: Final = 0.3
"""Greater than online: at .05 the weights had not arrived after 96 steps (DIGINETICA: MRR@20 13.7, at .3 16.4)."""


class BlendedRanker:
    """Fits the sequence model and counts neighbours, then learns how much each of them says."""

    def __init__(self, sequence: SequenceRanker) -> None:
        self.sequence = sequence
        self._config = config = OnlineConfig()
        neighbours = config.scoring.neighbours
        self._covisits = ItemKnn(config.covisits, neighbours)
        self._successors = ItemKnn(config.successors, neighbours)
        self._popularity = Popularity()
        self._blend = BlendLearner(_BLEND_RATE)
        self._newcomers = Newcomers()
        self._scorer: RecommenderModel | None = None

    def fit(self, fold: Fold) -> None:
        """Takes in what the fold has that the one before had not."""
        if self._scorer:
            self._learn_blend(self._scorer, cases(fold.train, fold.new_T))
            self.sequence.fit(fold)
            self._count(fold)
        else:
            self.sequence.fit(fold)
            self._scorer = self._begin(fold)
        model = self.sequence.model
        self._newcomers.settle(model, np.flatnonzero(model.cold_I[: model.rows]), float(self._blend.blend_F[0]))
        self._refer(self._scorer)

    def scores(self, batch: HistoryBatch) -> Tensor:
        """Scores of all rows, (B, I)."""
        assert self._scorer, "fit first"
        return self._scorer.scores(batch)

    @property
    def weights(self) -> list[float]:
        """Weight of each feature, in the order of `engine.blending.scoring.FEATURES`."""
        return [float(weight) for weight in self._blend.blend_F]

    def _begin(self, fold: Fold) -> RecommenderModel:
        """Learns the blend from what neither the model nor the counts have seen; then they may have seen it."""
        held = with_validation(fold)
        self._count(held)
        scorer = RecommenderModel(self.sequence.unseeing, self._config.scoring).to(self.sequence.device).eval()
        scorer.blend = self._blend.blend_F = self._blend.blend_F.to(self.sequence.device)
        self._refer(scorer)
        self._learn_blend(scorer, held.validation)
        if held is not fold:
            self._count(replace(fold, new_T=fold.new_T & held_out_T(fold)))
        scorer.sequence = self.sequence.model
        return scorer

    def _count(self, fold: Fold) -> None:
        touched_B = np.flatnonzero(np.bincount(fold.train.users_T[fold.new_T], minlength=len(fold.train)))
        new = HistoryBatch(fold.train.rows_T, fold.new_T.astype(np.uint8), fold.train.times_T, fold.train.lengths_B)
        for begin in range(0, len(touched_B), _COUNTED):
            part = new.select(touched_B[begin : begin + _COUNTED])
            for counter in (self._covisits, self._successors):
                counter.update(part, part.types_T.astype(bool))
        self._popularity.update(fold.train.rows_T[fold.new_T])

    def _refer(self, scorer: RecommenderModel) -> None:
        rows, device = self.sequence.model.rows, self.sequence.device
        for name, counter in (("neighbour", self._covisits), ("successor", self._successors)):
            counter.grow(rows)
            setattr(scorer, f"{name}_rows", torch.from_numpy(counter.neighbour_rows).to(device))
            setattr(scorer, f"{name}_weights", torch.from_numpy(counter.neighbour_weights).to(device))
        scorer.popularity = torch.from_numpy(self._popularity.counts(rows)).to(device)

    def _learn_blend(self, scorer: RecommenderModel, asked: Cases) -> None:
        generator, most = self.sequence.generator, min(_BLEND_CASES, max(_BLEND_SCORES // scorer.rows, _BLEND_BATCH))
        asked = asked.part(generator.permutation(len(asked))[:most])
        parts = []
        with torch.inference_mode():
            for begin in range(0, len(asked), _BLEND_BATCH):
                part = asked.part(np.arange(begin, min(begin + _BLEND_BATCH, len(asked))))
                states_BD = scorer.sequence.user_vectors(part.histories)
                parts.append((part, states_BD, scorer.features(part.histories, states_BD)))
            for part, states_BD, features in parts * _BLEND_PASSES:
                targets_B = np.where(part.targets_B < scorer.rows, part.targets_B, 0)
                scores_BI = features.scores(scorer.blend)
                self._blend.update(features, scores_BI, torch.from_numpy(targets_B).to(scores_BI.device))
                drawn = self._newcomers.ask(part.histories, targets_B, len(targets_B), generator)
                self._newcomers.learn(scorer.sequence, states_BD[drawn], scores_BI[drawn], targets_B[drawn], generator)
