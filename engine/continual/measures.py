"""What an update gained on the newest period, lost on older ones, and cost.

Legend: B cases.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields

import numpy as np
import torch

from engine.evaluation.fitting import ranks
from engine.evaluation.protocols import Cases
from engine.metrics import recall
from engine.network.model import SequenceModel

_CASES = 1000


@dataclass(frozen=True)
class UpdateReport:
    """One update; accuracies are Recall@20 of the transformer alone."""

    period: str
    newest: float
    """On the period that comes after the update, of which it has learned nothing."""
    plasticity: float
    """How much of that the update brought: after minus before."""
    older: float
    """On cases of the periods that had been learned before the update: it is about what was known."""
    forgetting: float
    """How much the update took of that: before minus after."""
    seconds: float
    parameters_changed: int
    """Single numbers that differ, item rows included."""


class Measure:
    """Takes what is needed for a comparison before an update begins."""

    def __init__(
        self, model: SequenceModel, period: str, older: Sequence[Cases], newest: Cases, clock: Callable[[], float]
    ) -> None:
        self.period, self.older, self.newest = period, older, sampled(newest)
        self.before = _accuracies(model, older, self.newest)
        self.values = _values(model)
        self.begin = clock()


def measured(measure: Measure, model: SequenceModel, clock: Callable[[], float]) -> UpdateReport:
    """The report of an update that has just ended."""
    seconds = clock() - measure.begin
    newest, older = _accuracies(model, measure.older, measure.newest)
    after = _values(model)
    changed = sum(int((values != measure.values[name]).sum()) for name, values in _aligned(after, measure.values))
    return UpdateReport(
        period=measure.period,
        newest=newest,
        plasticity=newest - measure.before[0],
        older=older,
        forgetting=measure.before[1] - older,
        seconds=seconds,
        parameters_changed=changed,
    )


def summary(updates: Sequence[UpdateReport]) -> dict[str, float]:
    """Mean of each figure over the updates; nothing where there were none."""
    names = [each.name for each in fields(UpdateReport) if each.name != "period"]
    return {name: float(np.mean([getattr(each, name) for each in updates])) for name in names} if updates else {}


def sampled(asked: Cases) -> Cases:
    """An even sample of the cases, always the same one."""
    return asked.part(np.unique(np.linspace(0, len(asked) - 1, min(_CASES, len(asked))).astype(np.int64)))


def _accuracies(model: SequenceModel, older: Sequence[Cases], newest: Cases) -> tuple[float, float]:
    found = [_recall(model, each) for each in older]
    return _recall(model, newest), float(np.mean(found)) if found else float("nan")


def _recall(model: SequenceModel, asked: Cases) -> float:
    known = asked.part(np.flatnonzero(asked.targets_B < model.rows))
    hits = recall(ranks(model, known, filter_seen=False), 20).sum()
    return float(hits / max(len(asked), 1))


def _values(model: SequenceModel) -> dict[str, torch.Tensor]:
    return {name: value.clone() for name, value in (model.tables() | model.dense()).items()}


def _aligned(after: dict[str, torch.Tensor], before: dict[str, torch.Tensor]) -> list[tuple[str, torch.Tensor]]:
    """The values that were there before: rows added since count as unchanged."""
    return [(name, values[: len(before[name])]) for name, values in after.items() if name in before]
