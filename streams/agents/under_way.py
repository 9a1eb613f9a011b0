"""what a worker was folding when it ended -> what it is careful with when it is started again.

A small file in the worker's folder says which offsets are being folded, or could not be finished. A worker that ends by
kill -9 leaves it as it is, so that the next start knows. One that ended three times at the same place folds the records
there one by one, and a record at which it ended then is not folded any more.
"""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from struct import Struct
from typing import Final

import structlog

from streams.errors import RejectedEventError
from streams.full_disk import named_when_full

_log = structlog.get_logger()
_SLOT: Final = Struct("<qqqqq")
"""First and last offset under way; first and last at which the worker ended before, and how many times."""
_EMPTY: Final = (-1, -1, -1, -1, 0)
_RANGE: Final = Struct("<qq")
_NOTHING: Final = _RANGE.pack(-1, -1)
_CAREFUL_TIMES: Final = 2
"""The third start is careful."""


@dataclass(frozen=True, slots=True)
class Suspect:
    """Records at which the worker ended."""

    first: int
    last: int
    times: int

    def within(self, first: int, last: int) -> bool:
        """Tell whether a batch holds any of them."""
        return first <= self.last and self.first <= last

    def after(self, first: int, last: int) -> "Suspect":
        """Return what is suspected once the worker has ended at these offsets too."""
        if not self.times or not self.within(first, last):
            return Suspect(first, last, 1)
        return Suspect(max(first, self.first), min(last, self.last), self.times + 1)

    @property
    def proven(self) -> bool:
        """Whether it is one record, which the worker was folding alone when it ended."""
        return self.times > _CAREFUL_TIMES and self.first == self.last


class UnderWay:
    """One slot a topic and partition."""

    def __init__(self, path: Path, topics: Sequence[str], partitions: int) -> None:
        """Open the file, and take what was under way when the last worker ended for suspect.

        Raises:
            StartError: the disk is full.
        """
        self._slots = {(topic, part): at for at, (topic, part) in enumerate(_pairs(topics, partitions))}
        self._suspects: dict[tuple[str, int], Suspect] = {}
        self._failed: set[tuple[str, int]] = set()
        size = len(self._slots) * _SLOT.size
        old = path.read_bytes() if path.exists() else b""
        slots = list(_SLOT.iter_unpack(old)) if len(old) == size else [_EMPTY] * len(self._slots)
        for key, (first, last, *before) in zip(self._slots, slots, strict=True):
            suspect = Suspect(*before)
            if first >= 0:
                suspect = suspect.after(first, last)
            if suspect.times:
                self._suspects[key] = suspect
        with named_when_full(path.parent):
            path.write_bytes(b"".join(map(self._slot, self._slots)))
        self._file = os.open(path, os.O_WRONLY)

    def begin(self, topic: str, partition: int, first: int, last: int) -> None:
        """Say that these offsets are being folded."""
        self._write((topic, partition), _RANGE.pack(first, last))

    def end(self, topic: str, partition: int) -> None:
        """Say that they are folded."""
        self._write((topic, partition), _NOTHING)

    def fail(self, topic: str, partition: int, first: int, last: int) -> None:
        """Say that the worker ends because of a batch with these offsets; what else goes on is not noted any more."""
        self.begin(topic, partition, first, last)
        self._failed.add((topic, partition))

    def finish(self, topic: str, partition: int, last: int) -> None:
        """Say that everything up to an offset is finished: nothing there is suspect any more."""
        key = (topic, partition)
        if key in self._suspects and self._suspects[key].last <= last:
            del self._suspects[key]
            self._write(key, self._slot(key))

    def suspect(self, topic: str, partition: int, first: int, last: int) -> Suspect | None:
        """Return what a batch with these offsets is to be careful with."""
        if not self._suspects:
            return None
        found = self._suspects.get((topic, partition))
        return found if found and found.times >= _CAREFUL_TIMES and found.within(first, last) else None

    def _slot(self, key: tuple[str, int]) -> bytes:
        suspect = self._suspects.get(key) or Suspect(-1, -1, 0)
        return _SLOT.pack(-1, -1, suspect.first, suspect.last, suspect.times)

    def _write(self, key: tuple[str, int], value: bytes) -> None:
        if key in self._failed:
            return
        try:
            os.pwrite(self._file, value, self._slots[key] * _SLOT.size)
        except OSError as exc:  # it is a help to the next start, and no more
            _log.debug("under_way_not_written", reason=str(exc))


def told(topic: str, partition: int, suspect: Suspect) -> RejectedEventError:
    """Say at which records the worker ends, and return why one of them is set aside."""
    _log.error(
        "worker_ended_here", topic=topic, partition=partition, first=suspect.first, last=suspect.last,
        times=suspect.times,
        advice="These records are folded one by one now; the log of the times before says what ended the worker.",
    )  # fmt: skip
    return RejectedEventError("unprocessable", f"the worker ended {suspect.times} times while it had this record")


def _pairs(topics: Sequence[str], partitions: int) -> list[tuple[str, int]]:
    return [(topic, partition) for topic in topics for partition in range(partitions)]
