"""a history -> what was taken together with it: item-kNN out of the tables that the worker holds."""

from collections.abc import Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from streams.followers.neighbours import NeighbourTables

_NEWEST: Final = 20
"""Interactions whose neighbours count."""
_DECAY: Final = 0.9


def covisits(rows: Sequence[int], tables: NeighbourTables, count: int) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
    """Return the rows nearest to a history; each step back in it counts 0.9 of the one after."""
    recent = np.asarray([row for row in rows[-_NEWEST:] if 0 < row < len(tables.rows_IK)], np.int64)
    decay = _DECAY ** np.arange(len(recent) - 1, -1, -1, dtype=np.float32)
    found = tables.rows_IK[recent].ravel()
    weights = (tables.weights_IK[recent] * decay[:, None]).ravel()
    candidates, where = np.unique(found, return_inverse=True)
    scores = np.bincount(where, weights, len(candidates)).astype(np.float32)
    best = np.argsort(-scores, kind="stable")[:count]
    best = best[scores[best] > 0]
    return candidates[best].astype(np.int32), scores[best]
