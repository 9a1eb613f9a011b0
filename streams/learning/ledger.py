"""outcomes -> each learned once: which offsets of a source partition have been learned. Knows nothing of Kafka.

A high-water mark would not do: the examples of a batch come user by user, so offset 6 of one user may follow offset 9
of another, and after a crash a batch comes again cut elsewhere.
"""

from typing import Any, Final

import numpy as np

CHUNK: Final = 1 << 16
"""Offsets that are remembered together, a bit each: 8 KB."""
CHUNKS: Final = 64
"""So many of them are remembered. What is older counts as learned: a worker has at most two fetches of 2 MB and the
batch before them under way, and 2 MB that zstd made of the smallest events hold less than a million of them."""
_OLDEST_WINDOW: Final = 1 << 17
"""Of older releases: offsets modulo this."""


class Ledger:
    """The outcomes of one partition."""

    def __init__(self) -> None:
        self.newest = -1
        """Highest offset learned."""
        self.taken = 0
        """Different offsets learned."""
        self._chunks: dict[int, bytearray] = {}
        self._floor = 0
        """All chunks before it count as learned."""

    def take(self, offset: int) -> bool:
        """Tell whether an outcome is to be learned now: True once for each offset."""
        number, place = divmod(offset, CHUNK)
        if number < self._floor:
            return False
        chunk = self._chunks.get(number) or self._begin(number)
        byte, bit = place >> 3, 1 << (place & 7)
        if chunk[byte] & bit:
            return False
        chunk[byte] |= bit
        self.newest = max(self.newest, offset)
        self.taken += 1
        return True

    def state(self) -> dict[str, Any]:
        """Return what a checkpoint holds."""
        numbers = sorted(self._chunks)
        bits = np.frombuffer(b"".join(self._chunks[number] for number in numbers), np.uint8)
        return {
            "newest": self.newest,
            "taken": self.taken,
            "floor": self._floor,
            "chunks": np.array(numbers, np.int64),
            "bits": bits,
        }

    @classmethod
    def restored(cls, state: dict[str, Any]) -> "Ledger":
        """Return the ledger that `state` described, also that of an older release."""
        ledger = cls()
        if "chunks" not in state:
            ledger._learn_window(state["newest"], np.unpackbits(np.asarray(state["learned"], np.uint8)))
        else:
            ledger._floor = state["floor"]
            bits = np.asarray(state["bits"], np.uint8).reshape(-1, CHUNK // 8)
            numbers = np.asarray(state["chunks"]).tolist()
            ledger._chunks = {number: bytearray(row) for number, row in zip(numbers, bits, strict=True)}
        ledger.newest, ledger.taken = state["newest"], state["taken"]
        return ledger

    def _begin(self, number: int) -> bytearray:
        self._chunks[number] = chunk = bytearray(CHUNK // 8)
        if len(self._chunks) > CHUNKS:
            oldest = min(self._chunks)
            self._floor = oldest + 1
            if oldest == number:  # nothing of it is to be learned any more
                chunk[:] = b"\xff" * len(chunk)
            del self._chunks[oldest]
        return chunk

    def _learn_window(self, newest: int, learned: Any) -> None:  # noqa: ANN401 - numpy's bits
        """Take over what was remembered by offset modulo a window; all before the window counts as learned."""
        begin = max(0, newest - _OLDEST_WINDOW + 1)
        self._floor = begin // CHUNK
        window = np.arange(begin, newest + 1)
        for offset in (*range(self._floor * CHUNK, begin), *window[learned[window % _OLDEST_WINDOW] == 1].tolist()):
            self.take(offset)
