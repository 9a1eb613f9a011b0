"""an example -> slices: as many of its outcomes at once as a batch has room for, each with the history before it."""

from collections import deque
from collections.abc import Mapping
from typing import Final

from streams.catalogue.row_log import RowLog
from streams.learning.examples import Choice, ExampleBatch, LearnedEntry
from streams.learning.exposures import Exposures
from streams.learning.ledger import Ledger
from streams.records import Example, Exposure

_SHOWN: Final = 200
"""What one impression holds at most: with more, all choices of a batch would take the room of the longest."""


class Slices:
    """What is left of one example."""

    def __init__(self, example: Example, rows: RowLog) -> None:
        self._example = example
        self._rows = rows
        self._late = deque(exposure for exposure in example.shown if exposure.offset < 0)
        """What became known after its outcome."""
        self._next = 0
        """Place of the next outcome."""
        self._entries: list[LearnedEntry] = []

    @property
    def done(self) -> bool:
        """Whether nothing is left."""
        return not self._late and self._next == len(self._example.outcomes)

    def put(self, batch: ExampleBatch, ledgers: Mapping[int, Ledger], exposures: Exposures) -> int:
        """Put what is new into a batch, until it is full; return how many outcomes were learned before."""
        ledger = ledgers[self._example.partition]
        user, begin = self._example.user_id, len(self._example.history.items)
        while self._late and not batch.full:
            exposure = self._late.popleft()
            if exposures.take(exposure):  # its history is the one before it was shown, which others have left behind
                batch.choose(user, self._known()[:begin], self._choice(exposure), exposure)
        outcomes, start = self._example.outcomes, self._next
        new: list[int] = []
        while self._next < len(outcomes) and len(new) < batch.room:
            if ledger.take(outcomes[self._next].offset):
                new.append(self._next)
            self._next += 1
        if new:
            entries, offsets = self._known(), {outcomes[at].offset: place for place, at in enumerate(new)}
            choices = {
                offsets[exposure.offset]: self._choice(exposure)
                for exposure in self._example.shown
                if exposure.offset in offsets and exposures.take(exposure)
            }
            batch.extend(user, entries[: begin + new[0]], [entries[begin + at] for at in new], choices)
            batch.sources += [(self._example.partition, offset) for offset in offsets]
        return self._next - start - len(new)

    def _known(self) -> list[LearnedEntry]:
        """History and outcomes by row."""
        if not self._entries:
            history, outcomes = self._example.history, self._example.outcomes
            rows = self._rows.of([*history.items, *(outcome.item_id for outcome in outcomes)])
            types = [*history.types, *(outcome.type for outcome in outcomes)]
            times = [*history.timestamps, *(outcome.timestamp for outcome in outcomes)]
            self._entries = [
                (row, type_, timestamp // 1000) for row, type_, timestamp in zip(rows, types, times, strict=True)
            ]
        return self._entries

    def _choice(self, exposure: Exposure) -> Choice:
        beside = exposure.passed[:_SHOWN]
        taken, *passed = self._rows.of(shown.item_id for shown in (exposure.taken, *beside))
        return taken, [(row, shown.propensity) for row, shown in zip(passed, beside, strict=True)]
