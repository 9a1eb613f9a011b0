"""The sequence model: a history in, a user vector out; scores are dot products with item vectors.

Knows nothing of Kafka, Triton or training. Legend: T interactions, N = R x W positions of all windows, B histories,
I rows, D width, F width of text vectors, U any subset of rows.
"""

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Final, Literal, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from engine.batch import HistoryBatch
from engine.network.blocks import BLOCKS, Activation, Bottleneck, Dropout, LigrBlock, SasrecBlock
from engine.network.growing import grown
from engine.network.packing import Windows, pack

ROW_BLOCK: Final = 1024
"""The item table grows by this many rows at a time."""
_GAP_BUCKETS: Final = 32
_INITIAL_DEVIATION: Final = 0.02
_UNSEEN: Final = -1e9


@dataclass(frozen=True)
class ModelConfig:
    """Shape of a sequence model; two models of one config can exchange weights."""

    dim: int = 64
    """Width of item vectors and states."""
    blocks: int = 1
    heads: int = 1
    length: int = 50
    """Newest interactions of a history that are looked at."""
    block: Literal["ligr", "sasrec"] = "ligr"
    activation: Activation = "swiglu"
    hidden_factor: int = 4
    """Hidden width of the feed-forward layer, in widths of the state."""
    dropout: float = 0.2
    similarity: Literal["dot", "cosine"] = "dot"
    """Cosine divides user and item vectors by their length, then by the temperature."""
    temperature: float = 0.05
    bias: bool = True
    """Each item has a bias: its popularity, learned."""
    recency: bool = True
    """Attention has a learned bias by the distance of two interactions, beside the position's own vector."""
    types: int = 16
    """Interaction types that can be told apart."""
    text_dim: int = 0
    """Width of text vectors; 0 is a model without text."""
    adapter: int = 0
    """Width of a bottleneck after each block, which changes nothing until it is trained; 0 is without."""

    @classmethod
    def preset(cls, name: str, **changes: object) -> "ModelConfig":
        """One of `tiny`, `small`, `base`, with changes."""
        return replace(PRESETS[name], **changes)  # type: ignore[arg-type]  # replace() checks the names

    def plain(self) -> dict[str, str | int | float | bool]:
        """The config as plain values, as published with the weights."""
        return asdict(self)

    @classmethod
    def of(cls, plain: Mapping[str, str | int | float | bool]) -> "ModelConfig":
        """The config of which these are the plain values."""
        return cls(**plain)  # type: ignore[arg-type]  # the dataclass refuses unknown names


PRESETS: Final = {
    "tiny": ModelConfig(dim=32, blocks=1, hidden_factor=2),
    "small": ModelConfig(dim=64, blocks=1),
    "base": ModelConfig(dim=128, blocks=2, heads=2),
}


class SequenceModel(nn.Module):
    """A causal transformer over the interactions of a history; input and output share the item vectors."""

    text_vectors: Tensor

    def __init__(self, config: ModelConfig, rows: int, generator: torch.Generator | None = None) -> None:
        super().__init__()
        self.config = config
        self.rows = 1
        self.generator = generator
        dim = config.dim
        self.item_table = nn.Parameter(torch.zeros(0, dim))
        self.item_biases = nn.Parameter(torch.zeros(0))
        # Given, not learned, so part of no state; half precision, since a table of texts may be the largest of all.
        self.register_buffer("text_vectors", torch.zeros(0, config.text_dim, dtype=torch.float16), persistent=False)
        self.cold_I = np.zeros(0, np.bool_)
        """Rows to be left out of the comparisons in training, until a step meets one in a history: with text they can
        be proposed before anybody has touched them, and as losers of every comparison they never would be."""
        self.text_projection = nn.Linear(config.text_dim, dim, bias=False) if config.text_dim else None
        self.positions = nn.Embedding(config.length, dim)
        self.types = nn.Embedding(config.types, dim)
        self.gaps = nn.Embedding(_GAP_BUCKETS, dim)
        self.distances = nn.Parameter(torch.zeros(config.heads, config.length))
        block = BLOCKS[config.block]
        self.blocks = nn.ModuleList(
            block(dim, config.heads, config.hidden_factor * dim, config.activation, config.dropout)
            for _ in range(config.blocks)
        )
        self.adapters = nn.ModuleList(
            Bottleneck(dim, config.adapter) for _ in range(config.blocks if config.adapter else 0)
        )
        self.norm = nn.LayerNorm(dim)
        self.dropout = Dropout(config.dropout)
        self._initialise()
        self.grow(rows)

    def grow(self, rows: int) -> None:
        """Makes room for rows up to `rows - 1`; others keep their values, the table is copied once a ROW_BLOCK."""
        have, need = len(self.item_table), -(-rows // ROW_BLOCK) * ROW_BLOCK
        if need > have:
            drawn = torch.empty(need - have, self.config.dim).normal_(0, _INITIAL_DEVIATION, generator=self.generator)
            if not have:
                drawn[0] = 0
            table, biases = self.item_table, self.item_biases
            self.item_table = nn.Parameter(torch.cat([table.data, drawn.to(table)]), table.requires_grad)
            self.item_biases = nn.Parameter(
                torch.cat([biases.data, biases.new_zeros(need - have)]), biases.requires_grad
            )
            texts = self.text_vectors
            self.text_vectors = torch.cat([texts, texts.new_zeros(need - have, self.config.text_dim)])
            self.cold_I = grown(self.cold_I, need)
        self.rows = max(self.rows, rows)

    def vectors(self, table_UD: Tensor, rows_U: Tensor | slice) -> Tensor:
        """Item vectors of these rows of the table: learned row plus projected text, (U, D)."""
        if self.text_projection is not None:
            table_UD = table_UD + self.text_projection(self.text_vectors[rows_U].to(table_UD))
        return table_UD

    def describe(self, rows_U: NDArray[np.int64], texts_UF: NDArray[np.float16]) -> None:
        """Takes the text vectors of rows that it has."""
        self.text_vectors[torch.from_numpy(rows_U)] = torch.from_numpy(texts_UF).to(self.text_vectors)

    def stretch(self, rows_U: NDArray[np.int64], length: float) -> None:
        """Gives the text vectors of these rows a length other than one."""
        rows = torch.from_numpy(rows_U)
        units_UF = nn.functional.normalize(self.text_vectors[rows].float()) * length
        self.text_vectors[rows] = units_UF.to(self.text_vectors)

    def outputs(self, vectors: Tensor) -> Tensor:
        """Vectors as they enter the dot product: themselves, or scaled to one length each under cosine similarity."""
        if self.config.similarity == "dot":
            return vectors
        return nn.functional.normalize(vectors, dim=-1) * float(self.config.temperature**-0.5)

    def encode(self, inputs_TD: Tensor, batch: HistoryBatch) -> Tensor:
        """The state after each interaction, which has seen nothing later, ready for the dot product, (T, D).

        Args:
            inputs_TD: Vectors of the items interacted with.
            batch: The same interactions, histories no longer than `config.length`.
        """
        windows = pack(batch.lengths_B)
        states_ND = self._laid(inputs_TD, batch, windows)
        mask_RHWW = self._mask(batch, windows, states_ND.device)
        for number in range(len(self.blocks)):
            states_ND = self._adapted(number, self.blocks[number](states_ND, mask_RHWW))
        return self.outputs(self.norm(states_ND[torch.from_numpy(windows.slots_T).to(states_ND.device)]))

    def user_vectors(self, batch: HistoryBatch) -> Tensor:
        """The state after the last interaction of each history, zeros where there is none, (B, D).

        What `encode` says of those interactions, without the last block's states of all others.
        """
        batch = batch.last(self.config.length)
        users_BD = self.item_table.new_zeros(len(batch), self.config.dim)
        if not len(batch.rows_T):
            return users_BD
        rows_T, windows = self.known(batch.rows_T), pack(batch.lengths_B)
        states_ND = self._laid(self.vectors(self.item_table[rows_T], rows_T), batch, windows)
        device, top = states_ND.device, len(self.blocks) - 1
        if top:
            mask_RHWW = self._mask(batch, windows, device)
            for number in range(top):
                states_ND = self._adapted(number, self.blocks[number](states_ND, mask_RHWW))
        held_B = np.flatnonzero(batch.lengths_B)
        ends_B = windows.slots_T[np.cumsum(batch.lengths_B, dtype=np.int64)[held_B] - 1]
        places_B = torch.from_numpy(ends_B).to(device)
        mask_BHW = self._last_mask(batch, windows, ends_B, device)
        last_BD = cast("LigrBlock | SasrecBlock", self.blocks[top]).last(states_ND, places_B, mask_BHW)
        last_BD = self.outputs(self.norm(self._adapted(top, last_BD)))
        return users_BD.index_copy(0, torch.from_numpy(held_B).to(device), last_BD)

    def item_vectors(self) -> Tensor:
        """Item vectors as they enter the dot product, (I, D)."""
        return self.outputs(self.vectors(self.item_table[: self.rows], slice(0, self.rows)))

    @property
    def item_bias(self) -> Tensor:
        """What is added to each item's score for every user, (I,)."""
        return self.item_biases[: self.rows]

    def scores(self, batch: HistoryBatch) -> Tensor:
        """Scores of all rows for each history, minus infinity for row 0, (B, I)."""
        scores_BI = torch.addmm(self.item_bias, self.user_vectors(batch), self.item_vectors().T)
        scores_BI[:, 0] = -torch.inf
        return scores_BI

    def tables(self) -> dict[str, Tensor]:
        """State whose first axis is the row, by its published name."""
        return {"item_vectors": self.item_table.data[: self.rows], "item_bias": self.item_biases.data[: self.rows]}

    def dense(self) -> dict[str, Tensor]:
        """All other parameters, by name."""
        return {name: value.data for name, value in self.named_parameters() if not name.startswith("item_")}

    def load(self, tables: Mapping[str, NDArray[np.float32]], dense: Mapping[str, NDArray[np.float32]]) -> None:
        """Takes over published state, growing to its rows."""
        self.grow(len(tables["item_vectors"]))
        own = self.tables() | self.dense()
        for name, values in {**tables, **dense}.items():
            if name in own:
                own[name].copy_(torch.from_numpy(values))

    def _initialise(self) -> None:
        for parameter in self.parameters():
            if parameter.dim() > 1:
                parameter.data.normal_(0, _INITIAL_DEVIATION, generator=self.generator)
        for layer in self.modules():
            if isinstance(layer, nn.Linear):
                nn.init.xavier_normal_(layer.weight, generator=self.generator)
                if layer.bias is not None:
                    nn.init.zeros_(layer.bias)
        for name, parameter in self.adapters.named_parameters():
            if name.endswith("widen.weight"):
                nn.init.zeros_(parameter)
        if self.text_projection is not None:
            nn.init.zeros_(self.text_projection.weight)  # text says nothing until something is learned of it
        nn.init.zeros_(self.distances)

    def known(self, rows_T: NDArray[np.int32]) -> Tensor:
        """The rows as indices, 0 for those it does not have."""
        known_T = np.where((rows_T > 0) & (rows_T < self.rows), rows_T, 0).astype(np.int64)
        return torch.from_numpy(known_T).to(self.item_table.device)

    def _laid(self, inputs_TD: Tensor, batch: HistoryBatch, windows: Windows) -> Tensor:
        """What enters the first block, (N, D)."""
        device = inputs_TD.device
        types_T = torch.from_numpy(np.minimum(batch.types_T, self.config.types - 1).astype(np.int64)).to(device)
        states_TD = inputs_TD * math.sqrt(self.config.dim) + self.positions(
            torch.from_numpy(batch.positions_T).to(device)
        )
        states_TD = states_TD + self.types(types_T) + self.gaps(torch.from_numpy(gap_buckets(batch)).to(device))
        empty_ND = states_TD.new_zeros(windows.count * windows.width, self.config.dim)
        laid_ND: Tensor = self.dropout(empty_ND.index_copy(0, torch.from_numpy(windows.slots_T).to(device), states_TD))
        return laid_ND

    def _adapted(self, number: int, states: Tensor) -> Tensor:
        adapted: Tensor = self.adapters[number](states) if self.config.adapter else states
        return adapted

    def _last_mask(
        self, batch: HistoryBatch, windows: Windows, ends_B: NDArray[np.int64], device: torch.device
    ) -> Tensor:
        """The rows of `_mask` that belong to these positions, which are the last of their histories, (B, H, W)."""
        window_B, place_B = np.divmod(ends_B, windows.width)
        users_RW = windows.lay(batch.users_T, -1).reshape(windows.count, windows.width)
        seen_BW = users_RW[window_B] == users_RW[window_B, place_B][:, None]
        mask_B1W = torch.from_numpy(np.where(seen_BW, np.float32(0), np.float32(_UNSEEN))).to(device)[:, None]
        if not self.config.recency:
            return mask_B1W.expand(-1, self.config.heads, -1)
        distance_BW = (place_B[:, None] - np.arange(windows.width)).clip(0, self.config.length - 1)
        return mask_B1W + self.distances[:, torch.from_numpy(distance_BW).to(device)].transpose(0, 1)

    def _mask(self, batch: HistoryBatch, windows: Windows, device: torch.device) -> Tensor:
        users_RW = torch.from_numpy(windows.lay(batch.users_T, -1)).to(device).view(windows.count, windows.width)
        place_W = torch.arange(windows.width, device=device)
        distance_WW = place_W[:, None] - place_W
        seen_RWW = (users_RW[:, :, None] == users_RW[:, None, :]) & (distance_WW >= 0)
        mask_R1WW = torch.where(seen_RWW, 0.0, _UNSEEN)[:, None]
        if not self.config.recency:
            return mask_R1WW.expand(-1, self.config.heads, -1, -1)
        return mask_R1WW + self.distances[:, distance_WW.clamp(0, self.config.length - 1)]


def gap_buckets(batch: HistoryBatch) -> NDArray[np.int64]:
    """Bucket of the time since the interaction before, doubling from one second on; 0 for the first of a history.

    >>> gap_buckets(HistoryBatch.of([([1, 2, 3], [1, 1, 1], [100, 100, 3700])])).tolist()
    [0, 0, 11]
    """
    gaps_T = np.diff(batch.times_T, prepend=batch.times_T[:1]).clip(0)
    gaps_T[batch.offsets_B[batch.lengths_B > 0]] = 0
    buckets_T: NDArray[np.int64] = np.minimum(np.log2(gaps_T + 1.0).astype(np.int64), _GAP_BUCKETS - 1)
    return buckets_T
