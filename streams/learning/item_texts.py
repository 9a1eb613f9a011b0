"""items -> text vectors by row: what the catalogue says of an item, for the learner.

Nothing is kept: the topic is compacted, so a learner that starts reads what every item says now.
"""

import time
from typing import Final

import numpy as np
from confluent_kafka import KafkaError, Message
from numpy.typing import NDArray

from engine.text import TextEncoder
from streams.catalogue.row_log import RowLog
from streams.errors import RejectedEventError, StartError
from streams.kafka.clients import librdkafka_config
from streams.kafka.topic_reader import reader
from streams.records import Item, decode, decoder
from streams.settings import Settings

_ITEM: Final = decoder(Item)
_BATCH: Final = 10_000
_SECONDS: Final = 20.0
_AGAIN_SECONDS: Final = 0.1
"""An item whose row no worker has appended yet is looked for again after so long."""

Described = tuple[NDArray[np.int64], NDArray[np.float16]]
"""Rows and their text vectors."""


class ItemTexts:
    """The topic `items`, read from its beginning."""

    def __init__(self, settings: Settings, rows: RowLog, encoder: TextEncoder) -> None:
        self._rows = rows
        self._encoder = encoder
        self._topic = settings.topics.items
        self._waiting: dict[str, str] = {}
        """Text of items that have no row yet."""
        self._looked = 0.0
        self._consumer = reader(librdkafka_config(settings, fetch_wait_max_ms=20), self._topic)

    def all(self) -> Described:
        """Return what the topic holds now of items that have a row.

        Raises:
            StartError: Kafka does not answer.
        """
        deadline = time.monotonic() + _SECONDS
        while not self._read(0.2):
            if time.monotonic() > deadline:
                raise StartError(f"Reading {self._topic} took more than {_SECONDS:.0f} s; check the brokers.")
        return self._placed()

    def new(self) -> Described:
        """Return what has come in since, without waiting for more."""
        self._read(0.0)
        return self._placed()

    def close(self) -> None:
        """Let go of the connection."""
        self._consumer.close()

    def _read(self, wait_seconds: float) -> bool:
        """Take what is there; tell whether that was the end of the topic."""
        first = self._consumer.poll(wait_seconds)  # consume() alone would wait for a whole batch
        records = [first, *self._consumer.consume(_BATCH, 0)] if first else []
        for record in records:
            if record.error() is None and record.value() is not None:
                self._take(record)
        return any(record.error() and record.error().code() == KafkaError._PARTITION_EOF for record in records)  # noqa: SLF001 - its name

    def _take(self, record: Message) -> None:
        try:
            item = decode(_ITEM, record.value())
        except RejectedEventError:
            return  # the agent that adds items dead-letters it
        self._waiting[item.item_id] = f"{item.title} {item.category} {item.text}"

    def _placed(self) -> Described:
        """Encode those that have a row; the others go on waiting."""
        if self._waiting and time.monotonic() >= self._looked + _AGAIN_SECONDS:
            rows = dict(zip(self._waiting, self._rows.of(self._waiting), strict=True))
            self._looked = time.monotonic() if 0 in rows.values() else 0.0
            placed = {row: self._waiting.pop(item_id) for item_id, row in rows.items() if row}
        else:
            placed = {}
        return np.fromiter(placed, np.int64, len(placed)), self._encoder.encode(list(placed.values()))
