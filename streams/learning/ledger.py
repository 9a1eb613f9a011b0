"""outcomes -> each learned once: which offsets of a source partition have been learned. Knows nothing of Kafka.

A high-water mark would not do: the examples of a batch come user by user, so offset 6 of one user may follow offset 9
of another, and after a crash a batch comes again cut elsewhere.
"""

from typing import Any, Final

import numpy as np

WINDOW: Final = 1 << 17
"""Offsets remembered one by one. Older ones count as learned: nothing comes that late for the first time, because a
worker has no more than a few batches of 2 MB under way."""


class Ledger:
    """The outcomes of one partition."""

    def __init__(self) -> None:
        self.newest = -1
        """Highest offset learned."""
        self.taken = 0
        """Different offsets learned."""
        self._learned = np.zeros(WINDOW, np.bool_)
        """By offset modulo WINDOW."""

    def take(self, offset: int) -> bool:
        """Tell whether an outcome is to be learned now: True once for each offset."""
        if offset <= self.newest - WINDOW:
            return False
        place = offset % WINDOW
        if offset > self.newest:
            passed = np.arange(max(self.newest + 1, offset - WINDOW + 1), offset + 1) % WINDOW
            self._learned[passed] = False
            self.newest = offset
        elif self._learned[place]:
            return False
        self._learned[place] = True
        self.taken += 1
        return True

    def state(self) -> dict[str, Any]:
        """Return what a checkpoint holds."""
        return {"newest": self.newest, "taken": self.taken, "learned": np.packbits(self._learned)}

    @classmethod
    def restored(cls, state: dict[str, Any]) -> "Ledger":
        """Return the ledger that `state` described."""
        ledger = cls()
        ledger.newest, ledger.taken = state["newest"], state["taken"]
        ledger._learned = np.unpackbits(np.asarray(state["learned"], np.uint8)).astype(np.bool_)
        return ledger
