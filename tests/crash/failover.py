"""events, answers, logs -> how long the users of a lost worker waited, and what of it was recovery."""

from bisect import bisect_left
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime
from itertools import islice
from pathlib import Path
from typing import Final

import msgspec

from tests.crash.count import Accepted, Answers
from tests.crash.faults import Faults

_SETTLING_SECONDS: Final = 10.0
"""The session timeout, and time to join."""


@dataclass
class Failovers:
    """Seconds from each loss of a worker to the first answer to an event that came after it, by partition."""

    alone: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    """By the kind of the loss. Nothing else happened to the group from a settling time before it until the answer."""
    disturbed: list[float] = field(default_factory=list)
    """Other workers came or went meanwhile."""
    broker: int = 0
    """How many overlapped an outage of the broker, and measure that."""
    recovery: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    """Of those alone: seconds in which the next owner recovered the states, once the partition was assigned to it."""


def failovers(events: Accepted, given: Answers, injected: Faults, logs: Iterable[Path]) -> Failovers:
    """Return how long the users of a lost worker waited.

    Args:
        events: what Kafka took.
        given: the answers.
        injected: what was done to the workers.
        logs: of the workers.
    """
    result, ready = Failovers(), _ready(logs)
    for outage in injected.outages:
        for partition in outage.partitions:
            written = events.written[partition]
            at = next((offset for offset, when in written if when >= outage.began), None)
            later = given.first_after.get(partition, [])
            place = bisect_left(later, (at, 0.0)) if at is not None else len(later)
            if place == len(later):
                continue
            answered = later[place][1]
            others = [at for at in injected.moves if outage.began - _SETTLING_SECONDS < at < answered]
            if any(begin < answered and end > outage.began for begin, end in injected.broker_outages):
                result.broker += 1
            elif len(others) > 1:
                result.disturbed.append(answered - outage.began)
            else:
                result.alone[outage.kind].append(answered - outage.began)
                took = (line.seconds for line in ready if line.at > outage.began and partition in line.partitions)
                result.recovery[outage.kind].extend(islice(took, 1))
    return result


class _Ready(msgspec.Struct):
    """A worker's line that says that its partitions are ready."""

    event: str
    timestamp: datetime
    partitions: list[int] = []
    seconds: float = 0.0

    @property
    def at(self) -> float:
        return self.timestamp.timestamp()


def _ready(logs: Iterable[Path]) -> list[_Ready]:
    """Return those lines of all workers, oldest first."""
    lines = (line for log in logs if log.exists() for line in log.read_bytes().splitlines())
    found = [msgspec.json.decode(line, type=_Ready) for line in lines if b'"partitions_ready"' in line]
    return sorted(found, key=lambda line: line.at)
