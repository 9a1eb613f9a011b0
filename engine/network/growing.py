"""Arrays whose first axis is the item row, growing as items appear; knows nothing of what they hold."""

from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

Number = TypeVar("Number", bound=np.generic)

BLOCK = 1024


def grown(values: NDArray[Number], rows: int) -> NDArray[Number]:
    """The same values with room for at least `rows` rows, zeros in the new ones; copied once a BLOCK.

    >>> grown(np.ones(2), 3).shape
    (1024,)
    """
    if rows <= len(values):
        return values
    larger: NDArray[Any] = np.zeros((-(-rows // BLOCK) * BLOCK, *values.shape[1:]), values.dtype)
    larger[: len(values)] = values
    return larger
