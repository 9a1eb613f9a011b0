"""topics -> how large a record each of them takes, so that what is sent can be bounded before Kafka refuses it."""

from collections.abc import Iterable, Mapping
from typing import Final

import structlog
from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient, ConfigResource, ResourceType

from streams.errors import RejectedEventError
from streams.kafka.clients import librdkafka_config
from streams.settings import Settings
from streams.topics import SPECS

DEFAULT_BYTES: Final = 1_048_588
"""Kafka's own max.message.bytes."""
_OVERHEAD_BYTES: Final = 512
"""Of a batch of one record, beside its key, value and headers: 61, some 20 of the record, and room for more."""
_SECONDS: Final = 10.0

_log = structlog.get_logger()


class RecordTooLargeError(RejectedEventError):
    """A topic does not take a record of that size."""

    def __init__(self, topic: str, size_bytes: int, limit_bytes: int | None) -> None:
        limit = "less" if limit_bytes is None else f"up to {limit_bytes}"
        super().__init__(
            "too_large",
            f"a record for {topic} has {size_bytes} bytes, the topic takes {limit}; raise max.message.bytes",
        )


class RecordLimits:
    """By topic, the bytes that key, value and headers of a record may have together."""

    def __init__(self, max_message_bytes: Mapping[str, int] | None = None) -> None:
        self._limits = {topic: limit - _OVERHEAD_BYTES for topic, limit in (max_message_bytes or {}).items()}

    def of(self, topic: str) -> int:
        """Return a topic's limit."""
        return self._limits.get(topic, DEFAULT_BYTES - _OVERHEAD_BYTES)

    def check(self, topic: str, size_bytes: int) -> None:
        """Make sure that a topic takes a record.

        Raises:
            RecordTooLargeError: it does not.
        """
        if size_bytes > self.of(topic):
            raise RecordTooLargeError(topic, size_bytes, self.of(topic))


def read_limits(settings: Settings, topics: Iterable[str]) -> RecordLimits:
    """Return the limits that Kafka tells; where it tells none, what Headrace sets, or Kafka's own."""
    admin = AdminClient(librdkafka_config(settings))
    asked = admin.describe_configs([ConfigResource(ResourceType.TOPIC, topic) for topic in topics])
    found = {
        settings.topics.named(spec.name): int(spec.config["max.message.bytes"])
        for spec in SPECS
        if "max.message.bytes" in spec.config
    }
    for resource, future in asked.items():
        try:
            found[resource.name] = int(future.result(_SECONDS)["max.message.bytes"].value)
        except KafkaException as exc:
            if exc.args[0].name() != "UNKNOWN_TOPIC_OR_PART":
                _log.warning("topic_not_described", topic=resource.name, reason=exc.args[0].str())
    return RecordLimits(found)
