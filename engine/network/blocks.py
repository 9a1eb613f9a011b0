"""Transformer blocks over packed windows: causal attention within a history, then a feed-forward layer.

Legend: N positions of all windows (R x W), R windows, W width, H heads, D width of the state, d width of a head, F
hidden width, B positions whose states alone are wanted.
"""

from collections.abc import Callable
from typing import Final, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

Activation = Literal["relu", "gelu", "silu", "swiglu"]

_ACTIVATIONS: Final[dict[str, Callable[[Tensor], Tensor]]] = {
    "relu": functional.relu,
    "gelu": functional.gelu,
    "silu": functional.silu,
    "swiglu": functional.silu,
}


class Dropout(nn.Module):
    """Zeroes a share of the values and scales up the rest, drawing from its own generator.

    One random byte a value: torch's own dropout costs 7 ns a value on a CPU, this one 1 ns. The share is rounded to
    1/256 and the scale follows the rounded share, so the mean is kept exactly.
    """

    def __init__(self, share: float) -> None:
        super().__init__()
        self.dropped = round(share * 256)
        self.generator: torch.Generator | None = None

    def forward(self, values: Tensor) -> Tensor:
        """The values, thinned out in training and untouched otherwise."""
        if not self.training or not self.dropped:
            return values
        size = values.numel()
        words = torch.empty((size + 7) // 8, dtype=torch.int64, device=values.device)
        words.random_(-(2**63), None, generator=self.generator)
        kept = words.view(torch.uint8)[:size].view(values.shape) >= self.dropped
        return values * (kept * (256 / (256 - self.dropped)))


class Attention(nn.Module):
    """Multi-head attention; the mask decides who sees whom."""

    def __init__(self, dim: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.heads = heads
        self.query = nn.Linear(dim, dim)
        self.key = nn.Linear(dim, dim)
        self.value = nn.Linear(dim, dim)
        self.out = nn.Linear(dim, dim)
        self.dropout = Dropout(dropout)

    def forward(self, query_ND: Tensor, keys_ND: Tensor, mask_RHWW: Tensor) -> Tensor:
        """Weighted sums of the projected keys each position may see, (N, D)."""
        windows, width = mask_RHWW.shape[0], mask_RHWW.shape[-1]
        dim = query_ND.shape[1]
        shape = (windows, width, self.heads, dim // self.heads)
        query_RHWd = self.query(query_ND).view(shape).transpose(1, 2)
        keys_RHWd = self.key(keys_ND).view(shape).transpose(1, 2)
        values_RHWd = self.value(keys_ND).view(shape).transpose(1, 2)
        scores = query_RHWd @ keys_RHWd.transpose(2, 3) * (dim // self.heads) ** -0.5 + mask_RHWW
        weights = self.dropout(scores.softmax(dim=-1))
        mixed: Tensor = self.out((weights @ values_RHWd).transpose(1, 2).reshape(-1, dim))
        return mixed

    def last(self, query_BD: Tensor, keys_BWD: Tensor, mask_BHW: Tensor) -> Tensor:
        """The same for single positions, each over the keys of its own window, (B, D)."""
        count, dim = query_BD.shape
        shape = (count, -1, self.heads, dim // self.heads)
        query_BH1d = self.query(query_BD).view(shape).transpose(1, 2)
        keys_BHWd = self.key(keys_BWD).view(shape).transpose(1, 2)
        values_BHWd = self.value(keys_BWD).view(shape).transpose(1, 2)
        scores = query_BH1d @ keys_BHWd.transpose(2, 3) * (dim // self.heads) ** -0.5 + mask_BHW[:, :, None]
        weights = self.dropout(scores.softmax(dim=-1))
        mixed: Tensor = self.out((weights @ values_BHWd).reshape(count, dim))
        return mixed


class FeedForward(nn.Module):
    """Two layers with an activation between; `swiglu` multiplies a second projection in (Shazeer 2020, equation 6)."""

    def __init__(self, dim: int, hidden: int, activation: Activation, dropout: float) -> None:
        super().__init__()
        self.activation = activation
        self.gate = nn.Linear(dim, hidden)
        self.up = nn.Linear(dim, hidden) if activation == "swiglu" else None
        self.down = nn.Linear(hidden, dim)
        self.dropout = Dropout(dropout)

    def forward(self, states_ND: Tensor) -> Tensor:
        """Each position transformed on its own, (N, D)."""
        hidden_NF = _ACTIVATIONS[self.activation](self.gate(states_ND))
        if self.up is not None:
            hidden_NF = hidden_NF * self.up(states_ND)
        result: Tensor = self.down(self.dropout(hidden_NF))
        return result


class LigrBlock(nn.Module):
    """Pre-norm block whose two residuals pass a learned gate of the state (LiGR, Borisyuk et al. 2025)."""

    def __init__(self, dim: int, heads: int, hidden: int, activation: Activation, dropout: float) -> None:
        super().__init__()
        self.norms = nn.ModuleList(nn.LayerNorm(dim) for _ in range(2))
        self.gates = nn.ModuleList(nn.Linear(dim, dim) for _ in range(2))
        self.attention = Attention(dim, heads, dropout)
        self.feed_forward = FeedForward(dim, hidden, activation, dropout)
        self.dropout = Dropout(dropout)

    def forward(self, states_ND: Tensor, mask_RHWW: Tensor) -> Tensor:
        """The states after attention and feed-forward, (N, D)."""
        normed_ND = self.norms[0](states_ND)
        return self._passed(states_ND, self.attention(normed_ND, normed_ND, mask_RHWW))

    def last(self, states_ND: Tensor, ends_B: Tensor, mask_BHW: Tensor) -> Tensor:
        """The same of these positions alone, (B, D); the mask says what of its window each of them sees."""
        width = mask_BHW.shape[-1]
        normed_ND = self.norms[0](states_ND)
        keys_BWD = normed_ND.view(-1, width, normed_ND.shape[1])[ends_B // width]
        return self._passed(states_ND[ends_B], self.attention.last(normed_ND[ends_B], keys_BWD, mask_BHW))

    def _passed(self, states_ND: Tensor, mixed_ND: Tensor) -> Tensor:
        states_ND = states_ND + self.dropout(mixed_ND * self.gates[0](states_ND).sigmoid())
        changed_ND = self.feed_forward(self.norms[1](states_ND))
        changed: Tensor = states_ND + self.dropout(changed_ND * self.gates[1](states_ND).sigmoid())
        return changed


class SasrecBlock(nn.Module):
    """The block of SASRec (Kang & McAuley 2018): normed queries over raw keys, residual from the normed state."""

    def __init__(self, dim: int, heads: int, hidden: int, activation: Activation, dropout: float) -> None:
        super().__init__()
        self.norms = nn.ModuleList(nn.LayerNorm(dim) for _ in range(2))
        self.attention = Attention(dim, heads, dropout)
        self.feed_forward = FeedForward(dim, hidden, activation, dropout)
        self.dropout = Dropout(dropout)

    def forward(self, states_ND: Tensor, mask_RHWW: Tensor) -> Tensor:
        """The states after attention and feed-forward, (N, D)."""
        query_ND = self.norms[0](states_ND)
        return self._passed(query_ND, self.attention(query_ND, states_ND, mask_RHWW))

    def last(self, states_ND: Tensor, ends_B: Tensor, mask_BHW: Tensor) -> Tensor:
        """The same of these positions alone, (B, D); the mask says what of its window each of them sees."""
        width = mask_BHW.shape[-1]
        query_BD = self.norms[0](states_ND[ends_B])
        keys_BWD = states_ND.view(-1, width, states_ND.shape[1])[ends_B // width]
        return self._passed(query_BD, self.attention.last(query_BD, keys_BWD, mask_BHW))

    def _passed(self, query_ND: Tensor, mixed_ND: Tensor) -> Tensor:
        normed_ND = self.norms[1](query_ND + self.dropout(mixed_ND))
        changed: Tensor = normed_ND + self.dropout(self.feed_forward(normed_ND))
        return changed


class Bottleneck(nn.Module):
    """A small residual layer that can be trained while the block below it stays as it is (Houlsby et al. 2019)."""

    def __init__(self, dim: int, width: int) -> None:
        super().__init__()
        self.narrow = nn.Linear(dim, width)
        self.widen = nn.Linear(width, dim)

    def forward(self, states_ND: Tensor) -> Tensor:
        """The states with a change of few degrees of freedom, (N, D)."""
        changed: Tensor = states_ND + self.widen(functional.gelu(self.narrow(states_ND)))
        return changed


BLOCKS: Final[dict[str, type[LigrBlock] | type[SasrecBlock]]] = {"ligr": LigrBlock, "sasrec": SasrecBlock}
