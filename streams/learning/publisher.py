"""generations -> weights: each in one Kafka transaction, under an id that fences whoever published before."""

import json
from collections.abc import Mapping, Sequence
from typing import Final

from confluent_kafka import KafkaError, KafkaException, Producer, TopicPartition

from engine.generations import Place, TouchedRows, encode_generation, end_facts, withdrawal
from engine.weights import CHAMPION, Weights
from streams.errors import HeadraceError, StartError
from streams.kafka.clients import librdkafka_config
from streams.kafka.topic_reader import END_MS, reader, to_the_end
from streams.settings import Settings

_SECONDS: Final = 20.0
_TAIL_RECORDS: Final = 2000
_FENCED: Final = (KafkaError._FENCED, KafkaError.PRODUCER_FENCED)  # noqa: SLF001 - its public name


class FencedError(HeadraceError):
    """Another learner has taken over: this one must stop, and nothing that it does reaches anybody."""


class NotPublishedError(HeadraceError):
    """A transaction was aborted: readers keep the generation before."""


class Publisher:
    """The one writer of `weights` and `decisions`.

    Raises:
        StartError: Kafka does not answer.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._weights = settings.topics.weights
        self._decisions = settings.topics.decisions
        self._places: dict[str, Place] = {}
        self._producer = Producer(
            librdkafka_config(
                settings,
                transactional_id=settings.topics.named("learner"),
                compression_type="none",  # weights are noise
                message_max_bytes=16 * 1024 * 1024,
                linger_ms=5,
                transaction_timeout_ms=int(_SECONDS * 1000),
            )
        )
        try:
            self._producer.init_transactions(_SECONDS)
        except KafkaException as exc:
            raise StartError(
                f"Kafka at {settings.broker} opens no transaction ({exc.args[0].str()}); check the broker."
            ) from exc

    def publish(
        self,
        weights: Weights,
        touched: TouchedRows | None,
        generation: int,
        version: int,
        *,
        learned: Mapping[int, int],
        slot: str = CHAMPION,
    ) -> int:
        """Publish a generation whole or not at all; return its bytes.

        Of a slot's first one, or with None for what was touched, all rows are written.

        The end mark says what it has learned: for each partition of `interactions` the next offset, so that anybody can
        tell from the topics how long an event took to be learned.

        Raises:
            FencedError: another learner has taken over.
            NotPublishedError: Kafka did not take it.
            KafkaException: Kafka never takes anything of this learner.
            WeightsError: a value is not finite; nothing was sent.
        """
        facts = {"learned": json.dumps({partition: last + 1 for partition, last in learned.items()})}
        before = self._places.pop(slot, None)  # gone unless this one is known to be committed: then all is written
        records, place = encode_generation(
            weights, slot, generation, version, facts=facts, touched=touched, before=before
        )
        self._commit([(self._weights, key, value) for key, value in records])
        self._places[slot] = place
        return sum(len(value) for _, value in records)

    def decide(self, records: Mapping[str, bytes], withdrawn: str | None = None) -> None:
        """Put a decision on `decisions`, under all its keys or none, and with it withdraw a slot.

        Raises:
            FencedError: another learner has taken over.
            NotPublishedError: Kafka did not take it.
        """
        gone = withdrawal(withdrawn) if withdrawn else []
        self._commit(
            [
                *((self._weights, key, value) for key, value in gone),
                *((self._decisions, key, value) for key, value in records.items()),
            ]
        )

    def last_generation(self) -> int:
        """Return the newest generation that is on the topic, 0 when there is none.

        Raises:
            StartError: Kafka does not answer.
        """
        consumer = reader(librdkafka_config(self._settings, fetch_wait_max_ms=END_MS), self._weights)
        try:
            low, high = consumer.get_watermark_offsets(TopicPartition(self._weights, 0), _SECONDS)
            # One generation of a large catalogue is longer than the tail.
            for begin in sorted({low, max(low, high - _TAIL_RECORDS)}, reverse=True):
                consumer.assign([TopicPartition(self._weights, 0, begin)])
                marks = (end_facts(record.key(), record.value()) for record in to_the_end(consumer))
                if found := [int(facts["generation"]) for facts in marks if facts]:
                    return max(found)
        finally:
            consumer.close()
        return 0

    def _commit(self, records: Sequence[tuple[str, str, bytes | None]]) -> None:
        producer = self._producer
        try:
            producer.begin_transaction()
            for topic, key, value in records:
                while True:
                    try:
                        producer.produce(topic, value, key, 0)
                        break
                    except BufferError:
                        producer.poll(0.01)
            producer.commit_transaction(_SECONDS)
        except KafkaException as exc:
            self._give_up(exc)

    def _give_up(self, exc: KafkaException) -> None:
        """Abort what can be aborted; the next publication carries the same rows again."""
        error: KafkaError = exc.args[0]
        if error.code() in _FENCED:
            raise FencedError(
                f"Another learner publishes under {self._settings.prefix}; this one stops. One prefix has one learner: "
                "stop the other, or set HEADRACE_PREFIX."
            ) from exc
        if error.fatal():  # as where the user may not write: nothing can be aborted, and whoever starts anew is told
            raise exc
        self._producer.abort_transaction(_SECONDS)
        raise NotPublishedError(f"Kafka did not take a generation ({error.str()}); it is sent again.") from exc
