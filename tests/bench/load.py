"""Events for the benchmarks: written once a topic, the same for every contestant."""

import random
import time
from collections.abc import Iterable, Iterator, Sequence

from confluent_kafka import Consumer, KafkaException, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic

from streams.records import Interaction, encode


def interaction_of(number: int, users: int, items: int, draw: random.Random, skew: float = 1.0) -> Interaction:
    """Return one event of a shop, uniform or with items of different popularity: the first ones the most."""
    return Interaction(
        f"e{number}",
        f"u{draw.randrange(users)}",
        f"i{int(items * draw.random() ** skew)}",
        "click",
        int(time.time() * 1000),
    )


def fill(broker: str, topic: str, events: int, users: int, partitions: int = 4, items: int = 4000) -> None:
    """Create the topic and write the events, as a fast producer would."""
    create(broker, topic, partitions)
    send(broker, topic, records(events, users, items))


def create(broker: str, topic: str, partitions: int) -> None:
    """Create a topic."""
    admin = AdminClient({"bootstrap.servers": broker})
    for future in admin.create_topics([NewTopic(topic, partitions, 1)]).values():
        future.result(20)


def records(events: int, users: int, items: int = 4000) -> Iterator[tuple[bytes, bytes]]:
    """Yield keys and values."""
    draw = random.Random(1)
    for number in range(events):
        event = interaction_of(number, users, items, draw)
        yield event.user_id.encode(), encode(event)


def send(broker: str, topic: str, events: Iterable[tuple[bytes, bytes]]) -> None:
    """Write keys and values."""
    producer = Producer(
        {
            "bootstrap.servers": broker,
            "partitioner": "murmur2_random",
            "linger.ms": 20,
            "queue.buffering.max.messages": 2_000_000,
        }
    )
    for number, (key, value) in enumerate(events):
        producer.produce(topic, value, key)
        if number % 10_000 == 0:
            producer.poll(0)
    producer.flush()


class Watch:
    """Reads how far a group has committed and where a topic ends."""

    def __init__(self, broker: str, group: str, topic: str, partitions: int) -> None:
        self._consumer = Consumer({"bootstrap.servers": broker, "group.id": group})
        self._partitions = [TopicPartition(topic, number) for number in range(partitions)]

    def committed(self) -> int:
        """Return the events that the group has done with."""
        try:
            return sum(max(0, found.offset) for found in self._consumer.committed(self._partitions, 20))
        except KafkaException:  # the group has no coordinator before its first member
            return 0

    def written(self) -> int:
        """Return the records in the topic."""
        try:
            return sum(self._consumer.get_watermark_offsets(p, 20)[1] for p in self._partitions)
        except KafkaException:  # the contestant creates its changelog itself
            return 0

    def close(self) -> None:
        """Let go of the connection."""
        self._consumer.close()


class Together:
    """Several watches as one."""

    def __init__(self, watches: Sequence[Watch]) -> None:
        self._watches = watches

    def committed(self) -> int:
        """Return the events that the groups have done with, together."""
        return sum(watch.committed() for watch in self._watches)

    def written(self) -> int:
        """Return the records in the topics, together."""
        return sum(watch.written() for watch in self._watches)

    def close(self) -> None:
        """Let go of the connections."""
        for watch in self._watches:
            watch.close()
