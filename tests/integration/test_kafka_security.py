"""The security settings reach librdkafka, kafka-python and aiokafka alike: each passes a real listener that insists."""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from uuid import uuid4

import aiokafka.errors
import kafka.errors
import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from confluent_kafka import Consumer, KafkaException, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic
from faust.transport.drivers.aiokafka import credentials_to_aiokafka_auth
from kafka import KafkaConsumer, KafkaProducer

from streams.kafka.clients import faust_credentials, kafka_python_config, librdkafka_config
from streams.settings import Settings
from tests.integration.secure_broker import SecureBroker

pytestmark = pytest.mark.integration

Client = Callable[[Settings, str, bytes], tuple[bool, bytes]]
"""Settings, topic, value -> whether the topic is listed, and the value that was read after it was written."""


def by_librdkafka(settings: Settings, topic: str, value: bytes) -> tuple[bool, bytes]:
    listed = topic in AdminClient(librdkafka_config(settings)).list_topics(timeout=3).topics
    producer = Producer(librdkafka_config(settings))
    producer.produce(topic, value)
    assert producer.flush(10) == 0
    consumer = Consumer(librdkafka_config(settings, group_id="unused"))
    consumer.assign([TopicPartition(topic, 0, 0)])
    message = consumer.poll(10)
    consumer.close()
    assert message
    return listed, bytes(message.value() or b"")


def by_kafka_python(settings: Settings, topic: str, value: bytes) -> tuple[bool, bytes]:
    config = kafka_python_config(settings, bootstrap_timeout_ms=3000)
    producer = KafkaProducer(**config)
    producer.send(topic, value).get(10)
    producer.close()
    consumer = KafkaConsumer(topic, **config, auto_offset_reset="earliest", consumer_timeout_ms=10_000)
    listed, message = topic in consumer.topics(), next(consumer)
    consumer.close()
    return listed, bytes(message.value)


def by_aiokafka(settings: Settings, topic: str, value: bytes) -> tuple[bool, bytes]:
    """As Faust's driver makes its clients."""

    async def once() -> tuple[bool, bytes]:
        config = {
            "bootstrap_servers": settings.broker,
            **credentials_to_aiokafka_auth(faust_credentials(settings)),
        }
        async with AIOKafkaProducer(**config) as producer:
            await producer.send_and_wait(topic, value)
        async with AIOKafkaConsumer(topic, **config, auto_offset_reset="earliest") as consumer:
            return topic in await consumer.topics(), (await consumer.getone()).value

    return asyncio.run(asyncio.wait_for(once(), 20))


CLIENTS = [by_librdkafka, by_kafka_python, by_aiokafka]


@pytest.fixture
def topic(secure_broker: SecureBroker) -> str:
    name = uuid4().hex
    admin = AdminClient({"bootstrap.servers": secure_broker.address, "log_level": 2})
    [done] = admin.create_topics([NewTopic(name, 1, 1)]).values()
    done.result(20)
    return name


@pytest.mark.parametrize("client", CLIENTS)
@pytest.mark.parametrize(
    ("protocol", "mechanism"),
    [
        ("SSL", None),
        ("SASL_SSL", "PLAIN"),
        ("SASL_SSL", "SCRAM-SHA-512"),
        ("SASL_PLAINTEXT", "PLAIN"),
        ("SASL_PLAINTEXT", "SCRAM-SHA-256"),
    ],
)
def test_a_client_lists_writes_and_reads(
    secure_broker: SecureBroker, topic: str, client: Client, protocol: str, mechanism: str | None
) -> None:
    assert client(secure_broker.settings(protocol, mechanism), topic, b"hello") == (True, b"hello")


def test_no_client_passes_with_less(secure_broker: SecureBroker, topic: str) -> None:
    settings = [
        secure_broker.settings("SSL", ssl_certfile=None, ssl_keyfile=None),
        secure_broker.settings("SASL_SSL", "PLAIN", ssl_cafile=None),
        secure_broker.settings("SASL_PLAINTEXT", "PLAIN", sasl_password="guess"),  # noqa: S106 - it is refused
    ]
    attempts = [(client, less) for client in CLIENTS for less in settings]
    with ThreadPoolExecutor(len(attempts)) as pool:  # most of them try for 3 s
        results = [pool.submit(client, less, topic, b"hello") for client, less in attempts]
    for result in results:
        with pytest.raises((KafkaException, kafka.errors.KafkaError, aiokafka.errors.KafkaError)):
            result.result()
