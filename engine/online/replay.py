"""Replay buffer: an even sample of all histories ever learned from, in bounded memory, against forgetting.

Legend: C places of the buffer, L longest history, B histories.
"""

import numpy as np
from numpy.typing import NDArray

from engine.batch import HistoryBatch


class Reservoir:
    """Algorithm R (Vitter 1985): after n histories each is kept with probability capacity / n."""

    def __init__(self, capacity: int, length: int) -> None:
        self.seen = 0
        self._rows_CL = np.zeros((capacity, length), np.int32)
        self._types_CL = np.zeros((capacity, length), np.uint8)
        self._times_CL = np.zeros((capacity, length), np.int64)
        self._lengths_C = np.zeros(capacity, np.int32)

    def __len__(self) -> int:
        return min(self.seen, len(self._lengths_C))

    def add(self, batch: HistoryBatch, generator: np.random.Generator) -> None:
        """Offers histories; each is cut to its newest interactions."""
        batch = batch.last(self._rows_CL.shape[1])
        for length, offset in zip(batch.lengths_B.tolist(), batch.offsets_B.tolist(), strict=True):
            place = self.seen if self.seen < len(self._lengths_C) else int(generator.integers(self.seen + 1))
            self.seen += 1
            if place < len(self._lengths_C):
                part = slice(offset, offset + length)
                self._lengths_C[place] = length
                self._rows_CL[place, :length] = batch.rows_T[part]
                self._types_CL[place, :length] = batch.types_T[part]
                self._times_CL[place, :length] = batch.times_T[part]

    def sample(self, count: int, generator: np.random.Generator) -> HistoryBatch:
        """At most so many of the kept histories, none twice."""
        places = generator.choice(len(self), min(count, len(self)), replace=False)
        lengths_B = self._lengths_C[places]
        held = np.arange(self._rows_CL.shape[1]) < lengths_B[:, None]
        return HistoryBatch(
            self._rows_CL[places][held], self._types_CL[places][held], self._times_CL[places][held], lengths_B
        )

    def state(self) -> dict[str, NDArray[np.generic]]:
        """All that the next call depends on."""
        kept = len(self)
        return {
            "seen": np.array(self.seen),
            "rows": self._rows_CL[:kept].copy(),
            "types": self._types_CL[:kept].copy(),
            "times": self._times_CL[:kept].copy(),
            "lengths": self._lengths_C[:kept].copy(),
        }

    def restore(self, state: dict[str, NDArray[np.generic]]) -> None:
        """Goes on from a state taken by `state`."""
        self.seen = int(state["seen"])
        kept = len(state["lengths"])
        for name in ("rows", "types", "times"):
            getattr(self, f"_{name}_CL")[:kept] = state[name]
        self._lengths_C[:kept] = state["lengths"]
