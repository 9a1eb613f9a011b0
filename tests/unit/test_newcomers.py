"""An item that nobody has touched is worth what a past is worth, less for each time that it was expected in vain."""

import math

import numpy as np
import pytest
import torch

from engine.batch import HistoryBatch
from engine.network.model import ModelConfig, SequenceModel
from engine.online.newcomers import Newcomers, awaken

ROWS = 65


@pytest.fixture
def model() -> SequenceModel:
    """All rows have a text of length one; 3 and 4 are untouched."""
    model = SequenceModel(ModelConfig(dim=8, text_dim=4), ROWS, torch.Generator().manual_seed(0)).eval()
    model.describe(np.arange(1, ROWS), np.tile(np.float16([0, 0, 1, 0]), (ROWS - 1, 1)))
    model.cold_I[[3, 4]] = True
    return model


def length(model: SequenceModel, row: int) -> float:
    return float(model.text_vectors[row].float().norm())


def test_each_row_loses_the_log_of_one_plus_what_was_expected_of_it(model: SequenceModel) -> None:
    newcomers = Newcomers()
    newcomers.begin = 2.0
    newcomers.expect(np.array([3, 4]), np.array([math.e - 1, -0.5]))  # taken oftener than expected: nothing lost
    assert newcomers.settle(model, np.array([3, 4]), 0.5).tolist() == [3, 4]
    assert model.item_biases[[3, 4]].tolist() == pytest.approx([(2 - 1) / 0.5, 2 / 0.5])
    assert length(model, 3) == pytest.approx(2, abs=2e-3)  # so that half of its score is the whole of the model's


def test_what_has_hardly_changed_is_not_published_again(model: SequenceModel) -> None:
    newcomers, rows = Newcomers(), np.array([3, 4])
    newcomers.settle(model, rows, 0.5)
    newcomers.expect(rows, np.array([0.05, 0.5]))
    assert newcomers.settle(model, rows, 0.51).tolist() == [4]


def test_who_was_touched_is_like_all_others(model: SequenceModel) -> None:
    newcomers = Newcomers()
    newcomers.begin = 2.0
    newcomers.settle(model, np.array([3, 4]), 0.5)
    awaken(model, np.array([3]))
    assert (model.item_biases[3].item(), bool(model.cold_I[3]), bool(model.cold_I[4])) == (0, False, True)
    assert length(model, 3) == pytest.approx(1, abs=2e-3)


@pytest.mark.parametrize(("past", "held", "moved"), [(3.0, 0, 1), (-3.0, 0, -1), (3.0, 1, 0)])
def test_newcomers_begin_with_what_others_have_by_their_past(
    model: SequenceModel, past: float, held: int, moved: int
) -> None:
    """What serves gives everything `past`: without it ghosts are taken too seldom or too often; held ones are none."""
    newcomers, generator = Newcomers(), np.random.default_rng(0)
    targets = generator.integers(5, ROWS, 200)
    before = HistoryBatch.of_rows(targets[: 200 * held].astype(np.int32), np.full(200, held, np.int32))
    for _ in range(20):
        drawn = newcomers.ask(before, targets, 200, generator)
        scores = torch.full((len(drawn), ROWS), past)
        newcomers.learn(model, torch.zeros(len(drawn), 8), scores, targets[drawn], generator)
    assert np.sign(newcomers.begin) == moved
    assert abs(newcomers.begin) <= 3.5
