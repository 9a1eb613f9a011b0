"""A user's vector is the state after the last interaction, computed without the states of the others."""

import itertools

import numpy as np
import pytest
import torch

from engine.batch import HistoryBatch
from engine.network.model import ModelConfig, SequenceModel

ROWS = 100


def history(length: int, generator: np.random.Generator) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    times = np.sort(generator.integers(0, 10**6, length))
    return generator.integers(0, ROWS + 20, length), generator.integers(0, 5, length), times


@pytest.mark.parametrize(
    ("block", "heads", "blocks", "recency", "similarity", "adapter"),
    itertools.product(("ligr", "sasrec"), (1, 2), (1, 2), (True, False), ("dot", "cosine"), (0, 4)),
)
@torch.inference_mode()
def test_user_vectors_are_what_encode_says_of_the_last_interactions(
    block: str,
    heads: int,
    blocks: int,
    recency: bool,  # noqa: FBT001
    similarity: str,
    adapter: int,
) -> None:
    config = ModelConfig.preset(
        "tiny", block=block, heads=heads, blocks=blocks, recency=recency, similarity=similarity, adapter=adapter
    )
    drawn = torch.Generator().manual_seed(0)
    model = SequenceModel(config, ROWS, drawn).eval()
    for parameter in model.parameters():
        parameter.add_(torch.randn(parameter.shape, generator=drawn) * 0.2)
    generator = np.random.default_rng(0)
    batch = HistoryBatch.of(history(length, generator) for length in (50, 3, 0, 1, 70, 20, 64))
    newest = batch.last(config.length)
    rows_T = model.known(newest.rows_T)
    states_TD = model.encode(model.vectors(model.item_table[rows_T], rows_T), newest)
    ends_B = np.cumsum(newest.lengths_B) - 1
    expected_BD = states_TD[torch.from_numpy(ends_B)] * torch.from_numpy(newest.lengths_B > 0)[:, None]
    torch.testing.assert_close(model.user_vectors(batch), expected_BD, rtol=1e-4, atol=1e-4)
