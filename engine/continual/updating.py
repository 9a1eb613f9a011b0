"""One update of a trained model by a method: passes over the newest histories, with whatever holds it back.

Knows nothing of protocols. Legend: B histories, D width.
"""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import torch

from engine.batch import HistoryBatch, joined
from engine.continual.guards import Consolidation, Distillation, Guard, adapted
from engine.continual.herding import herd
from engine.continual.method import Method
from engine.continual.moving import attach, frozen, merge
from engine.network.blocks import Dropout
from engine.network.model import SequenceModel
from engine.network.training import Trainer

_ASKED = 512


def update(
    trainer: Trainer, method: Method, new: HistoryBatch, old: HistoryBatch, epochs: float, replay: float, size: int
) -> Trainer:
    """Passes over the new histories with old ones beside, the step falling to zero over all of them.

    Args:
        trainer: Of the last version; its model is changed in place.
        method: What moves and what holds it back.
        new: Pieces to learn.
        old: Pieces from which exemplars may be taken.
        epochs: Passes.
        replay: Exemplars a pass for each new piece.
        size: Pieces a step.

    Returns:
        A trainer that can go on from here.
    """
    model, generator = trainer.model, trainer.generator
    exemplars = _exemplars(model, method, old, generator)
    replayed = min(round(replay * len(new)), len(exemplars))
    steps = int(-(-(len(new) + replayed) // size) * epochs)
    old_items = int(np.unique(old.rows_T).size)
    guards: list[Guard] = []
    if method.ewc and trainer.dense_optimiser:
        guards.append(Consolidation.of(trainer.dense_optimiser, trainer.dense, method.ewc))
    if method.distillation:
        weight = adapted(method.distillation, old_items, model.rows - 1, replayed or len(new), len(new))
        seed = int(generator.integers(2**62))
        guards.append(Distillation(copied(model), weight, torch.Generator().manual_seed(seed)))
    allocate = attach(model, method.moving, method.rank, steps)
    moving = trainer
    if method.moving != "finetune":
        moving = Trainer(model, replace(trainer.config, freeze=frozen(model, method.moving)), generator)
        moving.counts_I = trainer.counts_I
    optimiser = replace(moving.config.optimiser, schedule="linear")
    moving.config = replace(moving.config, optimiser=optimiser)
    moving.steps, moving.total_steps, moving.slowdown = 0, steps, 1.0
    moving.guards = tuple(guards)
    moving.after_step = allocate
    usual = _set_dropout(model, method.dropout)
    _passes(moving, new, lambda: exemplars.select(generator.permutation(len(exemplars))[:replayed]), size)
    _set_dropout(model, usual)
    if method.moving in {"lora", "adalora"}:
        merge(model)
    moving.guards, moving.after_step = (), None
    return moving


def copied(model: SequenceModel) -> SequenceModel:
    """The same model apart, in evaluation mode."""
    copy = SequenceModel(model.config, model.rows).to(model.item_table.device)
    copy.load(
        {name: table.numpy(force=True) for name, table in model.tables().items()},
        {name: value.numpy(force=True) for name, value in model.dense().items()},
    )
    copy.text_vectors = model.text_vectors
    return copy.eval()


def _passes(trainer: Trainer, new: HistoryBatch, draw: Callable[[], HistoryBatch], size: int) -> None:
    while trainer.steps < trainer.total_steps:
        before = trainer.steps
        both = joined([new, draw()])
        order = trainer.generator.permutation(len(both))
        for begin in range(0, len(order), size):
            if trainer.steps < trainer.total_steps:
                trainer.step(both.select(order[begin : begin + size]))
        if trainer.steps == before:
            return


def _exemplars(model: SequenceModel, method: Method, old: HistoryBatch, generator: np.random.Generator) -> HistoryBatch:
    if method.exemplars == "replay":
        return old
    if method.exemplars == "reservoir":
        return old.select(np.sort(generator.permutation(len(old))[: method.capacity]))
    if method.exemplars == "herding" and len(old):
        ends_B = old.offsets_B + old.lengths_B - 1
        before = old.take(~np.isin(np.arange(len(old.rows_T)), ends_B))
        with torch.no_grad():
            parts = range(0, len(old), _ASKED)
            states = [model.user_vectors(before.select(np.arange(i, min(i + _ASKED, len(old))))) for i in parts]
        return old.select(herd(torch.cat(states).numpy(force=True), old.rows_T[ends_B], method.capacity))
    return old.select(np.empty(0, np.int64))


def _set_dropout(model: SequenceModel, share: float | None) -> float:
    layers = [layer for layer in model.modules() if isinstance(layer, Dropout)]
    usual = layers[0].dropped / 256
    for layer in layers:
        layer.dropped = layer.dropped if share is None else round(share * 256)
    return usual
