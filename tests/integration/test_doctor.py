"""B.4: what the doctor says of records that producers put where nobody looks, on a real Kafka."""

import json
from uuid import uuid4

import pytest
from confluent_kafka import Producer

from streams.commands.doctor import State, examine
from streams.kafka.misplaced import samples
from streams.kafka.topic_setup import ensure_topics
from streams.local.local_broker import LocalBroker
from streams.settings import Settings

pytestmark = pytest.mark.integration


def send(settings: Settings, partitioner: str, key: str) -> None:
    producer = Producer({"bootstrap.servers": settings.broker, "log_level": 2, "partitioner": partitioner})
    for number in range(40):
        event = {"user_id": f"u{number}", "event_id": uuid4().hex, "item_id": "i1", "type": "view", "timestamp": 1}
        producer.produce(settings.topics.interactions, json.dumps(event), key.format(event["user_id"]) or None)
    producer.produce(settings.topics.interactions, b"no event", "u1")
    assert producer.flush(10) == 0


@pytest.mark.parametrize(
    ("partitioner", "key", "right"),
    [
        ("murmur2_random", "{}", True),
        ("consistent_random", "{}", False),
        ("murmur2_random", '"{}"', False),
        ("murmur2_random", "", False),
    ],
)
def test_users_of_another_partitioner_or_key_are_a_finding(
    broker: LocalBroker, partitioner: str, key: str, *, right: bool
) -> None:
    settings = Settings(broker=broker.address, prefix=f"{uuid4().hex[:8]}.")
    ensure_topics(settings)
    send(settings, partitioner, key)
    [found] = samples(settings, ["interactions"])
    assert found.looked == 40
    assert (found.misplaced == 0) == right
    [keys] = [finding for finding in examine(settings) if finding.name == "keys"]
    assert keys.state is (State.OK if right else State.PROBLEM)
    assert right or "murmur2_random" in keys.remedy
