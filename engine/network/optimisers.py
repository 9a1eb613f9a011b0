"""Optimisers: torch's own for the dense parameters, and the same rules on only the touched rows of a table.

Legend: U touched rows, D width, I rows.
"""

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Literal

import torch
from torch import Tensor

Change = Callable[[Tensor], Tensor]
OptimiserName = Literal["sgd", "momentum", "adagrad", "rmsprop", "adam", "adamw"]
Schedule = Literal["constant", "linear", "cosine", "inverse_sqrt"]

_MOMENTUM = 0.9
_SMOOTHING = 0.99
_BETAS = (0.9, 0.999)
_EPSILON = 1e-8


@dataclass(frozen=True)
class OptimiserConfig:
    """How parameters follow their gradients."""

    name: OptimiserName = "adamw"
    """For the dense parameters."""
    rows: OptimiserName = "adam"
    """For the tables. `adagrad` keeps one number a row (row-wise Adagrad), the least state there is."""
    learning_rate: float = 1e-3
    rows_learning_rate: float | None = None
    """The same as `learning_rate` where not given."""
    schedule: Schedule = "constant"
    warmup_steps: int = 0
    l2: float = 0.0
    """Weight decay: decoupled for AdamW, added to the gradient otherwise; rows decay only when touched."""
    clip: float = 0.0
    """Longest gradient of the dense parameters; 0 leaves it as it is."""


def rate(schedule: Schedule, warmup_steps: int, step: int, total_steps: int) -> float:
    """Factor on the learning rate at a step counted from 0.

    >>> [round(rate("linear", 2, step, 6), 2) for step in range(7)]
    [0.5, 1.0, 1.0, 0.75, 0.5, 0.25, 0.0]
    """
    if step < warmup_steps:
        return (step + 1) / warmup_steps
    done = min((step - warmup_steps) / max(total_steps - warmup_steps, 1), 1.0)
    if schedule == "linear":
        return 1 - done
    if schedule == "cosine":
        return 0.5 * (1 + math.cos(math.pi * done))
    if schedule == "inverse_sqrt":
        return math.sqrt(max(warmup_steps, 1) / max(step, warmup_steps, 1))
    return 1.0


def dense_optimiser(config: OptimiserConfig, parameters: Iterable[Tensor]) -> torch.optim.Optimizer:
    """Torch's optimiser of that name."""
    learning_rate, decay = config.learning_rate, config.l2
    parameters = list(parameters)
    match config.name:
        case "sgd":
            return torch.optim.SGD(parameters, learning_rate, weight_decay=decay)
        case "momentum":
            return torch.optim.SGD(parameters, learning_rate, _MOMENTUM, weight_decay=decay)
        case "adagrad":
            return torch.optim.Adagrad(parameters, learning_rate, weight_decay=decay, eps=_EPSILON)
        case "rmsprop":
            return torch.optim.RMSprop(parameters, learning_rate, _SMOOTHING, _EPSILON, decay)
        case "adam":
            return torch.optim.Adam(parameters, learning_rate, _BETAS, _EPSILON, decay)
        case "adamw":
            return torch.optim.AdamW(parameters, learning_rate, _BETAS, _EPSILON, decay)


@dataclass
class RowOptimiser:
    """One rule applied to the touched rows of one table.

    On rows that every step touches it equals torch's optimiser of that name (row-wise Adagrad excepted). A row's bias
    correction counts that row's own steps: an item first seen at step 100,000 moves as if it were step 1.
    """

    name: OptimiserName
    learning_rate: float
    l2: float = 0.0
    state: dict[str, Tensor] = field(default_factory=dict)
    """Running values by name, first axis I."""

    def update(self, table: Tensor, rows_U: Tensor, grad: Tensor, factor: float = 1.0) -> None:
        """Moves these rows of the table against their gradient, in place.

        Args:
            table: (I, D) or (I,).
            rows_U: Distinct rows.
            grad: Their gradient, (U, D) or (U,).
            factor: The schedule's factor on the learning rate.
        """
        values = table[rows_U]
        speed = self.learning_rate * factor
        if self.l2 and self.name == "adamw":
            values = values * (1 - speed * self.l2)
        elif self.l2:
            grad = grad + self.l2 * values
        table[rows_U] = values - speed * self._direction(table, rows_U, grad)

    def _direction(self, table: Tensor, rows_U: Tensor, grad: Tensor) -> Tensor:
        match self.name:
            case "sgd":
                return grad
            case "momentum":
                return self._keep("momentum", table, rows_U, lambda old: _MOMENTUM * old + grad)
            case "adagrad":
                squares_U = grad.square().reshape(len(grad), -1).mean(1)
                sums_U = self._keep(
                    "squares", table[:, 0] if table.dim() > 1 else table, rows_U, lambda old: old + squares_U
                )
                return grad / (sums_U.sqrt() + _EPSILON).view(-1, *[1] * (grad.dim() - 1))
            case "rmsprop":
                squares = self._keep(
                    "squares", table, rows_U, lambda old: _SMOOTHING * old + (1 - _SMOOTHING) * grad.square()
                )
                return grad / (squares.sqrt() + _EPSILON)
            case "adam" | "adamw":
                return self._adam(table, rows_U, grad)

    def _adam(self, table: Tensor, rows_U: Tensor, grad: Tensor) -> Tensor:
        first, second = _BETAS
        steps_U = self._keep("steps", table[:, 0] if table.dim() > 1 else table, rows_U, lambda old: old + 1)
        mean = self._keep("mean", table, rows_U, lambda old: torch.lerp(grad, old, first))
        squares = self._keep("squares", table, rows_U, lambda old: torch.lerp(grad.square(), old, second))
        shape = (-1, *[1] * (grad.dim() - 1))
        steps = steps_U.view(shape)
        return (mean / (1 - first**steps)) / ((squares / (1 - second**steps)).sqrt() + _EPSILON)

    def _keep(self, name: str, like: Tensor, rows_U: Tensor, change: Change) -> Tensor:
        old = self.state.get(name)
        if old is None or len(old) < len(like):
            grown = torch.zeros_like(like)
            if old is not None:
                grown[: len(old)] = old
            self.state[name] = old = grown
        new = change(old[rows_U])
        old[rows_U] = new
        return new
