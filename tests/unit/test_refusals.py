"""A.5: a sentence about Kafka names who is to blame: one that says no is not one that does not answer."""

import asyncio
from types import SimpleNamespace

import pytest
from confluent_kafka import KafkaError, KafkaException

from streams.kafka.outputs import Delivery
from streams.kafka.record_limits import RecordTooLargeError
from streams.kafka.refusals import refusal
from streams.settings import Settings


@pytest.mark.parametrize(
    ("code", "said"),
    [
        (KafkaError._TIMED_OUT, "does not answer"),
        (KafkaError._ALL_BROKERS_DOWN, "does not answer"),
        (KafkaError._AUTHENTICATION, "does not let Headrace in"),
        (KafkaError.TOPIC_AUTHORIZATION_FAILED, "give the user of HEADRACE_KAFKA__SASL_USERNAME the right"),
        (KafkaError.INVALID_REPLICATION_FACTOR, "set HEADRACE_KAFKA__REPLICATION_FACTOR"),
        (KafkaError.MSG_SIZE_TOO_LARGE, "max.message.bytes"),
        (KafkaError.KAFKA_STORAGE_ERROR, "refuses"),
    ],
)
def test_each_kind_of_error_has_its_own_remedy(code: int, said: str) -> None:
    sentence = str(refusal(Settings(), KafkaException(KafkaError(code, "the broker's word"))))
    assert said in sentence
    assert "the broker's word" in sentence
    assert ("does not answer" in sentence) == (said == "does not answer")


async def test_a_record_that_is_too_large_names_its_topic_and_not_the_brokers() -> None:
    delivery = Delivery(asyncio.get_running_loop())
    failure = KafkaError(KafkaError.MSG_SIZE_TOO_LARGE)
    delivery.sent = 1
    delivery.on_delivery(failure, SimpleNamespace(topic=lambda: "shop.examples", value=lambda: b"12345"))  # type: ignore[arg-type]
    with pytest.raises(RecordTooLargeError, match=r"shop.examples has 5 bytes, .* raise max.message.bytes"):
        await delivery.seal().acknowledged()
