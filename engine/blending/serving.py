"""Models as they are served: the best rows of each history, while generations change them in place.

Knows nothing of Triton or Kafka. Legend: B histories, K items asked for, I rows, U changed rows.
"""

import threading
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray

from engine.batch import HistoryBatch
from engine.blending.scoring import build
from engine.blending.selection import best
from engine.generations import Generation
from engine.weights import CHALLENGER, CHAMPION, Config, Weights, WeightsError


@dataclass(frozen=True)
class Answer:
    """The best rows of each history of a batch."""

    rows_BK: NDArray[np.int32]
    """Best first; 0 is no item, when there are fewer than K."""
    scores_BK: NDArray[np.float32]
    version: int
    generation: int
    slot: str = CHAMPION


class ServedModel:
    """One model, asked by one thread and changed by another.

    A change waits for the answer under way and the next answer for the change, so an answer never mixes two
    generations. Changing in place copies the changed rows only: a second table of a million items would double the
    server's memory.

    Raises:
        WeightsError: the weights do not fit their own config.
    """

    def __init__(self, weights: Weights, version: int, generation: int, device: str = "cpu") -> None:
        try:
            self._model = build(weights.config, weights.rows)
            self._check(weights)
            self._model.load(weights.tables, weights.dense)  # type: ignore[arg-type]  # load() takes what has a dtype
        except (TypeError, KeyError, RuntimeError) as exc:
            raise WeightsError(f"the weights do not fit their config: {exc}") from exc
        self._model.eval().requires_grad_(requires_grad=False).to(device)
        self._config = dict(weights.config)
        self._lock = threading.Lock()
        self.version = version
        self.generation = generation

    @torch.inference_mode()
    def top_k(self, batch: HistoryBatch, k: int) -> Answer:
        """Return the k best rows of each history; rows it does not know count as the unknown item."""
        with self._lock:
            scores_BI = self._model.scores(batch)
            found = min(k, scores_BI.shape[1])
            scores_BK, rows_BK = best(scores_BI, found)
            version, generation = self.version, self.generation
        rows = rows_BK.to(torch.int32).cpu().numpy()
        scores = scores_BK.float().cpu().numpy()
        missing = ((0, 0), (0, k - found))
        return Answer(np.pad(rows, missing), np.pad(scores, missing, constant_values=-np.inf), version, generation)

    def apply(self, change: Generation) -> None:
        """Become this generation, unless it is older than what is served.

        Raises:
            WeightsError: it does not fit; nothing was changed.
        """
        if change.generation <= self.generation:
            return
        if not self.has_config(change.config):
            raise WeightsError("it belongs to a model of another config")
        new = change.weights
        self._check(new)
        with self._lock, torch.inference_mode():
            self._model.grow(change.rows)
            tables, dense = self._model.tables(), self._model.dense()
            for name, table in tables.items():
                rows_U = torch.from_numpy(change.tables[name].rows_U).to(table.device)
                table[rows_U] = torch.from_numpy(new.tables[name]).to(table)
            for name, tensor in dense.items():
                tensor.copy_(torch.from_numpy(new.dense[name]))
            self.generation = change.generation

    def has_config(self, config: Config) -> bool:
        """Whether weights of this config can become this model's."""
        return dict(config) == self._config

    def _check(self, found: Weights) -> None:
        """Refuse what lacks a tensor or has one of another shape; tables may hold any rows."""
        for name, own in self._model.dense().items():
            if name not in found.dense or found.dense[name].shape != tuple(own.shape):
                raise WeightsError(f"{name} is missing or not of shape {tuple(own.shape)}")
        for name, own in self._model.tables().items():
            if name not in found.tables or found.tables[name].shape[1:] != tuple(own.shape[1:]):
                raise WeightsError(f"{name} is missing or its rows are not of shape {tuple(own.shape[1:])}")


class ServedSlots:
    """The champion, and a challenger while one is published.

    Args:
        champion: of the version that was loaded.
        device: where a challenger's tables go.
    """

    def __init__(self, champion: ServedModel, device: str = "cpu") -> None:
        self.champion = champion
        self.challenger: ServedModel | None = None
        self._device = device

    def top_k(self, batch: HistoryBatch, k: int, slot: str = CHAMPION) -> Answer:
        """Answer from a slot; from the champion when nothing else is there. The answer says which it was."""
        challenger = self.challenger
        if slot == CHALLENGER and challenger is not None:
            return replace(challenger.top_k(batch, k), slot=CHALLENGER)
        return self.champion.top_k(batch, k)

    def apply(self, change: Generation) -> None:
        """Let its slot become this generation; a model of another config is made anew from one that holds all rows.

        So the first generation of a challenger makes it, and a server whose seed was of another size than the learner's
        model takes the learner's.

        Raises:
            WeightsError: it does not fit; nothing was changed.
        """
        served = self.champion if change.slot == CHAMPION else self.challenger
        if served is not None and (served.has_config(change.config) or change.generation <= served.generation):
            served.apply(change)
        elif any(len(changed.rows_U) < change.rows for changed in change.tables.values()):
            raise WeightsError("a model of another config begins with all of its rows; the next whole one is taken")
        else:
            anew = ServedModel(change.weights, change.version, change.generation, self._device)
            if change.slot == CHAMPION:
                self.champion = anew
            else:
                self.challenger = anew

    def drop(self, slot: str) -> None:
        """Serve a challenger no more; the champion stays."""
        if slot == CHALLENGER:
            self.challenger = None
