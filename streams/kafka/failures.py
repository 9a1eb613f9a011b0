"""what a consumer is told beside records -> whether it passes, or records are damaged; all else stops the reader."""

from typing import Final

from confluent_kafka import KafkaError

# ruff: noqa: SLF001 - librdkafka's own codes are public and begin with an underscore
_AWAY: Final = frozenset({
    KafkaError._TRANSPORT, KafkaError._ALL_BROKERS_DOWN, KafkaError._RESOLVE, KafkaError._TIMED_OUT,
    KafkaError.REQUEST_TIMED_OUT, KafkaError.NETWORK_EXCEPTION, KafkaError.BROKER_NOT_AVAILABLE,
})  # fmt: skip
_MISSING: Final = frozenset({
    KafkaError.UNKNOWN_TOPIC_OR_PART, KafkaError._UNKNOWN_TOPIC, KafkaError._UNKNOWN_PARTITION,
    KafkaError.UNKNOWN_TOPIC_ID,
})  # fmt: skip
_DAMAGED: Final = frozenset({KafkaError._BAD_MSG, KafkaError._BAD_COMPRESSION, KafkaError.INVALID_MSG})


def is_passing(error: KafkaError) -> bool:
    """Whether the client tries again by itself, or it is no error at all."""
    code = error.code()
    return bool(code in _AWAY or code == KafkaError._PARTITION_EOF or (error.retriable() and code not in _MISSING))


def is_damage(error: KafkaError) -> bool:
    """Whether records arrived that cannot be read."""
    return error.code() in _DAMAGED
