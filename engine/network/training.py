"""One training step: predict the next item at every position of a ragged batch, then move only what was touched.

Knows nothing of where histories come from. Legend: T interactions, S interactions with a successor, P targets among
those successors, C candidates, U distinct rows of the step, D width.
"""

from collections.abc import Callable, Mapping
from copy import deepcopy
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from engine.batch import HistoryBatch
from engine.network.blocks import Dropout
from engine.network.choices import NO_CHOICES, Choices, choice_loss
from engine.network.losses import Comparison, Loss, gbce_loss, softmax_loss
from engine.network.model import SequenceModel
from engine.network.negatives import Candidates, Negatives, draw
from engine.network.optimisers import OptimiserConfig, RowOptimiser, dense_optimiser, rate


@dataclass(frozen=True)
class TrainingConfig:
    """How a model is trained."""

    loss: Loss | None = None
    """The full softmax up to `full_softmax_rows`, else the sampled one, where not given."""
    full_softmax_rows: int = 20_000
    negatives: Negatives = field(default_factory=Negatives)
    optimiser: OptimiserConfig = field(default_factory=OptimiserConfig)
    choice_weight: float = 1.0
    """What a choice among shown items weighs against a next interaction; 0 does not learn from impressions."""
    freeze: tuple[str, ...] = ()
    """Names that stay as they are, by prefix: `item_`, `positions`, `blocks.0`, `blocks.1.attention`, …"""


@dataclass(frozen=True)
class Step:
    """What one step did."""

    loss: float
    """Of the next interactions: what was shown or not does not change its level."""
    targets: int
    rows_U: NDArray[np.int64]
    """Rows whose vectors or biases have moved."""


@dataclass(frozen=True)
class Compared:
    """What a step looked at, for terms that are added to its loss."""

    inputs: HistoryBatch
    """All interactions but the last of each history."""
    before_P: Tensor
    """Place in `inputs` of the interaction before each target."""
    states_PD: Tensor
    rows_C: Tensor
    """Candidates."""
    vectors_CD: Tensor
    biases_C: Tensor


@dataclass
class Trainer:
    """Trains one model, step by step; `state` and `restore` make it survive a restart."""

    model: SequenceModel
    config: TrainingConfig
    generator: np.random.Generator
    total_steps: int = 0
    """Steps the schedule is laid out for; 0 under a constant rate."""
    steps: int = 0
    slowdown: float = 1.0
    """Factor on both learning rates beside the schedule's."""
    counts_I: NDArray[np.float64] = field(default_factory=lambda: np.zeros(0))
    """How often each row was a target, for popular negatives and log q."""
    guards: tuple[Callable[[Compared], Tensor], ...] = ()
    """Terms that are added to the loss, against forgetting."""
    after_step: Callable[[int], None] | None = None
    """Called while a step's gradients are still there."""

    def __post_init__(self) -> None:
        optimiser = self.config.optimiser
        rows_rate = optimiser.rows_learning_rate or optimiser.learning_rate
        self.table_rows = RowOptimiser(optimiser.rows, rows_rate, optimiser.l2)
        self.bias_rows = RowOptimiser(optimiser.rows, rows_rate)
        for name, parameter in self.model.named_parameters():
            parameter.requires_grad_(not name.startswith(("item_", *self.config.freeze)))
        self.dense = [parameter for parameter in self.model.parameters() if parameter.requires_grad]
        self.dense_optimiser = dense_optimiser(optimiser, self.dense) if self.dense else None
        self.thin_out = torch.Generator(self.model.item_table.device)
        self.thin_out.manual_seed(int(self.generator.integers(2**62)))
        for layer in self.model.modules():
            if isinstance(layer, Dropout):
                layer.generator = self.thin_out

    def step(
        self, batch: HistoryBatch, weights_T: NDArray[np.float32] | None = None, choices: Choices = NO_CHOICES
    ) -> Step:
        """Learns from every interaction of the batch that has another before it in its history.

        Args:
            batch: Histories of at most `length + 1` interactions.
            weights_T: Weight of each interaction as a target; 0 leaves it as context only.
            choices: What the users of the batch took of what they were shown.
        """
        choices = choices.among(self.model.rows) if self.config.choice_weight else NO_CHOICES
        pairs = _next_item_pairs(batch, weights_T, choices.after_E, self.model.rows)
        if not len(pairs.targets_P) and not len(choices):
            return Step(0.0, 0, np.empty(0, np.int64))
        self._count(pairs.targets_P)
        for touched in (pairs.inputs.rows_T, pairs.targets_P, choices.taken_E):
            self.model.cold_I[touched] = False
        candidates = self._candidates(pairs.targets_P).without(self.model.cold_I)
        used = (candidates.rows_C, pairs.targets_P, pairs.inputs.rows_T, choices.taken_E, choices.passed_EN.ravel())
        rows_U, places = np.unique(np.concatenate(used), return_inverse=True)
        columns_C, targets_P, inputs_S, taken_E, passed_EN = np.split(
            places, np.cumsum([len(part) for part in used[:-1]])
        )
        passed_EN = passed_EN.reshape(choices.passed_EN.shape)
        own_P = np.searchsorted(candidates.rows_C, pairs.targets_P).clip(max=len(candidates.rows_C) - 1)
        own_P[candidates.rows_C[own_P] != pairs.targets_P] = -1

        model = self.model.train()
        rows = self._tensor(rows_U)
        leaf_UD = model.item_table.data[rows].requires_grad_()
        bias_U = model.item_biases.data[rows].requires_grad_(model.config.bias)
        vectors_UD = model.vectors(leaf_UD, rows)
        states_SD = model.encode(vectors_UD[self._tensor(inputs_S)], pairs.inputs)
        outputs_UD = model.outputs(vectors_UD)
        targets, columns = self._tensor(targets_P), self._tensor(columns_C)
        states_PD = states_SD[self._tensor(pairs.before_P)]
        compared = Comparison(
            states_PD=states_PD,
            positives_P=(states_PD * outputs_UD[targets]).sum(1) + bias_U[targets],
            vectors_CD=outputs_UD[columns],
            offsets_C=bias_U[columns] - self._tensor(candidates.log_q_C),
            own_P=self._tensor(own_P),
            weights_P=self._tensor(pairs.weights_P),
        )
        loss = self._loss(compared) if len(targets_P) else states_SD.new_zeros(())
        total = loss
        for guard in self.guards:
            before_P, rows_C = self._tensor(pairs.before_P), self._tensor(candidates.rows_C)
            total = total + guard(
                Compared(pairs.inputs, before_P, states_PD, rows_C, outputs_UD[columns], bias_U[columns])
            )
        if len(choices):
            states_ED, taken, passed = (
                states_SD[self._tensor(pairs.after_E)],
                self._tensor(taken_E),
                self._tensor(passed_EN),
            )
            offsets_EN = bias_U[passed] + self._tensor(choices.offsets_EN)
            total = total + self.config.choice_weight / max(pairs.weights_P.sum(), len(choices)) * choice_loss(
                states_ED,
                (states_ED * outputs_UD[taken]).sum(1) + bias_U[taken],
                outputs_UD[passed],
                offsets_EN.masked_fill(self._tensor(choices.passed_EN == 0), -torch.inf),
            )
        total.backward()  # type: ignore[no-untyped-call]  # torch's own
        self._move(rows, leaf_UD, bias_U)
        model.eval()
        return Step(loss.item(), len(targets_P), rows_U[rows_U > 0])

    def state(self) -> dict[str, Any]:
        """A copy of all that the next step depends on, beside the model."""
        return {
            "steps": self.steps,
            "slowdown": self.slowdown,
            "counts": torch.from_numpy(self.counts_I.copy()),
            "table_rows": _copied(self.table_rows.state),
            "bias_rows": _copied(self.bias_rows.state),
            "dense": deepcopy(self.dense_optimiser.state_dict()) if self.dense_optimiser else {},
            "generator": self.generator.bit_generator.state,
            "thin_out": self.thin_out.get_state(),
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Goes on from a state taken by `state`."""
        self.steps, self.slowdown = state["steps"], state["slowdown"]
        self.counts_I = state["counts"].numpy().copy()
        self.table_rows.state = _copied(state["table_rows"])
        self.bias_rows.state = _copied(state["bias_rows"])
        if self.dense_optimiser:
            self.dense_optimiser.load_state_dict(deepcopy(state["dense"]))  # it would keep the tensors
        self.generator.bit_generator.state = state["generator"]
        self.thin_out.set_state(state["thin_out"])

    def _loss(self, compared: Comparison) -> Tensor:
        if self.config.loss == "gbce":
            return gbce_loss(compared, self.model.rows - 1)
        return softmax_loss(compared)

    def _count(self, targets_P: NDArray[np.int64]) -> None:
        if len(self.counts_I) < self.model.rows:
            self.counts_I = np.append(self.counts_I, np.zeros(self.model.rows - len(self.counts_I)))
        self.counts_I += np.bincount(targets_P, minlength=self.model.rows)

    def _candidates(self, targets_P: NDArray[np.int64]) -> Candidates:
        loss = self.config.loss
        if loss == "softmax" or (loss is None and self.model.rows <= self.config.full_softmax_rows):
            rows_C = np.arange(1, self.model.rows if len(targets_P) else 1, dtype=np.int64)
            return Candidates(rows_C, np.zeros(len(rows_C), np.float32))
        candidates = draw(self.config.negatives, targets_P, self.counts_I, self.generator)
        if loss == "gbce":
            return Candidates(candidates.rows_C, np.zeros_like(candidates.log_q_C))
        return candidates

    def _move(self, rows: Tensor, leaf_UD: Tensor, bias_U: Tensor) -> None:
        optimiser = self.config.optimiser
        factor = self.slowdown * rate(optimiser.schedule, optimiser.warmup_steps, self.steps, self.total_steps)
        frozen = tuple(self.config.freeze)
        with torch.no_grad():
            if leaf_UD.grad is not None and not "item_table".startswith(frozen or ("-",)):
                leaf_UD.grad[rows == 0] = 0
                self.table_rows.update(self.model.item_table.data, rows, leaf_UD.grad, factor)
            if bias_U.grad is not None and not "item_biases".startswith(frozen or ("-",)):
                self.bias_rows.update(self.model.item_biases.data, rows, bias_U.grad, factor)
        if self.dense_optimiser:
            if optimiser.clip:
                torch.nn.utils.clip_grad_norm_(self.dense, optimiser.clip)
            for group in self.dense_optimiser.param_groups:
                group["lr"] = optimiser.learning_rate * factor
            self.dense_optimiser.step()
            if self.after_step:
                self.after_step(self.steps)
            self.dense_optimiser.zero_grad()
        self.steps += 1

    def _tensor(self, values: NDArray[Any]) -> Tensor:
        return torch.from_numpy(values).to(self.model.item_table.device)


def _copied(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name: value.clone() for name, value in state.items()}


@dataclass(frozen=True)
class _Pairs:
    inputs: HistoryBatch
    """All interactions that another or a choice comes after."""
    before_P: NDArray[np.int64]
    """Place in `inputs` of the interaction before each target."""
    targets_P: NDArray[np.int64]
    weights_P: NDArray[np.float32]
    after_E: NDArray[np.int64]
    """Place in `inputs` of the interaction before each choice."""


def _next_item_pairs(
    batch: HistoryBatch, weights_T: NDArray[np.float32] | None, after_E: NDArray[np.int64], rows: int
) -> _Pairs:
    rows_T = np.where((batch.rows_T > 0) & (batch.rows_T < rows), batch.rows_T, 0)
    followed_T = batch.positions_T < np.repeat(batch.lengths_B - 1, batch.lengths_B)
    needed_T = followed_T.copy()
    needed_T[after_E] = True
    place_T = np.cumsum(needed_T) - 1
    weights_T = np.ones(len(rows_T), np.float32) if weights_T is None else weights_T
    before_P = np.flatnonzero(followed_T)
    before_P = before_P[(rows_T[before_P + 1] > 0) & (weights_T[before_P + 1] > 0)]
    inputs = HistoryBatch(rows_T, batch.types_T, batch.times_T, batch.lengths_B).take(needed_T)
    targets_P, weights_P = rows_T[before_P + 1].astype(np.int64), weights_T[before_P + 1].astype(np.float32)
    return _Pairs(inputs, place_T[before_P], targets_P, weights_P, place_T[after_E])
