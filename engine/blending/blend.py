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

        Returns how often each row without a past was expected to be the outcome, as a share of the outcomes, (I,).

        Args:
            features: What the scores were made of.
            scores_PI: Their blend.
            targets_P: Row of each outcome; 0 is an outcome that could not have been proposed and teaches nothing.
        """
        step = BlendStep(targets_P, features.popularity_I)
        step.add(features, scores_PI, targets_P)
        self.take(step)
        return step.expected_I

    def take(self, step: "BlendStep") -> None:
        """Moves the weights by a step to which all of its outcomes were added."""
        if not step.teaches:
            return
        self.squares_F += step.gradient_F.square()
        self.blend_F += self.learning_rate * step.gradient_F / (self.squares_F.sqrt() + _EPSILON)
        self.blend_F[0].clamp_(min=LEAST_MODEL)

    def state(self) -> dict[str, Tensor]:
        """All that the next update depends on."""
        return {"blend": self.blend_F.clone(), "squares": self.squares_F.clone()}

    def restore(self, state: dict[str, Tensor]) -> None:
        """Goes on from a state taken by `state`."""
        self.blend_F.copy_(state["blend"])
        self.squares_F.copy_(state["squares"])


class BlendStep:
    """One update's gradient, summed over parts of its outcomes, so that their scores need not be in memory at once.

    The likelihood is that of an outcome given that its item was an outcome before: to make first ones likely,
    popularity and neighbours, which know nothing of them, would have to weigh less, or less than nothing.

    Args:
        targets_P: Row of each outcome of all parts; 0 is none.
        popularity_I: The feature; 0 is a row without a past.
    """

    def __init__(self, targets_P: Tensor, popularity_I: Tensor) -> None:
        self._past_I = popularity_I > 0
        self._all_have = bool(self._past_I[1:].all())
        self._known, self._with_past = int((targets_P > 0).sum()), int(self._past_I[targets_P].sum())
        self.gradient_F = popularity_I.new_zeros(len(FIRST_BLEND))
        self.expected_I = torch.zeros_like(popularity_I)
        """How often each row without a past was expected to be the outcome, as a share of the outcomes."""

    @property
    def teaches(self) -> bool:
        """Whether any outcome is of a row with a past."""
        return self._with_past > 0

    def add(self, features: Features, scores_PI: Tensor, targets_P: Tensor) -> None:
        """Adds a part; P are its own outcomes."""
        if not self._known:
            return
        errors_PI = scores_PI.softmax(1)
        self.expected_I += ((targets_P > 0) / self._known) @ errors_PI * ~self._past_I
        if not self.teaches:
            return
        if not self._all_have:
            errors_PI *= self._past_I
            errors_PI /= errors_PI.sum(1, keepdim=True) + _EPSILON
        shares_P = self._past_I[targets_P] / self._with_past
        errors_PI.mul_(-shares_P[:, None])
        errors_PI[torch.arange(len(targets_P)), targets_P] += shares_P
        flat, errors_I = errors_PI.view(-1), errors_PI.sum(0)
        sparse = [torch.dot(flat[feature.index_N], feature.value_N) for feature in features.sparse]
        self.gradient_F += torch.stack(
            [torch.dot(flat, features.model_BI.view(-1)), torch.dot(errors_I, features.popularity_I), *sparse]
        )
