"""A topic of one partition is followed from its beginning, or read to what is its end now; silence is not the end."""

import threading
from uuid import uuid4

import pytest
from confluent_kafka import Message, Producer
from confluent_kafka.admin import AdminClient, NewTopic

from streams.errors import StartError
from streams.followers.follower import Follower
from streams.kafka import topic_reader
from streams.kafka.topic_reader import reader, to_the_end
from streams.local.local_broker import LocalBroker
from streams.local.processes import free_port

pytestmark = pytest.mark.integration


def write(broker: LocalBroker, topic: str, *values: bytes | None) -> None:
    client = {"bootstrap.servers": broker.address, "log_level": 2}
    admin = AdminClient(client)  # held: its end would cancel what it has begun
    admin.create_topics([NewTopic(topic, 1, 1)])[topic].result(20)
    producer = Producer(client)
    for value in values:
        producer.produce(topic, value, b"key", 0)
    assert producer.flush(20) == 0


def test_it_is_read_from_a_position_to_its_end(broker: LocalBroker) -> None:
    write(broker, topic := uuid4().hex, b"a", b"b", b"c")
    consumer = reader({"bootstrap.servers": broker.address, "log_level": 2}, topic, 1)
    assert [record.value() for record in to_the_end(consumer)] == [b"b", b"c"]
    consumer.close()


def test_a_kafka_that_is_away_is_not_taken_for_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(topic_reader, "_SILENT_SECONDS", 1.0)
    consumer = reader({"bootstrap.servers": f"127.0.0.1:{free_port()}", "log_level": 0}, "any")
    with pytest.raises(StartError, match="does not answer"):
        list(to_the_end(consumer))
    consumer.close()


def test_a_follower_takes_every_record_in_order_also_of_a_topic_that_is_made_later(broker: LocalBroker) -> None:
    taken: list[bytes] = []
    whole = threading.Event()

    def take(record: Message) -> None:
        taken.append(record.value() or b"")
        if len(taken) == 3:
            whole.set()

    follower = Follower({"bootstrap.servers": broker.address, "log_level": 0}, topic := uuid4().hex, take)
    follower.start()
    write(broker, topic, b"a", b"b", b"c")
    assert whole.wait(30)
    follower.stop()
    assert taken == [b"a", b"b", b"c"]


def test_a_follower_takes_a_tombstone_that_comes_alone(broker: LocalBroker) -> None:
    """A message without a value is false in Python: a slot that was withdrawn alone went on serving."""
    taken: list[bytes | None] = []
    done = threading.Event()

    def take(record: Message) -> None:
        taken.append(record.value())
        done.set()

    write(broker, topic := uuid4().hex, None)
    follower = Follower({"bootstrap.servers": broker.address, "log_level": 0}, topic, take)
    follower.start()
    assert done.wait(30)
    follower.stop()
    assert taken == [None]
