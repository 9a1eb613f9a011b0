"""What holds an update back: terms added to the loss of each step.

Legend: P targets, C candidates, D width; Q and K are samples of P and C.
"""

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from engine.network.model import SequenceModel
from engine.network.training import Compared

_TARGETS, _CANDIDATES = 256, 1024


@dataclass(frozen=True)
class Distillation:
    """Divergence of the model's distribution from the last version's, over candidates that both know (ADER, eq. 6)."""

    teacher: SequenceModel
    """The last version, in evaluation mode."""
    weight: float
    generator: torch.Generator

    def __call__(self, step: Compared) -> Tensor:
        """Kullback-Leibler divergence, mean over a sample of the step's targets, times the weight."""
        known_C = (step.rows_C < self.teacher.rows).nonzero().flatten()
        chosen_K = known_C[_sample(len(known_C), _CANDIDATES, self.generator)]
        chosen_Q = _sample(len(step.before_P), _TARGETS, self.generator)
        before_Q, rows_K = step.before_P[chosen_Q], step.rows_C[chosen_K]
        with torch.no_grad():
            rows_S = self.teacher.known(step.inputs.rows_T)
            inputs_SD = self.teacher.vectors(self.teacher.item_table[rows_S], rows_S)
            states_QD = self.teacher.encode(inputs_SD, step.inputs)[before_Q]
            items_KD = self.teacher.outputs(self.teacher.vectors(self.teacher.item_table[rows_K], rows_K))
            wanted_QK = torch.addmm(self.teacher.item_biases[rows_K], states_QD, items_KD.T).log_softmax(1)
        scores_QK = torch.addmm(step.biases_C[chosen_K], step.states_PD[chosen_Q], step.vectors_CD[chosen_K].T)
        divergence = functional.kl_div(scores_QK.log_softmax(1), wanted_QK, reduction="batchmean", log_target=True)
        return self.weight * divergence


def adapted(weight: float, old_items: int, items: int, replayed: int, new: int) -> float:
    """ADER's weight of distillation (section 3.4): more where more is old, in items and in histories.

    >>> adapted(0.8, old_items=90, items=100, replayed=100, new=250)
    0.48
    """
    return round(weight * math.sqrt(old_items / max(items, 1) * replayed / max(new, 1)), 9)


@dataclass(frozen=True)
class Consolidation:
    """EWC (Kirkpatrick et al. 2017, eq. 3): each dense parameter is pulled back to its old value by its importance."""

    anchors: tuple[tuple[nn.Parameter, Tensor, Tensor], ...]
    """Parameter, old value, importance."""
    weight: float

    @classmethod
    def of(cls, optimiser: torch.optim.Optimizer, parameters: Iterable[nn.Parameter], weight: float) -> "Consolidation":
        """Importance is Adam's running mean of squared gradients: the diagonal of Fisher's information for nothing.

        It is scaled to mean 1 over all parameters, so that a weight means the same for any loss.
        """
        held = [(each, optimiser.state[each]["exp_avg_sq"]) for each in parameters if each in optimiser.state]
        mean = torch.cat([squares.flatten() for _, squares in held]).mean().clamp_min(1e-30) if held else 1.0
        return cls(tuple((each, each.detach().clone(), squares / mean) for each, squares in held), weight)

    def __call__(self, step: Compared) -> Tensor:
        """Half the weighted sum of squared distances."""
        pulls = [(importance * (now - old).square()).sum() for now, old, importance in self.anchors]
        return 0.5 * self.weight * sum(pulls, step.states_PD.new_zeros(()))


Guard = Callable[[Compared], Tensor]


def _sample(count: int, most: int, generator: torch.Generator) -> Tensor:
    return torch.randperm(count, generator=generator)[:most]
