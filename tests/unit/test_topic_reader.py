"""Reading to the end stops at the end only: what goes wrong on the way is waited out."""

from types import SimpleNamespace
from typing import Any

from confluent_kafka import KafkaError

from streams.kafka.topic_reader import to_the_end


def record(value: bytes) -> Any:
    return SimpleNamespace(error=lambda: None, value=lambda: value)


def error(code: int) -> Any:
    return SimpleNamespace(error=lambda: KafkaError(code))


def test_an_error_on_the_way_is_not_the_end() -> None:
    polled = [
        error(KafkaError._TRANSPORT), record(b"a"), None, error(KafkaError._ALL_BROKERS_DOWN), record(b"b"),
        error(KafkaError._PARTITION_EOF), record(b"later"),
    ]  # fmt: skip
    consumer: Any = SimpleNamespace(poll=lambda _: polled.pop(0))
    assert [found.value() for found in to_the_end(consumer)] == [b"a", b"b"]
