"""fields that did not fit their record -> a counter, and one line of log for each kind of them.

A producer that writes a field wrongly does so in all of its events: what is said of one is true of all.
"""

from typing import Final

import structlog

from streams.instruments import WorkerInstruments
from streams.repair import LEFT_OUT, Fates

_log = structlog.get_logger()
_WHY: Final = {
    True: "The field cannot be read with certainty or is out of bounds; its events are taken without it.",
    False: "The field is not of the type that the schema says; its events are understood, at some cost of time.",
}


class LenientFields:
    """Counts what became of fields that did not fit, and says each kind once."""

    def __init__(self, instruments: WorkerInstruments) -> None:
        self._counter = instruments.lenient_fields
        self._said: set[tuple[str, str, str]] = set()

    def count(self, topic: str, fates: Fates) -> None:
        """Count the fields of some events of a topic."""
        for (field, fate), count in fates.items():
            self._counter.labels(topic, field, fate).inc(count)
            if (topic, field, fate) not in self._said:
                self._said.add((topic, field, fate))
                _log.warning("lenient_field", topic=topic, field=field, fate=fate, why=_WHY[fate == LEFT_OUT])
