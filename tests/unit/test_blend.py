"""What each feature of the blend weighs follows the outcomes, within bounds."""

import torch

from engine.blending.blend import LEAST_MODEL, BlendLearner
from engine.blending.scoring import FEATURES, Features, Sparse

NOTHING = Sparse(index_N=torch.zeros(0, dtype=torch.int64), value_N=torch.zeros(0))


def test_a_sequence_model_that_is_always_wrong_keeps_the_voice_that_newcomers_depend_on() -> None:
    blend, right = BlendLearner(0.05), torch.tensor([1])
    features = Features(
        torch.tensor([[0.0, -1.0, 1.0]]),
        torch.tensor([0.0, 1.0, 0.0]),
        (NOTHING,) * (len(FEATURES) - 2),
        torch.tensor([]),
    )
    for _ in range(200):
        blend.update(features, features.scores(blend.blend_F), right)
    assert blend.blend_F[0] == torch.tensor(LEAST_MODEL)
    assert blend.blend_F[1] > 1
