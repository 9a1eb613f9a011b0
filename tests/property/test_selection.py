"""The best by blocks are the best."""

import torch
from hypothesis import given
from hypothesis import strategies as st

from engine.blending.selection import best


@given(
    users=st.integers(1, 4), rows=st.integers(1, 700), k=st.integers(1, 12), seed=st.integers(0, 99), ties=st.booleans()
)
def test_they_are_what_sorting_everything_gives(users: int, rows: int, k: int, seed: int, ties: bool) -> None:  # noqa: FBT001 - drawn
    k = min(k, rows)
    scores_BI = torch.randn(users, rows, generator=torch.Generator().manual_seed(seed))
    if ties:
        scores_BI = scores_BI.round()
    scores_BI[:, 0] = -torch.inf
    values_BK, rows_BK = best(scores_BI, k)
    assert torch.equal(values_BK, scores_BI.sort(1, descending=True).values[:, :k])
    assert torch.equal(scores_BI.gather(1, rows_BK), values_BK)
    assert all(len(set(row)) == k for row in rows_BK.tolist())
