"""What is not learned from: outcomes that look made up, and steps that would spoil the weights.

Legend: T interactions, P accepted outcomes, I rows.
"""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from engine.batch import HistoryBatch
from engine.network.growing import grown


class SpoiledError(ValueError):
    """The weights are no longer to be trusted: go on from the last good state, without the batch that did it."""


@dataclass(frozen=True)
class GuardConfig:
    """Where suspicion begins."""

    same_in_a_row: int = 3
    """An item is no outcome when the user's last so many interactions were all with it."""
    item_share: float = 0.2
    """Share of the recent outcomes that one item may have; 10 / items in a small catalogue."""
    recent: int = 2000
    """Outcomes over which that share is taken."""
    loss_deviations: float = 8.0
    """A loss so many standard deviations above its mean, and one above it, is an explosion."""


class OutcomeGuard:
    """Takes out outcomes of a bot: one user on one item, or many users on one item."""

    def __init__(self, config: GuardConfig) -> None:
        self._config = config
        self._recent_I = np.zeros(1)

    def accept(self, batch: HistoryBatch, is_outcome_T: NDArray[np.bool_]) -> NDArray[np.bool_]:
        """Which outcomes may be learned."""
        accepted_T = is_outcome_T & ~_in_a_row(batch, self._config.same_in_a_row)
        rows_P = batch.rows_T[accepted_T]
        self._recent_I = grown(self._recent_I, int(rows_P.max(initial=0)) + 1)
        self._recent_I *= 0.5 ** (len(rows_P) / self._config.recent)
        np.add.at(self._recent_I, rows_P, 1.0)
        share = max(self._config.item_share, 10 / max(np.count_nonzero(self._recent_I), 1))
        # Half-lives: the faded counts of a steady stream add up to recent / ln 2.
        crowding_I = self._recent_I > share * self._config.recent / math.log(2)
        learned_T: NDArray[np.bool_] = accepted_T & ~crowding_I[np.minimum(batch.rows_T, len(crowding_I) - 1)]
        return learned_T

    def state(self) -> NDArray[np.float64]:
        """All that the next call depends on."""
        return self._recent_I.copy()

    def restore(self, state: NDArray[np.float64]) -> None:
        """Goes on from a state taken by `state`."""
        self._recent_I = state.copy()


class LossGuard:
    """Notices a loss that is not finite or explodes."""

    def __init__(self, config: GuardConfig) -> None:
        self._config = config
        self._steps = 0
        self._mean = 0.0
        self._variance = 0.0

    def check(self, loss: float) -> None:
        """Takes the loss of a step.

        Raises:
            SpoiledError: It is not finite, or far above what it was.
        """
        if not math.isfinite(loss):
            raise SpoiledError(f"the loss is {loss}")
        deviation = math.sqrt(self._variance)
        limit = self._mean + max(self._config.loss_deviations * deviation, 1.0)
        if self._steps >= 20 and loss > limit:  # noqa: PLR2004 - the first losses say little
            raise SpoiledError(f"the loss is {loss:.2f}, where {self._mean:.2f} was usual")
        self._steps += 1
        pace = max(1 / self._steps, 0.02)
        change = loss - self._mean
        self._mean += pace * change
        self._variance = (1 - pace) * (self._variance + pace * change**2)

    def state(self) -> dict[str, Any]:
        """All that the next call depends on."""
        return {"steps": self._steps, "mean": self._mean, "variance": self._variance}

    def restore(self, state: dict[str, Any]) -> None:
        """Goes on from a state taken by `state`."""
        self._steps, self._mean, self._variance = state["steps"], state["mean"], state["variance"]


def _in_a_row(batch: HistoryBatch, count: int) -> NDArray[np.bool_]:
    """Whether each interaction is with the item that all of the `count` before it were with.

    >>> batch = HistoryBatch.of_rows(np.array([7, 7, 7, 8, 7, 7, 7], np.int32), np.array([4, 3], np.int32))
    >>> _in_a_row(batch, 2).tolist()
    [False, False, True, False, False, False, True]
    """
    places = np.arange(len(batch.rows_T))
    same_T = batch.positions_T >= count
    for back in range(1, count + 1):
        same_T &= batch.rows_T[np.maximum(places - back, 0)] == batch.rows_T
    return same_T
