"""The sequence model as a ranker of offline folds: trained on the first, warm from one to the next.

Legend: B histories, I rows.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray

from engine.batch import HistoryBatch
from engine.fitting import Clock, FitConfig, Round, fit, split
from engine.model import ModelConfig, SequenceModel
from engine.optimisers import OptimiserConfig
from engine.protocols import Fold
from engine.training import Trainer, TrainingConfig


@dataclass(frozen=True)
class Update:
    """How a model that is already trained takes in the next period."""

    epochs: float = 4.0
    """Passes over the new histories."""
    replay: float = 1.0
    """Histories from before, drawn anew each pass, for each new one: against forgetting."""


@dataclass(frozen=True)
class Preset:
    """Everything about an offline run of the sequence model."""

    model: ModelConfig
    training: TrainingConfig
    fit: FitConfig
    update: Update = field(default_factory=Update)


_OPTIMISER: Final = OptimiserConfig(learning_rate=2e-3, rows="adam")
PRESETS: Final[Mapping[str, Preset]] = {
    "quick": Preset(
        ModelConfig.preset("small"), TrainingConfig(optimiser=_OPTIMISER), FitConfig(seconds=120, epochs=30, patience=2)
    ),
    "default": Preset(ModelConfig.preset("small"), TrainingConfig(optimiser=_OPTIMISER), FitConfig()),
}


class SequenceRanker:
    """Fits by early stopping where a fold has validation cases, else by a fixed number of passes over what is new."""

    def __init__(self, preset: Preset, seed: int, clock: Clock, device: str = "cpu") -> None:
        self.preset = preset
        self.clock = clock
        self.generator = np.random.default_rng(seed)
        self.device = device
        self.curve: list[Round] = []
        self._trainer: Trainer | None = None

    def fit(self, fold: Fold) -> None:
        """Trains on the fold: from scratch the first time, on what is new and a replay of the rest afterwards."""
        trainer = self._trainer = self._trainer or self._new_trainer(fold.rows)
        self.model.grow(fold.rows)
        if len(fold.validation):
            self.curve += fit(trainer, fold.train, fold.validation, self.preset.fit, self.clock)
        else:
            self._update(trainer, fold)
        self._items = self.model.item_vectors().detach()

    @property
    def model(self) -> SequenceModel:
        """The model under training."""
        assert self._trainer, "fit first"
        return self._trainer.model

    def scores(self, batch: HistoryBatch) -> NDArray[np.float32]:
        """Scores of all rows, (B, I)."""
        scores: NDArray[np.float32] = self.tensor_scores(batch).cpu().numpy()
        return scores

    def tensor_scores(self, batch: HistoryBatch) -> torch.Tensor:
        """The same, left where they were computed."""
        with torch.no_grad():
            return torch.addmm(self.model.item_bias, self.model.user_vectors(batch), self._items.T)

    def _new_trainer(self, rows: int) -> Trainer:
        initial = torch.Generator()
        initial.manual_seed(int(self.generator.integers(2**62)))
        model = SequenceModel(self.preset.model, rows, initial).to(self.device)
        return Trainer(model, self.preset.training, self.generator)

    def _update(self, trainer: Trainer, fold: Fold) -> None:
        """Passes over the newest histories with as many older ones, the step falling to zero over all of them."""
        length, size = self.model.config.length + 1, self.preset.fit.batch
        touched_B = np.add.reduceat(fold.new_T, fold.train.offsets_B).astype(bool)
        new = split(fold.train.select(np.flatnonzero(touched_B)), length)
        old = split(fold.train.select(np.flatnonzero(~touched_B)), length)
        replayed = min(round(self.preset.update.replay * len(new)), len(old))
        first = trainer.steps == 0
        epochs = self.preset.update.epochs * (2 if first else 1)
        trainer.config = replace(trainer.config, optimiser=replace(trainer.config.optimiser, schedule="linear"))
        trainer.total_steps = int(-(-(len(new) + replayed) // size) * epochs)
        trainer.steps = 0
        while trainer.steps < trainer.total_steps:
            drawn = self.generator.permutation(len(old))[:replayed]
            both = _joined(new, old.select(drawn))
            order = self.generator.permutation(len(both))
            for begin in range(0, len(order), size):
                if trainer.steps < trainer.total_steps:
                    trainer.step(both.select(order[begin : begin + size]))


def _joined(first: HistoryBatch, second: HistoryBatch) -> HistoryBatch:
    return HistoryBatch(
        np.concatenate([first.rows_T, second.rows_T]),
        np.concatenate([first.types_T, second.types_T]),
        np.concatenate([first.times_T, second.times_T]),
        np.concatenate([first.lengths_B, second.lengths_B]),
    )
