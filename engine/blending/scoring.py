"""What is served: the sequence model blended with neighbours, popularity and the user's own repeats, in one score.

Everything comes from published Weights and a HistoryBatch, so the learner scores what Triton serves, by the same code.
The backend builds it by `build(config, rows)` and `load`, or calls `load_scorer(weights, device).top_k(batch, k)`.

The score of a row is a sum of features, each times its learned weight (`dense["blend"]`). Features of neighbours and
repeats are 0 for nearly all rows and are kept sparse: a batch costs what the model costs. Legend: B histories, I rows,
T interactions, K neighbours or places of a list, F features, N values that are not 0.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from engine.batch import HistoryBatch
from engine.blending.selection import best
from engine.metrics import tied_rank
from engine.network.model import ModelConfig, SequenceModel
from engine.weights import Weights, WeightsError

FEATURES: Final = (
    "model",
    "popularity",
    "covisit",
    "successor",
    "last_successor",
    "repeat",
    "repeats",
    "visit",
    "echo",
    "visit_model",
)
"""The sequence model's score; log popularity; log strength as neighbour of the history, none in the last visit itself,
as successor of the history and as successor of its last item; was in the history before the last visit, log how often;
is in the last visit; followed the last item when the same user had it before; how far the sequence model has an item of
the last visit below its best."""

FIRST_BLEND: Final = (0.3, 0.15, 0.6, 0.2, 0.4, 1.0, 0.3, 1.0, 1.0, 0.0)
"""What the weights begin with: item-kNN with a little of the rest, until outcomes say more."""

ITEM_KNN_BLEND: Final = (0.0, 1e-3, 1.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0)
"""Item-kNN alone; popularity orders what it does not reach."""

TABLES: Final = ("neighbour_rows", "neighbour_weights", "successor_rows", "successor_weights", "popularity")
_PREFIX: Final = "scoring."
_UNASKED: Final = 20.0
"""An item that nobody has touched loses so much before a user who has shown no taste that it could suit."""
_SPARSE: Final = 8
"""With so many times more places than values these are sorted: 32 histories of 1,280 neighbours each and 50,000 rows
take 1.6 ms for 4.6; with 4,000 rows it would be 1.7 for 1.5."""
_OWN: Final = FEATURES.index("repeat")
"""Features from here on are about the user's own items."""


@dataclass(frozen=True)
class ScoringConfig:
    """Constants of the features."""

    neighbours: int = 64
    """Neighbours and successors kept a row."""
    window: int = 20
    """Newest interactions whose neighbours count."""
    covisit_decay: float = 0.9
    successor_decay: float = 0.7
    covisit_floor: float = 0.01
    """Strength of a neighbour below which there is hardly a difference to none."""
    successor_floor: float = 1e-4
    last_floor: float = 1e-3
    visit_seconds: int = 1800
    """A longer pause begins a new visit."""


@dataclass(frozen=True)
class Sparse:
    """One feature: its values that are not 0."""

    index_N: Tensor
    """Distinct places in the flattened (B, I), rising."""
    value_N: Tensor
    """Above 0; below for `visit_model`."""

    def ranks(self, targets_B: NDArray[np.int64], rows: int) -> NDArray[np.int64]:
        """Rank of each target by this feature alone among `rows` rows, as `rank_of` has it.

        >>> feature = Sparse(torch.tensor([1, 3, 9]), torch.tensor([0.5, 2.0, 1.0]))
        >>> feature.ranks(np.array([1, 2]), 5).tolist()
        [1, 2]
        """
        index_N, value_N = self.index_N.numpy(force=True), self.value_N.numpy(force=True)
        users_N, own_B = index_N // rows, np.zeros(len(targets_B), value_N.dtype)
        wanted_B = np.arange(len(targets_B)) * rows + targets_B
        place_B = np.searchsorted(index_N, wanted_B)
        held_B = np.append(index_N, -1)[place_B] == wanted_B
        own_B[held_B] = value_N[place_B[held_B]]
        above_B, equal_B = (
            np.bincount(users_N[counts], minlength=len(own_B))
            for counts in (value_N > own_B[users_N], value_N == own_B[users_N])
        )
        return tied_rank(above_B, np.where(held_B, equal_B, rows - above_B) - 1)


@dataclass(frozen=True)
class Features:
    """All features of a batch, in the order of FEATURES."""

    model_BI: Tensor
    popularity_I: Tensor
    sparse: tuple[Sparse, ...]
    strangers: Tensor
    """Places in B of users without a history."""

    def scores(self, blend_F: Tensor) -> Tensor:
        """Their weighted sum, minus infinity for row 0, (B, I)."""
        scores_BI = torch.addcmul(blend_F[1] * self.popularity_I, self.model_BI, blend_F[0])
        flat = scores_BI.view(-1)
        for weight, feature in zip(blend_F[2:], self.sparse, strict=True):
            flat[feature.index_N] += weight * feature.value_N
        if len(self.strangers):
            scores_BI[self.strangers] -= _UNASKED * (self.popularity_I == 0)
        scores_BI[:, 0] = -torch.inf
        return scores_BI


class RecommenderModel(nn.Module):
    """The blended score of all rows for each history; grows, loads and is published like the SequenceModel within."""

    neighbour_rows: Tensor
    neighbour_weights: Tensor
    successor_rows: Tensor
    successor_weights: Tensor
    popularity: Tensor
    blend: Tensor

    def __init__(self, sequence: SequenceModel, config: ScoringConfig) -> None:
        super().__init__()
        self.sequence = sequence
        self.config = config
        for name in ("neighbour", "successor"):
            self.register_buffer(f"{name}_rows", torch.zeros(0, config.neighbours, dtype=torch.int32))
            self.register_buffer(f"{name}_weights", torch.zeros(0, config.neighbours))
        self.register_buffer("popularity", torch.zeros(0))
        self.register_buffer("blend", torch.tensor(FIRST_BLEND))
        self.grow(sequence.rows)

    @property
    def rows(self) -> int:
        """Rows that can be proposed, the padding row 0 among them."""
        return self.sequence.rows

    def grow(self, rows: int) -> None:
        """Makes room for rows up to `rows - 1`; the others keep their values."""
        self.sequence.grow(rows)
        room = len(self.sequence.item_table)
        for name in TABLES:
            table: Tensor = getattr(self, name)
            if len(table) < room:
                setattr(self, name, torch.cat([table, table.new_zeros(room - len(table), *table.shape[1:])]))

    @torch.inference_mode()
    def scores(self, batch: HistoryBatch) -> Tensor:
        """Scores of all rows, minus infinity for row 0, (B, I)."""
        return self.features(batch, self.sequence.user_vectors(batch)).scores(self.blend)

    def top_k(self, batch: HistoryBatch, k: int) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
        """The best rows of each history and their scores, best first, (B, K) both; row 0 scores minus infinity."""
        scores_BK, rows_BK = best(self.scores(batch), min(k, self.rows))
        return rows_BK.to(torch.int32).cpu().numpy(), scores_BK.cpu().numpy()

    def features(self, batch: HistoryBatch, users_BD: Tensor, items_ID: Tensor | None = None) -> Features:
        """All features of these histories, whose states the sequence model has already computed.

        Args:
            batch: The histories.
            users_BD: Their states.
            items_ID: The sequence model's item vectors, where they are at hand.
        """
        config, rows, device = self.config, self.rows, self.blend.device
        known_T = np.where((batch.rows_T > 0) & (batch.rows_T < rows), batch.rows_T, 0)
        known = HistoryBatch(known_T, batch.types_T, batch.times_T, batch.lengths_B)
        own = [
            Sparse(torch.from_numpy(index).to(device), torch.from_numpy(value).to(device))
            for index, value in (*_repeats(known, rows, config.visit_seconds), _echoes(known, rows))
        ]
        visit_N = own[FEATURES.index("visit") - _OWN].index_N
        near = self._near(known.last(config.window), visit_N)
        items_ID = self.sequence.item_vectors() if items_ID is None else items_ID
        model_BI = torch.addmm(self.sequence.item_bias, users_BD, items_ID.T)
        visit_model = Sparse(visit_N, model_BI.view(-1)[visit_N] - model_BI.amax(1)[visit_N // rows])
        strangers = np.flatnonzero(np.bincount(known.users_T[known_T > 0], minlength=len(known)) == 0)
        popularity_I = torch.log1p(self.popularity[:rows])
        return Features(model_BI, popularity_I, (*near, *own, visit_model), torch.from_numpy(strangers).to(device))

    def _near(self, recent: HistoryBatch, visit_N: Tensor) -> tuple[Sparse, Sparse, Sparse]:
        """Strength as neighbour of the history, as successor of the history and as successor of its last item."""
        config, device, size = self.config, self.blend.device, len(recent) * self.rows
        rows_T = torch.from_numpy(recent.rows_T.astype(np.int64)).to(device)
        first_T1 = torch.from_numpy(recent.users_T * self.rows).to(device)[:, None]
        back_T = np.repeat(recent.lengths_B, recent.lengths_B) - 1 - recent.positions_T
        covisit_decay_T1, successor_decay_T1 = (
            torch.from_numpy((decay**back_T).astype(np.float32)).to(device)[:, None]
            for decay in (config.covisit_decay, config.successor_decay)
        )
        covisits_TK, covisit_TK = self.neighbour_rows[rows_T] + first_T1, self.neighbour_weights[rows_T]
        successors_TK, successor_TK = self.successor_rows[rows_T] + first_T1, self.successor_weights[rows_T]
        last_L = torch.from_numpy(np.flatnonzero(back_T == 0)).to(device)
        return (
            _strength(covisits_TK, covisit_TK * covisit_decay_T1, size, config.covisit_floor, visit_N),
            _strength(successors_TK, successor_TK * successor_decay_T1, size, config.successor_floor),
            _strength(successors_TK[last_L], successor_TK[last_L], size, config.last_floor),
        )

    def tables(self) -> dict[str, Tensor]:
        """State whose first axis is the row, by its published name."""
        return self.sequence.tables() | {name: getattr(self, name)[: self.rows] for name in TABLES}

    def dense(self) -> dict[str, Tensor]:
        """All other state, by name."""
        return self.sequence.dense() | {"blend": self.blend}

    def load(self, tables: Mapping[str, NDArray[np.float32]], dense: Mapping[str, NDArray[np.float32]]) -> None:
        """Takes over published state, growing to its rows."""
        self.grow(len(tables["item_vectors"]))
        own = self.tables() | self.dense()
        for name, values in {**tables, **dense}.items():
            if name in own:
                own[name].copy_(torch.from_numpy(values))

    def weights(self) -> Weights:
        """All that `build` and `load` need to make a scorer of the same answers, as of now.

        That one has no text: what texts say is within its item vectors.
        """
        scoring = {_PREFIX + name: value for name, value in asdict(self.config).items()}
        sequence = self.sequence
        whole = {"item_vectors": sequence.vectors(sequence.item_table[: self.rows], slice(0, self.rows))}
        return Weights(
            replace(sequence.config, text_dim=0).plain() | scoring,
            {name: table.numpy(force=True) for name, table in (self.tables() | whole).items()},
            {name: tensor.numpy(force=True) for name, tensor in self.dense().items() if not name.startswith("text_")},
        )


def build(config: Mapping[str, str | int | float | bool], rows: int) -> SequenceModel | RecommenderModel:
    """The model that a published config describes: blended where it says how, else the sequence model alone."""
    scoring = {name.removeprefix(_PREFIX): value for name, value in config.items() if name.startswith(_PREFIX)}
    shape = {name: value for name, value in config.items() if not name.startswith(_PREFIX)}
    sequence = SequenceModel(ModelConfig.of(shape), rows)
    return RecommenderModel(sequence, ScoringConfig(**scoring)) if scoring else sequence  # type: ignore[arg-type]


def load_scorer(weights: Weights, device: torch.device | str = "cpu") -> RecommenderModel:
    """The scorer that these weights describe, on a device, ready to serve."""
    model = build(weights.config, weights.rows)
    if not isinstance(model, RecommenderModel):
        raise WeightsError("these are weights of a sequence model alone; `build` makes that one")
    model.load(weights.tables, weights.dense)  # type: ignore[arg-type]  # load() copies whatever has a dtype
    return model.eval().requires_grad_(requires_grad=False).to(device)


def _strength(places: Tensor, weights: Tensor, size: int, floor: float, none_N: Tensor | None = None) -> Sparse:
    """Log of the sum of each place's weights over the floor, 0 at `none_N`; `size` is how many places there are."""
    if places.device.type == "cpu" and size > _SPARSE * places.numel():
        index_N, which = np.unique(places.numpy().ravel(), return_inverse=True)
        total_N = np.bincount(which, weights.numpy().ravel(), len(index_N))
        if none_N is not None:
            total_N[np.isin(index_N, none_N.numpy(), assume_unique=True)] = 0
        held_N = total_N > 0
        value_N = np.log1p(total_N[held_N] / floor).astype(np.float32)
        return Sparse(torch.from_numpy(index_N[held_N]), torch.from_numpy(value_N))
    total = weights.new_zeros(size).index_add_(0, places.flatten(), weights.flatten())
    if none_N is not None:
        total[none_N] = 0
    places_N = total.nonzero().flatten()
    return Sparse(places_N, torch.log1p(total[places_N] / floor))


def _repeats(batch: HistoryBatch, rows: int, visit_seconds: int) -> list[tuple[NDArray[np.int64], NDArray[np.float32]]]:
    """What the user had before the last visit, log how often, and what the last visit holds."""
    visits_T = _visits_after(batch, visit_seconds)
    flat_T = batch.users_T * rows + batch.rows_T
    real_T = batch.rows_T > 0
    index, counts = np.unique(flat_T[real_T & (visits_T > 0)], return_counts=True)
    visit = np.unique(flat_T[real_T & (visits_T == 0)])
    ones = np.ones(max(len(index), len(visit)), np.float32)
    return [(index, ones[: len(index)]), (index, np.log1p(counts).astype(np.float32)), (visit, ones[: len(visit)])]


def _echoes(batch: HistoryBatch, rows: int) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """What followed each history's last item where it stood before, log how often.

    >>> index, value = _echoes(HistoryBatch.of_rows(np.array([1, 2, 3, 1], np.int32), np.array([4], np.int32)), 10)
    >>> index.tolist(), np.exp(value).tolist()
    ([2], [2.0])
    """
    last_T = np.repeat(np.cumsum(batch.lengths_B, dtype=np.int64) - 1, batch.lengths_B)
    places = np.flatnonzero((batch.rows_T == batch.rows_T[last_T]) & (np.arange(len(last_T)) < last_T)) + 1
    places = places[batch.rows_T[places] > 0]
    index, counts = np.unique(batch.users_T[places] * rows + batch.rows_T[places], return_counts=True)
    return index, np.log1p(counts).astype(np.float32)


def _visits_after(batch: HistoryBatch, visit_seconds: int) -> NDArray[np.int64]:
    """How many visits of the same history begin after each interaction.

    >>> batch = HistoryBatch.of([([1, 2, 3], [1, 1, 1], [0, 5000, 5100]), ([4], [1], [9])])
    >>> _visits_after(batch, 1800).tolist()
    [1, 0, 0, 0]
    """
    if not len(batch.rows_T):
        return np.zeros(0, np.int64)
    pause_T = np.diff(batch.times_T, prepend=batch.times_T[:1]) > visit_seconds
    pause_T[batch.positions_T == 0] = False
    begun_T = np.cumsum(pause_T)
    ends_B = np.cumsum(batch.lengths_B, dtype=np.int64) - 1
    after_T: NDArray[np.int64] = np.repeat(begun_T[np.maximum(ends_B, 0)], batch.lengths_B) - begun_T
    return after_T
