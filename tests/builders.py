"""Valid events, to be varied by keyword: interaction(item_id="i9")."""

from typing import Any

from streams.records import Interaction

NOON = 1_764_072_000_000
"""An event time, epoch milliseconds."""


def interaction(**fields: Any) -> Interaction:
    """Return a click of u1 on i1 at NOON, or what the fields say."""
    valid = {"event_id": "e1", "user_id": "u1", "item_id": "i1", "type": "click", "timestamp": NOON}
    return Interaction(**{**valid, **fields})


class KafkaBatch(list[Any]):
    """Records as aiokafka's C code gives them out."""

    @property
    def next_offset(self) -> int:
        """The offset after the last record's."""
        return int(self[-1].offset) + 1
