"""a topic of one partition -> whoever wants its records: a thread reads it from the beginning, for as long as it runs.

Runs inside Triton's backend too: it takes plain values and imports neither torch nor Faust.
"""

import threading
from collections.abc import Callable, Mapping
from typing import Any, Final

from confluent_kafka import Consumer, KafkaException, Message

from streams.kafka.topic_reader import reader

_BATCH: Final = 1000
_POLL_SECONDS: Final = 0.2


class Follower:
    """A thread that hands over every record, from the topic's beginning on.

    Args:
        client: librdkafka's settings of the connection.
        topic: its full name.
        take: is given each record.
        report: takes a sentence when the topic cannot be read.
    """

    def __init__(
        self,
        client: Mapping[str, Any],
        topic: str,
        take: Callable[[Message], None],
        report: Callable[[str], None] = lambda _: None,
    ) -> None:
        self._client = client
        self._topic = topic
        self._take = take
        self._report = report
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._follow, name=f"follow-{topic}", daemon=True)

    def start(self) -> None:
        """Begin; a Kafka that is not there yet is waited for."""
        self._thread.start()

    def stop(self) -> None:
        """End within a poll."""
        self._stop.set()
        self._thread.join()

    def _follow(self) -> None:
        consumer = reader(self._client, self._topic)
        try:
            while not self._stop.is_set():
                for message in self._messages(consumer):
                    if message.error() is None:
                        self._take(message)
        finally:
            consumer.close()

    def _messages(self, consumer: Consumer) -> list[Message]:
        try:
            # consume() alone would wait for a full batch; poll() returns with the first message
            first = consumer.poll(_POLL_SECONDS)
            return [first, *consumer.consume(_BATCH, 0)] if first else []
        except KafkaException as exc:
            self._report(f"{self._topic} cannot be read: {exc}")
            self._stop.wait(_POLL_SECONDS)
            return []
