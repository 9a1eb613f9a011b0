"""What users took of what they were shown, and what they passed over: negatives that no sampling drew.

Knows nothing of impressions or of how they were joined. Legend: T interactions, E choices, N items passed over at most,
D width.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

_CLIP: Final = 10.0
"""An item counts at most this often, however seldom it is shown: one rare item must not outweigh a list."""


@dataclass(frozen=True)
class Choices:
    """Choices among shown items, made by users of a HistoryBatch."""

    after_E: NDArray[np.int64]
    """Place in T of the newest interaction before the choice."""
    taken_E: NDArray[np.int64]
    """Row of the item that was taken."""
    passed_EN: NDArray[np.int64]
    """Rows that were passed over; 0 fills up."""
    offsets_EN: NDArray[np.float32]
    """Log of how much each of them counts."""

    def __len__(self) -> int:
        return len(self.after_E)

    @classmethod
    def of(cls, choices: Sequence[tuple[int, int, Sequence[tuple[int, float | None]]]]) -> "Choices":
        """Choices as (place, row taken, (row passed over, its propensity or None) …).

        An item passed over with a known propensity p counts 1 / p times, at most 10: the sum over what was shown then
        estimates the one over all that could have been shown there (Horvitz & Thompson 1952), as -log q does for
        candidates that were drawn.

        >>> choices = Choices.of([(4, 7, [(8, None), (9, 0.5)]), (6, 7, [])])
        >>> choices.passed_EN.tolist(), np.exp(choices.offsets_EN).tolist()
        ([[8, 9], [0, 0]], [[1.0, 2.0], [1.0, 1.0]])
        """
        width = max((len(passed) for _, _, passed in choices), default=0)
        passed_EN, offsets_EN = np.zeros((len(choices), width), np.int64), np.zeros((len(choices), width), np.float32)
        for number, (_, _, passed) in enumerate(choices):
            for place, (row, propensity) in enumerate(passed):
                passed_EN[number, place] = row
                offsets_EN[number, place] = np.log(min(1 / propensity, _CLIP)) if propensity else 0.0
        return cls(
            np.array([place for place, _, _ in choices], np.int64),
            np.array([taken for _, taken, _ in choices], np.int64),
            passed_EN,
            offsets_EN,
        )

    def keep(self, kept_E: NDArray[np.bool_]) -> "Choices":
        """Only the marked choices."""
        return Choices(self.after_E[kept_E], self.taken_E[kept_E], self.passed_EN[kept_E], self.offsets_EN[kept_E])

    def among(self, rows: int) -> "Choices":
        """Only items with a row below `rows`; what is no choice then is left out.

        >>> Choices.of([(0, 7, [(8, None), (9, None)]), (1, 9, [(8, None)])]).among(9).passed_EN.tolist()
        [[8, 0]]
        """
        passed_EN = np.where(self.passed_EN < rows, self.passed_EN, 0)
        known = Choices(self.after_E, self.taken_E, passed_EN, self.offsets_EN)
        return known.keep((self.taken_E > 0) & (self.taken_E < rows) & (passed_EN > 0).any(1))

    def take(self, kept_T: NDArray[np.bool_]) -> "Choices":
        """The choices of a batch of which only the marked interactions are kept; others go with their interaction.

        >>> choices = Choices.of([(0, 7, []), (2, 8, [])]).take(np.array([False, True, True]))
        >>> choices.after_E.tolist(), choices.taken_E.tolist()
        ([1], [8])
        """
        kept = self.keep(kept_T[self.after_E])
        return Choices(np.cumsum(kept_T)[kept.after_E] - 1, kept.taken_E, kept.passed_EN, kept.offsets_EN)


NO_CHOICES: Final = Choices.of([])


def choice_loss(states_ED: Tensor, taken_E: Tensor, passed_END: Tensor, offsets_EN: Tensor) -> Tensor:
    """Minus log likelihood of each choice among what was shown (McFadden 1974), summed.

    The items of an impression are the whole choice there was, not a sample of the catalogue: unlike a sampled softmax
    it needs no -log q.

    Args:
        states_ED: State before each choice.
        taken_E: Score of the item taken.
        passed_END: Vectors of the items passed over.
        offsets_EN: Added to their scores: bias and log weight, minus infinity where there is none.
    """
    scores_EN = torch.einsum("ed,end->en", states_ED, passed_END) + offsets_EN
    shown = torch.cat([taken_E[:, None], scores_EN], 1)
    return (shown.logsumexp(1) - taken_E).sum()
