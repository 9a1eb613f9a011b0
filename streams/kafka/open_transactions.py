"""Kafka's transactions -> those that hold up Headrace: nothing behind an open one can be read.

By kafka-python, whose admin client has these requests; librdkafka's has none of them.
"""

import time
from dataclasses import dataclass

from kafka import KafkaAdminClient
from kafka.errors import KafkaError

from streams.errors import StartError
from streams.kafka.clients import kafka_python_config
from streams.settings import Settings
from streams.topics import SPECS


@dataclass(frozen=True, slots=True)
class OpenTransaction:
    """A transaction that has begun to write to Headrace's topics and has not ended."""

    transactional_id: str
    """Of the producer."""
    topics: tuple[str, ...]
    """Full names."""
    seconds: float
    """Since it began, by this machine's clock."""

    def __str__(self) -> str:
        return (
            f"The transaction of producer {self.transactional_id} has been open for {self.seconds:.0f} s, and nothing "
            f"behind it in {' and '.join(self.topics)} can be read."
        )


def open_transactions(settings: Settings, seconds: float) -> list[OpenTransaction]:
    """Return the transactions on Headrace's topics that have been open for at least so many seconds, oldest first.

    Raises:
        StartError: the brokers do not answer, or do not know such a request (before Kafka 3.0), or refuse it.
    """
    try:
        admin = KafkaAdminClient(**kafka_python_config(settings))
        try:
            listed = admin.list_transactions(state_filters=["Ongoing"])
            names = [one.transactional_id for some in listed.values() for one in some]
            described = admin.describe_transactions(names) if names else {}
        finally:
            admin.close()
    except KafkaError as exc:
        raise StartError(f"Kafka does not tell which transactions are open ({exc!r}).") from exc
    found = [_of(settings, name, one) for name, one in described.items()]
    return sorted((one for one in found if one.topics and one.seconds >= seconds), key=lambda one: -one.seconds)


def _of(settings: Settings, transactional_id: str, described: object) -> OpenTransaction:
    topics = {place.topic for place in described.topic_partitions}  # type: ignore[attr-defined] # it ships no types
    ours = tuple(sorted(topics & {settings.topics.named(spec.name) for spec in SPECS}))
    began: int = described.transaction_start_time_ms  # type: ignore[attr-defined]
    return OpenTransaction(transactional_id, ours, max(0.0, time.time() - began / 1000))
