"""What each feature of the blend weighs follows the outcomes, within bounds."""

import pytest
import torch

from engine.blending.blend import LEAST_MODEL, BlendLearner
from engine.blending.scoring import FEATURES, Features, Sparse

NOTHING = Sparse(index_N=torch.zeros(0, dtype=torch.int64), value_N=torch.zeros(0))


def test_a_sequence_model_that_is_always_wrong_keeps_the_voice_that_newcomers_depend_on() -> None:
    blend, right = BlendLearner(0.05), torch.tensor([1])
    features = Features(
        torch.tensor([[0.0, -1.0, 1.0]]),
        torch.tensor([0.0, 1.0, 0.1]),
        (NOTHING,) * (len(FEATURES) - 2),
        torch.tensor([]),
    )
    for _ in range(200):
        blend.update(features, features.scores(blend.blend_F), right)
    assert blend.blend_F[0] == torch.tensor(LEAST_MODEL)
    assert blend.blend_F[1] > 1


def test_the_first_outcome_of_an_item_says_nothing_of_what_popularity_weighs() -> None:
    blend, untouched = BlendLearner(0.05), torch.tensor([3])
    features = Features(
        torch.tensor([[0.0, 1.0, 0.0, 0.0]]),
        torch.tensor([0.0, 1.0, 2.0, 0.0]),
        (NOTHING,) * (len(FEATURES) - 2),
        torch.tensor([]),
    )
    before = blend.blend_F.clone()
    expected_I = blend.update(features, features.scores(blend.blend_F), untouched)
    assert torch.equal(blend.blend_F, before)
    chance = features.scores(before).softmax(1)[0, 3]
    assert torch.equal(expected_I, torch.tensor([0.0, 0.0, 0.0, chance]))


def test_rows_without_a_past_are_no_rivals_of_an_outcome_with_one() -> None:
    moved = []
    for untouched in (0, 50):
        blend, none = BlendLearner(0.05), torch.zeros(untouched)
        features = Features(
            torch.cat([torch.tensor([0.0, 1.0, 0.0]), none])[None],
            torch.cat([torch.tensor([0.0, 1.0, 2.0]), none]),
            (NOTHING,) * (len(FEATURES) - 2),
            torch.tensor([]),
        )
        blend.update(features, features.scores(blend.blend_F), torch.tensor([1]))
        moved.append(blend.squares_F.tolist())
    assert moved[0] == pytest.approx(moved[1])
