"""decisions -> slots: which users a canary serves, by a stable hash of the user, from the decision in force."""

import threading
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import msgspec
import structlog
from confluent_kafka import OFFSET_BEGINNING, Consumer, KafkaException, TopicPartition
from xxhash import xxh3_64_intdigest

from engine.weights import CHALLENGER, CHAMPION
from streams.records import DecisionRecord, decoder

log = structlog.get_logger()

_POLL_SECONDS: Final = 0.2
_DECISION: Final = decoder(DecisionRecord)


@dataclass(frozen=True)
class Routing:
    """A share of the users, each canary another one."""

    share: float = 0.0
    salt: int = 0

    def slot_of(self, user_id: str) -> str:
        """Return the slot that serves a user, the same on every worker and after every restart.

        >>> Routing(0.0).slot_of("u1"), Routing(1.0).slot_of("u1")
        ('champion', 'challenger')
        """
        return CHALLENGER if xxh3_64_intdigest(user_id.encode(), self.salt) < self.share * 2**64 else CHAMPION


class DecisionFollower:
    """A thread that keeps the routing of the newest decision; without any, the champion serves everybody.

    Args:
        client: librdkafka's settings of the connection.
        topic: the topic `decisions`.
    """

    def __init__(self, client: Mapping[str, Any], topic: str) -> None:
        self.routing = Routing()
        self._client = dict(client)
        self._topic = topic
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._follow, name="decision-follower", daemon=True)

    def start(self) -> None:
        """Begin; a Kafka that is not there yet is waited for."""
        self._thread.start()

    def stop(self) -> None:
        """End within a poll."""
        self._stop.set()
        self._thread.join()

    def slot_of(self, user_id: str) -> str:
        """Return the slot that serves a user now."""
        return self.routing.slot_of(user_id)

    def _follow(self) -> None:
        consumer = Consumer(
            {
                "group.id": "headrace-decisions",  # librdkafka wants one; nothing is committed under it
                "enable.auto.commit": False,
                "isolation.level": "read_committed",
                **self._client,
            }
        )
        consumer.assign([TopicPartition(self._topic, 0, OFFSET_BEGINNING)])
        try:
            while not self._stop.is_set():
                try:
                    message = consumer.poll(_POLL_SECONDS)
                except KafkaException as exc:
                    log.warning("decisions-unreadable", why=str(exc))
                    self._stop.wait(_POLL_SECONDS)
                    continue
                if message is not None and message.error() is None:
                    self._take(message.key(), message.value())
        finally:
            consumer.close()

    def _take(self, key: bytes | None, value: bytes | None) -> None:
        if key != CHAMPION.encode() or value is None:
            return
        try:
            decision = _DECISION.decode(value)
        except msgspec.DecodeError as exc:
            log.warning("decision-rejected", why=str(exc))
            return
        self.routing = Routing(decision.canary, decision.salt)
