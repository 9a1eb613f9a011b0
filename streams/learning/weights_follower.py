"""weights -> generations: follow the topic from its beginning and hand over each complete generation.

Runs inside Triton's backend and inside the worker: it takes plain values and imports neither torch nor Faust.
"""

import threading
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from confluent_kafka import OFFSET_BEGINNING, Consumer, KafkaException, Message, TopicPartition

from engine.weights import Generation, GenerationAssembler

_BATCH = 1000
_POLL_SECONDS = 0.2
_MEMORY_KILOBYTES = 16 * 1024


class WeightsFollower:
    """A thread that applies generations; one that is broken is rejected and counted, and the next one is taken.

    Args:
        client: librdkafka's settings of the connection.
        topic: the topic `weights`.
        slots: which are followed, of `champion` and `challenger`.
        apply: takes a generation; an exception, as WeightsError, rejects it.
        drop: takes the name of a slot that is withdrawn.
        tables: names of the tables wanted, None for all and the dense tensors.
        report: takes a sentence about each rejected record.
    """

    def __init__(
        self,
        client: Mapping[str, Any],
        topic: str,
        slots: Sequence[str],
        apply: Callable[[Generation], None],
        *,
        drop: Callable[[str], None] = lambda _: None,
        tables: frozenset[str] | None = None,
        report: Callable[[str], None] = lambda _: None,
    ) -> None:
        self.applied = 0
        self.rejected = 0
        self._client = dict(client)
        self._topic = topic
        self._assemblers = {slot: GenerationAssembler(slot, tables) for slot in slots}
        self._apply = apply
        self._drop = drop
        self._report = report
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._follow, name="weights-follower", daemon=True)

    def start(self) -> None:
        """Begin; a Kafka that is not there yet is waited for."""
        self._thread.start()

    def stop(self) -> None:
        """End within a poll."""
        self._stop.set()
        self._thread.join()

    def _follow(self) -> None:
        consumer = Consumer(
            {
                "group.id": "headrace-weights",  # librdkafka wants one; nothing is committed under it
                "enable.auto.commit": False,
                "auto.offset.reset": "earliest",
                "isolation.level": "read_committed",
                "queued.max.messages.kbytes": _MEMORY_KILOBYTES,
                "topic.metadata.refresh.interval.ms": 5000,
                **self._client,
            }
        )
        consumer.assign([TopicPartition(self._topic, 0, OFFSET_BEGINNING)])
        try:
            while not self._stop.is_set():
                for message in self._messages(consumer):
                    self._take(message)
        finally:
            consumer.close()

    def _messages(self, consumer: Consumer) -> list[Message]:
        try:
            # consume() alone would wait for a full batch; poll() returns with the first message
            first = consumer.poll(_POLL_SECONDS)
            messages: list[Message] = [first, *consumer.consume(_BATCH, 0)] if first else []
        except KafkaException as exc:
            self._report(f"{self._topic} cannot be read: {exc}")
            self._stop.wait(_POLL_SECONDS)
            return []
        return [message for message in messages if message.error() is None]

    def _take(self, message: Message) -> None:
        key = (message.key() or b"").decode(errors="replace")
        slot = key.partition("/")[0]
        if slot not in self._assemblers:
            return
        try:
            generation = self._assemblers[slot].feed(key, message.value())
            if message.value() is None:
                self._drop(slot)
            if generation is not None:
                self._apply(generation)
                self.applied += 1
        except Exception as exc:  # noqa: BLE001 - a thread that ended here would leave old weights serving, unseen
            self.rejected += 1
            self._report(f"{self._topic} at offset {message.offset()} is rejected: {exc or exc!r}")
