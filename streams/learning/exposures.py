"""exposures -> each learned once: which (impression, item taken) have been learned of late. Knows nothing of Kafka."""

from typing import Any, Final

import numpy as np
from xxhash import xxh3_64_intdigest

from streams.records import Exposure

REMEMBERED: Final = 1 << 16
"""The newest so many: an exposure comes again only after a crash, together with its neighbours."""


class Exposures:
    """Exposures by digest, oldest first."""

    def __init__(self) -> None:
        self._learned: dict[int, None] = {}

    def take(self, exposure: Exposure) -> bool:
        """Tell whether an exposure is to be learned now: True once for each."""
        digest = (
            xxh3_64_intdigest(f"{exposure.impression_id}\0{exposure.taken.item_id}".encode()) >> 1
        )  # fits a signed integer
        if digest in self._learned:
            return False
        self._learned[digest] = None
        if len(self._learned) > REMEMBERED:
            del self._learned[next(iter(self._learned))]
        return True

    def state(self) -> Any:  # noqa: ANN401 - an array, as a checkpoint takes it
        """Return what a checkpoint holds."""
        return np.fromiter(self._learned, np.int64, len(self._learned))

    def restore(self, state: Any) -> None:  # noqa: ANN401 - what `state` returned
        """Go on from what `state` returned."""
        self._learned = dict.fromkeys(state.tolist())
