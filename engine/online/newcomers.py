"""What an item that nobody has touched is worth beside items with a past, so that a blend neither hides nor favours it.

No step of training compares with such a row, and it is nobody's neighbour: blended like the others, it would come after
everything that was ever taken together with anything. It is scored by the sequence model alone instead, plus its worth,
which is learned from outcomes in two parts.

- *What a past is worth.* Some rows are looked at as if they had none, with nothing left of them but their text. Under
  the worth that newcomers begin with such ghosts are the next item as often as they are expected to be.
- *What it has not lived up to.* A newcomer that was expected to be next E times and never was loses log(1 + E): so its
  rate falls with a prior of one taking in one expected (Gamma-Poisson).

Legend: P outcomes, A those asked about, I rows, U cold rows, G ghosts, D width.
"""

from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from engine.batch import HistoryBatch
from engine.network.growing import grown
from engine.network.model import SequenceModel

_ASKED: Final = 64
"""Outcomes of a batch that ghosts are put before."""
_GHOSTS: Final = 1 / 16
"""Share of the rows that are ghosts."""
_RATE: Final = 0.3
_STEP: Final = 0.1
"""A smaller change of a row is kept back, since every row that changes is published."""
_EPSILON: Final = 1e-8


class Newcomers:
    """What is added to the sequence model's score of each row that nobody has touched."""

    def __init__(self) -> None:
        self.begin = 0.0
        """For an item of which nothing was expected yet."""
        self._squares = 0.0
        self._expected_I = np.zeros(1)

    @staticmethod
    def ask(
        before: HistoryBatch, targets_P: NDArray[np.int64], most: int, generator: np.random.Generator
    ) -> NDArray[np.int64]:
        """Draws the outcomes that ghosts are put before, as places in P.

        Args:
            before: The history before each outcome; an item of it is no newcomer, so it is not asked about.
            targets_P: Row of each outcome; 0 is unknown.
            most: How many there may be, beside a limit of its own.
            generator: Draws them.
        """
        repeated_P = np.zeros(len(targets_P), np.bool_)
        repeated_P[before.users_T[before.rows_T == targets_P[before.users_T]]] = True
        return generator.permutation(np.flatnonzero((targets_P > 0) & ~repeated_P))[: min(_ASKED, most)]

    def learn(
        self,
        model: SequenceModel,
        states_AD: Tensor,
        scores_AI: Tensor,
        targets_A: NDArray[np.int64],
        generator: np.random.Generator,
    ) -> None:
        """Moves what newcomers begin with towards where ghosts are the outcome as often as expected, by Adagrad.

        Args:
            model: With the texts.
            states_AD: The model's state before each outcome that was drawn.
            scores_AI: What serves makes of each of them; changed in place.
            targets_A: Row of each of them.
            generator: Draws ghosts.
        """
        drawn_G = np.flatnonzero(~model.cold_I[: model.rows] & (generator.random(model.rows) < _GHOSTS))
        ghosts_G = drawn_G[model.text_vectors[torch.from_numpy(drawn_G)].any(1).numpy(force=True)]
        if not len(targets_A) or not len(ghosts_G):
            return
        places_G = torch.from_numpy(ghosts_G)
        none_GD = states_AD.new_zeros(len(ghosts_G), model.config.dim)
        scores_AI[:, places_G] = states_AD @ model.outputs(model.vectors(none_GD, places_G)).T + self.begin
        errors_AI = scores_AI.softmax(1).neg_()
        errors_AI[torch.arange(len(targets_A)), torch.from_numpy(targets_A)] += 1
        gradient = errors_AI[:, places_G].sum().item() / len(targets_A)
        self._squares += gradient * gradient
        self.begin += _RATE * gradient / (self._squares**0.5 + _EPSILON)

    def expect(self, rows_U: NDArray[np.int64], expected_U: NDArray[Any]) -> None:
        """Counts how often each of these rows was expected to be next, and was not."""
        self._expected_I = grown(self._expected_I, int(rows_U.max(initial=0)) + 1)
        self._expected_I[rows_U] += np.maximum(expected_U, 0)

    def settle(self, model: SequenceModel, rows_U: NDArray[np.int64], weight: float) -> NDArray[np.int64]:
        """Gives untouched rows the bias and the length of text under which a blend scores them as said above.

        Args:
            model: Changed in place.
            rows_U: Which rows; others are as they were.
            weight: What the blend multiplies the sequence model's score with, from `engine.blending.blend.LEAST_MODEL`
                upwards; less than one, because the neighbours of items with a past say much of the same.

        Returns:
            The rows that have changed.
        """
        self._expected_I = grown(self._expected_I, int(rows_U.max(initial=0)) + 1)
        worth_U = self.begin - np.log1p(self._expected_I[rows_U])
        rows = torch.from_numpy(rows_U)
        lengths_U = model.text_vectors[rows].float().norm(dim=1).numpy(force=True)
        off_U = np.abs(model.item_biases.data[rows].numpy(force=True) * weight - worth_U)
        far_U = (off_U > _STEP) | (np.abs(lengths_U * weight - 1) > _STEP)
        model.item_biases.data[rows[far_U]] = torch.from_numpy(worth_U[far_U] / weight).to(model.item_biases)
        model.stretch(rows_U[far_U], 1 / weight)
        changed_U: NDArray[np.int64] = rows_U[far_U]
        return changed_U

    def state(self) -> dict[str, Any]:
        """All that the next update depends on."""
        return {"begin": self.begin, "squares": self._squares, "expected": self._expected_I.copy()}

    def restore(self, state: dict[str, Any]) -> None:
        """Goes on from a state taken by `state`."""
        self.begin, self._squares, self._expected_I = state["begin"], state["squares"], state["expected"].copy()


def awaken(model: SequenceModel, rows_U: NDArray[np.int64]) -> None:
    """Lets rows be like all others from now on: somebody has touched them."""
    model.cold_I[rows_U], model.item_biases.data[rows_U] = False, 0.0
    model.stretch(rows_U, 1.0)
