"""The sequence model as a ranker of offline folds: trained on the first, warm from one to the next.

Legend: B histories, I rows.
"""

from collections.abc import Mapping
from copy import deepcopy
from dataclasses import dataclass, field, replace
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray

from engine.batch import HistoryBatch
from engine.continual.measures import Measure, UpdateReport, measured, sampled
from engine.continual.method import Method
from engine.continual.updating import copied, update
from engine.evaluation.fitting import Clock, FitConfig, Round, fit, split
from engine.evaluation.protocols import Cases, Fold, cases
from engine.network.model import ModelConfig, SequenceModel
from engine.network.optimisers import OptimiserConfig
from engine.network.training import Trainer, TrainingConfig
from engine.online.config import OnlineConfig


@dataclass(frozen=True)
class Update:
    """How a model that is already trained takes in the next period."""

    epochs: float = 4.0
    """Passes over the new histories."""
    replay: float = 1.0
    """Histories from before, drawn anew each pass, for each new one: against forgetting."""
    method: Method = field(default_factory=Method)


@dataclass(frozen=True)
class Preset:
    """Everything about an offline run of the sequence model."""

    model: ModelConfig
    training: TrainingConfig
    fit: FitConfig
    update: Update = field(default_factory=Update)
    stream: OnlineConfig = field(default_factory=OnlineConfig)
    """Of the stream protocol, where everything is learned in one pass."""


_TRAINING: Final = TrainingConfig(full_softmax_rows=50_000, optimiser=OptimiserConfig(learning_rate=2e-3))
"""At rest every row may move at each step: the full softmax is ahead of the sampled one at equal CPU time."""
_MODEL: Final = ModelConfig.preset("small", similarity="cosine", temperature=0.07, dropout=0.4)
PRESETS: Final[Mapping[str, Preset]] = {
    "quick": Preset(_MODEL, _TRAINING, FitConfig(seconds=120, epochs=30, patience=2)),
    "default": Preset(_MODEL, _TRAINING, FitConfig()),
}


def with_method(preset: Preset, name: str) -> Preset:
    """The preset with a method of continual learning by name; bottlenecks are put into the model where it trains them.

    Raises:
        ValueError: The name means nothing.
    """
    method = Method.of(name)
    model = replace(preset.model, adapter=method.rank) if method.moving == "adapter" else preset.model
    return replace(preset, model=model, update=replace(preset.update, method=method))


def with_text(preset: Preset, width: int) -> Preset:
    """The preset with models that take text vectors of this width."""
    stream = replace(preset.stream, model=replace(preset.stream.model, text_dim=width))
    return replace(preset, model=replace(preset.model, text_dim=width), stream=stream)


class SequenceRanker:
    """Fits the first fold by early stopping, each later one by a fixed number of passes over what is new."""

    def __init__(
        self, preset: Preset, seed: int, clock: Clock, device: str = "cpu", texts_IF: NDArray[np.float16] | None = None
    ) -> None:
        self.preset = preset
        self.texts_IF = texts_IF
        self.clock = clock
        self.generator = np.random.default_rng(seed)
        self.device = device
        self.curve: list[Round] = []
        self.updates: list[UpdateReport] = []
        """What each update after the first fit gained, lost and cost."""
        self.unseeing: SequenceModel
        """The model before it learned validation cases that were held out of training: what to blend is asked of it."""
        self._older: tuple[Cases, ...] = ()
        """Of each period that the model has learned."""
        self._asked: Cases
        self._trainer: Trainer | None = None
        self._fitted: Fold | None = None

    def fit(self, fold: Fold) -> None:
        """Trains on the fold: until validation stops improving the first time, then on what is new and a replay."""
        if fold is self._fitted:
            return
        if self._trainer is None:
            held = with_validation(fold)
            self._trainer = self._new_trainer(fold.rows)
            self.curve = fit(self._trainer, held.train, held.validation, self.preset.fit, self.clock)
            self.unseeing = self.model
            if held is not fold:
                self._older = (sampled(held.validation),)
                self.unseeing = copied(self.model)
                self._trainer = self._finish(self._trainer, fold)
        else:
            measure = Measure(self.model, fold.name, self._older, fold.test, self.clock)
            self._describe(self.model, self.model.rows, fold.rows)
            self._trainer = self._update(self._trainer, fold)
            self.updates.append(measured(measure, self.model, self.clock))
            self._older = (*self._older, self._asked)  # the update was the first to learn them
        self._asked = sampled(fold.test)
        self._fitted, self._items = fold, self.model.item_vectors().detach()

    def branch(self, preset: Preset) -> "SequenceRanker":
        """Another ranker that goes on from here by another preset; what that one adds to the model begins as nothing.

        Any number of branches take in the same folds from the same first fit, which is the greater part of the time.
        """
        branch = SequenceRanker(preset, 0, self.clock, self.device, self.texts_IF)
        branch.generator = deepcopy(self.generator)
        branch._trainer = branch._new_trainer(self.model.rows)
        branch.model.load(
            {name: table.numpy(force=True) for name, table in self.model.tables().items()},
            {name: value.numpy(force=True) for name, value in self.model.dense().items()},
        )
        branch.model.cold_I = self.model.cold_I.copy()
        if self._trainer and preset.model == self.preset.model:
            branch._trainer.restore(self._trainer.state())
        branch._older, branch._asked = self._older, self._asked
        branch._fitted, branch._items = self._fitted, self._items
        return branch

    @property
    def model(self) -> SequenceModel:
        """The model under training."""
        assert self._trainer, "fit first"
        return self._trainer.model

    def scores(self, batch: HistoryBatch) -> torch.Tensor:
        """Scores of all rows, (B, I)."""
        with torch.no_grad():
            return torch.addmm(self.model.item_bias, self.model.user_vectors(batch), self._items.T)

    def _new_trainer(self, rows: int) -> Trainer:
        initial = torch.Generator()
        initial.manual_seed(int(self.generator.integers(2**62)))
        model = SequenceModel(self.preset.model, rows, initial).to(self.device)
        self._describe(model, 1, rows)
        return Trainer(model, self.preset.training, self.generator)

    def _describe(self, model: SequenceModel, begin: int, end: int) -> None:
        """Makes room for rows up to `end - 1` and gives those from `begin` on their texts: nobody has touched them."""
        model.grow(end)
        if self.texts_IF is not None:
            model.describe(np.arange(begin, end), self.texts_IF[begin:end])
            model.cold_I[begin:end] = self.texts_IF[begin:end].any(1)

    def _finish(self, trainer: Trainer, fold: Fold) -> Trainer:
        """Passes over everything once it is known when to stop: what was held out is a tenth of all there is."""
        pieces = split(fold.train, self.model.config.length + 1)
        steps = -(-len(pieces) // self.preset.fit.batch)
        epochs = min(self.preset.fit.finish, trainer.steps / steps / 5)
        none = pieces.select(np.empty(0, np.int64))
        return update(trainer, Method.of("finetune"), pieces, none, epochs, 0.0, self.preset.fit.batch)

    def _update(self, trainer: Trainer, fold: Fold) -> Trainer:
        """Takes in the newest histories by the preset's method."""
        length, wanted = self.model.config.length + 1, self.preset.update
        touched_B = np.add.reduceat(fold.new_T, fold.train.offsets_B).astype(bool)
        new = split(fold.train.select(np.flatnonzero(touched_B)), length)
        old = split(fold.train.select(np.flatnonzero(~touched_B)), length)
        return update(trainer, wanted.method, new, old, wanted.epochs, wanted.replay, self.preset.fit.batch)


def with_validation(fold: Fold) -> Fold:
    """The fold itself if it has validation cases, else with every tenth history moved from training to validation.

    Items that only those histories have are not asked: no model can know them, and to expect them flattens its scores
    (DIGINETICA: 15 % of the cases; asking them cost the blend .5 of MRR@20).
    """
    if len(fold.validation):
        return fold
    held_T = held_out_T(fold)
    known_I = np.zeros(fold.rows, bool)
    known_I[fold.train.rows_T[~held_T]] = True
    asked = fold.train.take(held_T & known_I[fold.train.rows_T])
    return replace(
        fold,
        train=fold.train.take(~held_T),
        new_T=fold.new_T[~held_T],
        order_T=fold.order_T[~held_T],
        validation=cases(asked, np.ones(len(asked.rows_T), bool)),
    )


def held_out_T(fold: Fold) -> NDArray[np.bool_]:
    """Which interactions of `train` belong to a history that is held out where a fold has no validation cases."""
    return np.repeat(np.arange(len(fold.train)) % 10 == 0, fold.train.lengths_B)
