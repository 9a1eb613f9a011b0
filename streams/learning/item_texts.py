"""items -> text vectors by row: what the catalogue says of an item, for the learner.

Nothing is kept: the topic is compacted, so a learner that starts reads what every item says now.
"""

import time
from collections.abc import Iterable
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

Described = tuple[NDArray[np.int64], NDArray[np.float16]]
"""Rows and their text vectors."""


class ItemTexts:
    """The topic `items`, read from its beginning."""

    def __init__(self, settings: Settings, rows: RowLog, encoder: TextEncoder) -> None:
        self._rows = rows
        self._encoder = encoder
        self._waiting: dict[str, str] = {}
        """Text of items that have no row yet."""
        self._looked = 0.0
        self._topic = ReadableTopic(librdkafka_config(settings), settings.topics.items)

    def all(self) -> Described:
        """Return what can be read of the topic now, of items that have a row.

        Raises:
            StartError: Kafka gives nothing more of it.
        """
        self._take_all(self._topic.up_to_now())
        return self._placed()

    def new(self) -> Described:
        """Return what has come in since, without waiting for more."""
        self._take_all(self._topic.waiting())
        return self._placed()

    def close(self) -> None:
        """Let go of the connection."""
        self._topic.close()

    def _take_all(self, records: Iterable[Message]) -> None:
        for record in records:
            try:
                item_id, item = read_item(record.key(), record.value())
            except RejectedEventError:
                continue  # the agent that adds items dead-letters it
            if item is not None:
                self._waiting[item_id] = f"{item.title} {item.category} {item.text}"

    def _placed(self) -> Described:
        """Encode those that have a row; the others go on waiting."""
        if self._waiting and time.monotonic() >= self._looked + _AGAIN_SECONDS:
            rows = dict(zip(self._waiting, self._rows.of(self._waiting), strict=True))
            self._looked = time.monotonic() if 0 in rows.values() else 0.0
            placed = {row: self._waiting.pop(item_id) for item_id, row in rows.items() if row}
        else:
            placed = {}
        return np.fromiter(placed, np.int64, len(placed)), self._encoder.encode(list(placed.values()))
