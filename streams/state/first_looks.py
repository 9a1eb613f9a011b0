"""recovered keys -> those that the store cannot hold: most of a recovery into an empty store is looks for nothing.

A look into RocksDB for a key that is not there costs 2 of the 4 us that a recovered record takes in the loop. Which
keys have been looked for since the store was empty is remembered by their hashes alone, in a bounded table: a key whose
place is taken, by itself or by another key, is looked for as ever. So nothing is taken for absent that is there.
"""

from collections.abc import Callable
from typing import Final

_PLACES: Final = 1 << 24
"""Bytes, and places. A million users take 6 % of them, ten million 45 %: so many looks for nothing stay at the end."""


class FirstLooks:
    """Keys that were looked for in stores that were empty; whatever is put there must have been looked for before."""

    def __init__(self) -> None:
        self._partitions: set[int] = set()
        """Whose store was empty."""
        self._taken = bytearray()

    def begin(self, partition: int) -> None:
        """Take a partition whose store is empty."""
        self._partitions.add(partition)
        self._taken = self._taken or bytearray(_PLACES)

    def end(self, partition: int | None = None) -> None:
        """Let go of a partition, or of all: something is put into its store without a look."""
        if partition is None:
            self._partitions.clear()
            self._taken = bytearray()
        else:
            self._partitions.discard(partition)

    def reader(self, partition: int, read: Callable[[bytes], bytes | None]) -> Callable[[bytes], bytes | None]:
        """Return what looks for a key of a partition: into the store only when the key can be there."""
        if partition not in self._partitions:
            return read
        taken, last = self._taken, _PLACES - 1

        def look(key: bytes) -> bytes | None:
            place = hash(key) & last
            if taken[place]:
                return read(key)
            taken[place] = 1
            return None

        return look
