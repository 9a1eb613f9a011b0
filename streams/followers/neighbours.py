"""weights -> neighbours and popularity, for the rungs that need no model."""

import time
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Final

import numpy as np
import structlog
from numpy.typing import NDArray

from engine.generations import Generation
from engine.weights import CHAMPION
from streams.followers.weights import WeightsFollower
from streams.instruments import WorkerInstruments

log = structlog.get_logger()

TABLES: Final = ("neighbour_rows", "neighbour_weights", "popularity")


@dataclass(frozen=True)
class NeighbourTables:
    """What the lower rungs need of a generation; I rows, K neighbours a row."""

    rows_IK: NDArray[np.int32]
    weights_IK: NDArray[np.float32]
    popularity_I: NDArray[np.float32]
    generation: int
    untrained: int = 0
    """The newest generation that had learned nothing: a model of this one or of one before gives random items."""

    @cached_property
    def order_I(self) -> NDArray[np.int32]:
        """Rows, the most popular first and equally popular ones by row."""
        # The bits of floats above 0 rise as they do: one sort of integers takes 30 ms for a million, a stable one 200.
        keys_I = (~self.popularity_I.view(np.uint32)).astype(np.uint64) << np.uint64(32)
        keys_I |= np.arange(len(keys_I), dtype=np.uint64)
        keys_I.sort()
        return (keys_I & np.uint64(0xFFFFFFFF)).astype(np.int32)


class NeighbourFollower:
    """Holds the newest NeighbourTables; a reader keeps those that it took."""

    def __init__(self, client: Mapping[str, Any], topic: str, instruments: WorkerInstruments) -> None:
        self.tables: NeighbourTables | None = None
        self._instruments = instruments
        self._follower = WeightsFollower(
            client,
            topic,
            (CHAMPION,),
            self._apply,
            tables=frozenset(TABLES),
            report=lambda why: log.warning("weights", why=why),
        )
        self.start = self._follower.start
        self.check = self._follower.check
        self.stop = self._follower.stop

    def _apply(self, change: Generation) -> None:
        self._instruments.generation.set(change.generation)
        self._instruments.generation_timestamp.set(time.time())
        old = self.tables
        rows_IK, weights_IK, popularity_I = (
            _merged(before, change, name)
            for name, before in zip(
                TABLES, (old.rows_IK, old.weights_IK, old.popularity_I) if old else (None, None, None), strict=True
            )
        )
        untrained = (old.untrained if old else 0) if popularity_I.any() else change.generation
        tables = NeighbourTables(rows_IK, weights_IK, popularity_I, change.generation, untrained)
        _ = tables.order_I  # made here: no list waits for it
        self.tables = tables


def _merged(before: NDArray[Any] | None, change: Generation, name: str) -> NDArray[Any]:
    """Return the table as it is from now on; a new one, grown or cut, when it differs."""
    changed = change.tables[name]
    if before is not None and len(before) == change.rows and not len(changed.rows_U):
        return before
    table = np.zeros((change.rows, *changed.values.shape[1:]), changed.values.dtype)
    if before is not None:
        table[: len(before)] = before[: change.rows]
    table[changed.rows_U] = changed.values
    return table
