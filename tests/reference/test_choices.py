"""The loss of a choice equals cross-entropy over the items that were shown, in value and in all gradients."""

import numpy as np
import torch
from torch.nn import functional

from engine.network.choices import Choices, choice_loss


def test_it_is_cross_entropy_among_the_shown_items_alone() -> None:
    torch.manual_seed(1)
    states, taken = torch.randn(2, 4, requires_grad=True), torch.randn(2, 4, requires_grad=True)
    passed = torch.randn(2, 3, 4, requires_grad=True)
    offsets = torch.zeros(2, 3)
    offsets[1, 1:] = -torch.inf  # the second list is shorter
    ours = choice_loss(states, (states * taken).sum(1), passed, offsets)
    lists = [torch.stack([taken[0], *passed[0]]) @ states[0], torch.stack([taken[1], passed[1, 0]]) @ states[1]]
    expected = torch.stack([functional.cross_entropy(scores[None], torch.tensor([0])) for scores in lists]).sum()
    torch.testing.assert_close(ours, expected)
    parts = [states, taken, passed]
    for grad, wanted in zip(torch.autograd.grad(ours, parts), torch.autograd.grad(expected, parts), strict=True):
        torch.testing.assert_close(grad, wanted)


def test_an_item_seldom_shown_counts_as_often_as_its_propensity_says_up_to_ten_times() -> None:
    weights = np.exp(Choices.of([(0, 1, [(2, None), (3, 1.0), (4, 0.25), (5, 0.001)])]).offsets_EN)
    np.testing.assert_allclose(weights, [[1, 1, 4, 10]], rtol=1e-6)
