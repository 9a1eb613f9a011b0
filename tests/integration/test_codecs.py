"""A.5: whatever a topic is compressed with, by its producers or by the brokers, everybody reads it."""

from collections.abc import Iterator
from uuid import uuid4

import pytest
from confluent_kafka import Producer
from confluent_kafka.admin import AdminClient, AlterConfigOpType, ConfigEntry, ConfigResource, ResourceType

from streams.kafka.clients import librdkafka_config
from streams.kafka.topic_reader import reader, to_the_end
from streams.local.local_broker import LocalBroker
from tests.integration.real_worker import Deployment, deployment, now_ms

pytestmark = pytest.mark.integration

CODECS = ["gzip", "snappy", "lz4", "zstd"]


@pytest.fixture(scope="module")
def real(broker: LocalBroker, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deployment]:
    with deployment(broker.address, tmp_path_factory.mktemp("codecs")) as made:
        made.start()
        yield made


def compress(real: Deployment, topic: str, codec: str) -> None:
    """Let the brokers compress a topic, or take it as its producers compress it (`producer`)."""
    entry = ConfigEntry("compression.type", codec, incremental_operation=AlterConfigOpType.SET)
    resource = ConfigResource(ResourceType.TOPIC, real.prefix + topic, incremental_configs=[entry])
    admin = AdminClient({"bootstrap.servers": real.broker, "log_level": 2})
    [done] = admin.incremental_alter_configs([resource]).values()
    done.result(20)


def clicks(user_id: str, count: int) -> list[bytes]:
    """Return events as large as JSON is in practice: several of the blocks that snappy and lz4 cut their input into."""
    head = f'{{"event_id": "{uuid4().hex}-%d", "user_id": "{user_id}", "item_id": "i%d", "type": "click", '
    return [
        (head % (n, n) + f'"timestamp": {now_ms()}, "context": {{"text": "{"é" * 200}"}}}}').encode()
        for n in range(count)
    ]


@pytest.mark.parametrize("codec", CODECS)
@pytest.mark.parametrize("by", ["producer", "broker"])
def test_a_worker_folds_events_and_recovers_its_states(real: Deployment, codec: str, by: str) -> None:
    for topic in ("interactions", "workers-histories-changelog", "rows", "items"):
        compress(real, topic, codec if by == "broker" else "producer")
    user_id = f"{codec}-{by}"
    producer = Producer(
        {
            "bootstrap.servers": real.broker, "log_level": 2, "partitioner": "murmur2_random", "linger.ms": 200,
            "compression.type": codec if by == "producer" else "none",
        }
    )  # fmt: skip
    for value in clicks(user_id, 600):
        producer.produce(f"{real.prefix}interactions", value, user_id)
    assert producer.flush(20) == 0
    [worker] = real.workers
    position = real.click(user_id, "last")
    assert worker.history(user_id, position)[-2:] == ["i599", "last"]


@pytest.mark.parametrize("codec", CODECS)
def test_a_reader_of_librdkafka_reads_them(real: Deployment, codec: str) -> None:
    compress(real, "decisions", codec)
    sent = [f"{codec} {number}" * 50 for number in range(200)]
    for value in sent:
        real.queue("decisions", codec, value.encode())
    real.flush()
    consumer = reader(librdkafka_config(real.settings), real.settings.topics.decisions)
    got = [message.value().decode() for message in to_the_end(consumer) if message.key() == codec.encode()]
    consumer.close()
    assert got == sent


def test_a_worker_with_an_empty_disk_recovers_what_the_brokers_compressed(real: Deployment) -> None:
    histories = {
        f"{codec}-{by}": real.workers[0].history(f"{codec}-{by}") for codec in CODECS for by in ("producer", "broker")
    }
    real.workers[0].child.stop()
    fresh = real.start()
    assert {user_id: fresh.history(user_id) for user_id in histories} == histories
