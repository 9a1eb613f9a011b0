"""items -> text vectors by row: what the catalogue says of an item, for the learner.

Nothing is kept: the topic is compacted, so a learner that starts reads what every item says now.
"""

import time
from collections.abc import Iterator
from contextlib import suppress
from typing import Final

import numpy as np
from confluent_kafka import Message
from numpy.typing import NDArray

from engine.text import TextEncoder
from streams.catalogue.item_records import read_item
from streams.catalogue.row_log import RowLog
from streams.errors import RejectedEventError
from streams.kafka.clients import librdkafka_config
from streams.kafka.readable_topic import ReadableTopic
from streams.settings import Settings

_AGAIN_SECONDS: Final = 0.1
"""An item whose row no worker has appended yet is looked for again after so long."""

_PART: Final = 10_000
"""Items that are described together: their vectors are in memory three times."""

Described = tuple[NDArray[np.int64], NDArray[np.float16]]
"""Rows and their text vectors."""

_NOTHING: Final = np.empty(0, np.int64), np.empty((0, 0), np.float16)


class ItemTexts:
    """The topic `items`, read from its beginning."""

    def __init__(self, settings: Settings, rows: RowLog, encoder: TextEncoder) -> None:
        self._rows = rows
        self._encoder = encoder
        self._waiting: dict[str, str] = {}
        """Text of items that have no row yet."""
        self._looked = 0.0
        self._topic = ReadableTopic(librdkafka_config(settings), settings.topics.items)

    def all(self) -> Iterator[Described]:
        """Yield what can be read of the topic now, of items that have a row, in parts.

        Raises:
            StartError: Kafka gives nothing more of it.
        """
        for record in self._topic.up_to_now():
            self._take(record)
            if len(self._waiting) >= _PART and time.monotonic() >= self._looked + _AGAIN_SECONDS:
                yield self._placed()
        yield self._placed()

    def new(self) -> Described:
        """Return what has come in since, without waiting for more."""
        for record in self._topic.waiting():
            self._take(record)
        return self._placed() if time.monotonic() >= self._looked + _AGAIN_SECONDS else _NOTHING

    def close(self) -> None:
        """Let go of the connection."""
        self._topic.close()

    def _take(self, record: Message) -> None:
        with suppress(RejectedEventError):  # the agent that adds items dead-letters it
            item_id, item = read_item(record.key(), record.value())
            if item is not None:
                self._waiting[item_id] = f"{item.title} {item.category} {item.text}"

    def _placed(self) -> Described:
        """Encode those that have a row; the others go on waiting."""
        if not self._waiting:
            return _NOTHING
        rows = dict(zip(self._waiting, self._rows.of(self._waiting), strict=True))
        self._looked = time.monotonic() if 0 in rows.values() else 0.0
        placed = {row: self._waiting.pop(item_id) for item_id, row in rows.items() if row}
        return np.fromiter(placed, np.int64, len(placed)), self._encoder.encode(list(placed.values()))
