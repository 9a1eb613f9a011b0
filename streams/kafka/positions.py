"""what the workers have read -> what the brokers have lost of it, or threw away before it was read.

Brokers that elect a leader that was behind lose the end of a partition, and give its offsets to new events: those would
be taken for events that were read already.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Final

from confluent_kafka import ConsumerGroupTopicPartitions, IsolationLevel, KafkaException, TopicPartition
from confluent_kafka.admin import AdminClient, OffsetSpec

from streams.kafka.clients import librdkafka_config
from streams.kafka.refusals import refusal
from streams.settings import Settings

_SECONDS: Final = 10.0


@dataclass(frozen=True, slots=True)
class Place:
    """How far the workers are in a partition."""

    topic: str
    partition: int
    read: int
    """Next offset."""
    begin: int
    end: int


def places(settings: Settings, names: Iterable[str]) -> list[Place]:
    """Return how far the workers' group is, in the partitions of which it has committed anything.

    Raises:
        StartError: Kafka does not answer or refuses.
    """
    wanted = {settings.topics.named(name) for name in names}
    try:
        admin = AdminClient(librdkafka_config(settings))
        group = ConsumerGroupTopicPartitions(settings.topics.workers)
        [asked] = admin.list_consumer_group_offsets([group], request_timeout=_SECONDS).values()
        read = {(tp.topic, tp.partition): tp.offset for tp in asked.result(_SECONDS).topic_partitions if tp.offset >= 0}
        read = {place: offset for place, offset in read.items() if place[0] in wanted}
        if not read:
            return []
        begin, end = (_offsets(admin, read, spec) for spec in (OffsetSpec.earliest(), OffsetSpec.latest()))
    except KafkaException as exc:
        raise refusal(settings, exc) from exc
    return [Place(*place, offset, begin[place], end[place]) for place, offset in read.items()]


def _offsets(admin: AdminClient, places: Iterable[tuple[str, int]], spec: Any) -> dict[tuple[str, int], int]:  # noqa: ANN401
    asked = admin.list_offsets(
        {TopicPartition(*place): spec for place in places},
        isolation_level=IsolationLevel.READ_UNCOMMITTED,
        request_timeout=_SECONDS,
    )
    return {(tp.topic, tp.partition): future.result(_SECONDS).offset for tp, future in asked.items()}
