"""decisions -> slots: which users a canary serves, by a stable hash of the user, from the decision in force."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import structlog
from confluent_kafka import Message
from xxhash import xxh3_64_intdigest

from engine.weights import CHALLENGER, CHAMPION
from streams.decoding import decode_strictly, decoder
from streams.errors import RejectedEventError
from streams.followers.follower import Follower
from streams.records import DecisionRecord

log = structlog.get_logger()

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
    """Keeps the routing of the newest decision; without any, the champion serves everybody.

    Args:
        client: librdkafka's settings of the connection.
        topic: the topic `decisions`.
    """

    def __init__(self, client: Mapping[str, Any], topic: str) -> None:
        self.routing = Routing()
        self._follower = Follower(client, topic, self._take, lambda why: log.warning("decisions", why=why))
        self.start = self._follower.start
        self.check = self._follower.check
        self.stop = self._follower.stop

    def slot_of(self, user_id: str) -> str:
        """Return the slot that serves a user now."""
        return self.routing.slot_of(user_id)

    def _take(self, record: Message) -> None:
        if record.key() != CHAMPION.encode() or record.value() is None:
            return
        try:
            decision = decode_strictly(_DECISION, record.value())
        except RejectedEventError as exc:
            log.warning("decision-rejected", why=str(exc))
            return
        self.routing = Routing(decision.canary, decision.salt)
