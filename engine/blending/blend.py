"""The blend's weights, learned online: one softmax regression over all rows, moved after each scored batch.

Legend: P outcomes, I rows, F features.
"""

from typing import Final

import torch
from torch import Tensor

from engine.blending.scoring import FIRST_BLEND, Features

LEAST_MODEL: Final = 0.05
"""The sequence model's weight at least, however much neighbours say: what nobody has touched is scored by it alone."""

_EPSILON: Final = 1e-8


class BlendLearner:
    """Gradient ascent on the log likelihood of the outcomes, with Adagrad's step sizes (Duchi et al. 2011)."""

    def __init__(self, learning_rate: float = 0.05) -> None:
        self.learning_rate = learning_rate
        self.blend_F = torch.tensor(FIRST_BLEND)
        """Changed in place: a scorer may hold it."""
        self.squares_F = torch.zeros(len(FIRST_BLEND))

    def update(self, features: Features, scores_PI: Tensor, targets_P: Tensor) -> Tensor:
        """Moves the weights towards what would have ranked the outcomes higher, among the rows that have a past.

        The likelihood is that of an outcome given that its item was an outcome before: to make first ones likely,
        popularity and neighbours, which know nothing of them, would have to weigh less, or less than nothing.

        Returns how often each row without a past was expected to be the outcome, as a share of the outcomes, (I,).

        Args:
            features: What the scores were made of.
            scores_PI: Their blend.
            targets_P: Row of each outcome; 0 is an outcome that could not have been proposed and teaches nothing.
        """
        known_P, past_I = targets_P > 0, features.popularity_I > 0
        if not known_P.any():
            return torch.zeros_like(features.popularity_I)
        errors_PI = scores_PI.softmax(1)
        expected_I = (known_P / known_P.sum()) @ errors_PI * ~past_I
        past_P = past_I[targets_P]
        if not past_P.any():
            return expected_I
        if not past_I[1:].all():
            errors_PI *= past_I
            errors_PI /= errors_PI.sum(1, keepdim=True) + _EPSILON
        shares_P = past_P / past_P.sum()
        errors_PI.mul_(-shares_P[:, None])
        errors_PI[torch.arange(len(targets_P)), targets_P] += shares_P
        flat, errors_I = errors_PI.view(-1), errors_PI.sum(0)
        sparse = [torch.dot(flat[feature.index_N], feature.value_N) for feature in features.sparse]
        gradient_F = torch.stack(
            [torch.dot(flat, features.model_BI.view(-1)), torch.dot(errors_I, features.popularity_I), *sparse]
        )
        self.squares_F += gradient_F.square()
        self.blend_F += self.learning_rate * gradient_F / (self.squares_F.sqrt() + _EPSILON)
        self.blend_F[0].clamp_(min=LEAST_MODEL)
        return expected_I

    def state(self) -> dict[str, Tensor]:
        """All that the next update depends on."""
        return {"blend": self.blend_F.clone(), "squares": self.squares_F.clone()}

    def restore(self, state: dict[str, Tensor]) -> None:
        """Goes on from a state taken by `state`."""
        self.blend_F.copy_(state["blend"])
        self.squares_F.copy_(state["squares"])
