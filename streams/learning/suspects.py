"""what is being learned -> a file: who starts after a failure knows which records were under way.

A batch on which learning fails is tried again; at the third start at one place its records come one by one, and the
one that fails alone is named and left out. So no record stops the learner for ever.
"""

import json
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Final

import structlog

from streams.errors import RejectedEventError

log = structlog.get_logger()

Ranges = dict[int, tuple[int, int]]
"""First and last offset of some records, by partition of `examples`."""

_FAILURES: Final = 2
"""After so many at one place the learner looks closer."""
_NONE: Final = (FileNotFoundError, ValueError, LookupError, TypeError, AttributeError)
"""There is no such file, or it was cut off when it was written."""


class Suspects:
    """Records during which the learner has failed.

    Args:
        folder: the learner's.
    """

    def __init__(self, folder: Path) -> None:
        self._under_way = folder / "under-way"
        self._path = folder / "suspects"
        self._ranges: Ranges = {}
        self._failures = 0
        self._condemned: set[tuple[int, int]] = set()
        with suppress(*_NONE):
            known = json.loads(self._path.read_text())
            self._ranges, self._failures = _ranges(known["records"]), int(known["failures"])
            self._condemned = {(int(partition), int(offset)) for partition, offset in known["condemned"]}
        found: Ranges = {}
        with suppress(*_NONE):
            found = _ranges(json.loads(self._under_way.read_text() or "{}"))
        if found:
            self._blame(found)
            log.error("learner-failed", records=self._ranges, failures=self._failures, left_out=self.is_one)

    @property
    def is_one(self) -> bool:
        """Whether it is known which record it was."""
        return self._failures >= _FAILURES and _single(self._ranges)

    def begin(self, records: Ranges) -> None:
        """Remember what is being learned from now on."""
        self._under_way.parent.mkdir(parents=True, exist_ok=True)
        self._under_way.write_text(json.dumps(records))

    def end(self) -> None:
        """It went well."""
        self._under_way.write_text("")

    def failed(self, records: Ranges) -> None:
        """Learning raised an exception: what else could have ended it need not be thought of."""
        self._ranges, self._failures = dict(records), _FAILURES
        self._judge()
        self.end()

    def hold(self, partition: int, offset: int) -> bool:
        """Whether a record is to be learned alone."""
        first, last = self._ranges.get(partition, (0, -1))
        return self._failures >= _FAILURES and first <= offset <= last

    def refuse_condemned(self, partition: int, offset: int) -> None:
        """Leave out a record that failed alone.

        Raises:
            RejectedEventError: it is one.
        """
        if (partition, offset) in self._condemned:
            raise RejectedEventError("unlearnable", "learning it has failed again and again, alone as well")

    def acquit(self) -> None:
        """Blame no record any more."""
        self._ranges, self._failures, self._condemned = {}, 0, set()
        self._write()

    def passed(self, positions: Mapping[int, int]) -> None:
        """Forget what lies before the positions of a checkpoint."""
        before = self._ranges, self._condemned
        self._ranges = {number: found for number, found in self._ranges.items() if positions.get(number, 0) <= found[1]}
        self._condemned = {(number, at) for number, at in self._condemned if positions.get(number, 0) <= at}
        self._failures = self._failures if self._ranges else 0
        if (self._ranges, self._condemned) != before:
            self._write()

    def _blame(self, found: Ranges) -> None:
        """Count a failure, at what is common to this one and the ones before."""
        common = {
            number: (max(first, self._ranges[number][0]), min(last, self._ranges[number][1]))
            for number, (first, last) in found.items()
            if number in self._ranges and first <= self._ranges[number][1] and last >= self._ranges[number][0]
        }
        narrower = _single(common) and not _single(self._ranges)  # by chance, unless each record came alone
        counts = common and (not narrower or self._failures >= _FAILURES)
        self._failures = self._failures + 1 if counts else 1
        self._ranges = common or found
        self._judge()
        self.end()

    def _judge(self) -> None:
        if self.is_one:
            self._condemned.update((partition, first) for partition, (first, _) in self._ranges.items())
        self._write()

    def _write(self) -> None:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        scratch = self._path.with_suffix(".incoming")
        known = {"records": self._ranges, "failures": self._failures, "condemned": sorted(self._condemned)}
        scratch.write_text(json.dumps(known))
        scratch.rename(self._path)


def _ranges(found: Mapping[str, list[int]]) -> Ranges:
    return {int(number): (int(first), int(last)) for number, (first, last) in found.items()}


def _single(ranges: Ranges) -> bool:
    return len(ranges) == 1 and all(first == last for first, last in ranges.values())
