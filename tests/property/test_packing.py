"""Packing loses nothing and mixes nothing: a history's state is the same alone, in any batch, in any order."""

from typing import Literal

import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.batch import HistoryBatch
from engine.evaluation.fitting import split
from engine.network.model import ModelConfig, SequenceModel
from engine.network.packing import pack

lengths = st.lists(st.integers(0, 70), min_size=1, max_size=30)
histories = st.lists(
    st.lists(st.tuples(st.integers(0, 25), st.integers(0, 20), st.integers(0, 10**6)), max_size=12),
    min_size=1,
    max_size=8,
)


@given(lengths)
def test_every_interaction_has_a_slot_of_its_own_and_no_history_is_torn(given_lengths: list[int]) -> None:
    lengths_B = np.array(given_lengths, np.int32)
    windows = pack(lengths_B)
    assert len(np.unique(windows.slots_T)) == lengths_B.sum()
    assert windows.slots_T.max(initial=0) < windows.count * windows.width
    ends = np.cumsum(lengths_B)
    for begin, end in zip(ends - lengths_B, ends, strict=True):
        assert len(set((windows.slots_T[begin:end] // windows.width).tolist())) <= 1


@settings(deadline=None)
@given(histories, st.sampled_from([("ligr", True), ("ligr", False), ("sasrec", True)]))
def test_a_history_scores_the_same_alone_as_in_a_batch(
    given_histories: list[list[tuple[int, int, int]]], form: tuple[Literal["ligr", "sasrec"], bool]
) -> None:
    config = ModelConfig(dim=8, length=6, block=form[0], recency=form[1])
    model = SequenceModel(config, 20, torch.Generator().manual_seed(0)).eval()
    model.distances.data.normal_()
    parts = [tuple(np.array(column) for column in zip(*h, strict=True)) if h else ([], [], []) for h in given_histories]
    with torch.no_grad():
        together = model.scores(HistoryBatch.of(parts))
        alone = torch.cat([model.scores(HistoryBatch.of([part])) for part in parts])
    torch.testing.assert_close(together, alone, rtol=1e-4, atol=1e-5)
    assert together[:, 1:].isfinite().all()


@given(st.lists(st.integers(0, 40), min_size=1, max_size=10), st.integers(2, 9))
def test_splitting_makes_each_interaction_but_the_first_a_target_once(given_lengths: list[int], length: int) -> None:
    lengths_B = np.array(given_lengths, np.int32)
    rows_T = np.arange(1, lengths_B.sum() + 1, dtype=np.int32)
    pieces = split(HistoryBatch.of_rows(rows_T, lengths_B), length)
    targets = pieces.rows_T[pieces.positions_T > 0].tolist()
    firsts = (np.cumsum(lengths_B) - lengths_B)[lengths_B > 0] + 1
    assert targets == sorted(set(rows_T.tolist()) - set(firsts.tolist()))
    assert pieces.lengths_B.max(initial=0) <= length


@settings(deadline=None)
@given(st.integers(1, 5), st.sampled_from(["ligr", "sasrec"]))
def test_no_state_has_seen_what_comes_later(kept: int, block: Literal["ligr", "sasrec"]) -> None:
    model = SequenceModel(ModelConfig(dim=8, blocks=2, block=block), 20, torch.Generator().manual_seed(0)).eval()
    both = HistoryBatch.of([([1, 2, 3, 4, 5, 6], [1] * 6, range(6)), ([7, 8], [1] * 2, range(2))])
    changed_T = both.rows_T.copy()
    changed_T[kept:6] = 19
    with torch.no_grad():
        before, after = (
            model.encode(model.item_table[torch.from_numpy(rows_T.astype(np.int64))], both)
            for rows_T in (both.rows_T, changed_T)
        )
    torch.testing.assert_close(before[:kept], after[:kept])
    torch.testing.assert_close(before[6:], after[6:])
