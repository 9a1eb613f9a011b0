"""Numbered events at a set rate, onto a Kafka that may be down.

An event's number is its event time, so each place that keeps an event also keeps its number: start + number, in
milliseconds. Users come and go: most events are of a few dozen users who are active now, the others of any user so far.
A user's next event can mend what a defect did to the one before; passing users do not come back.
"""

import random
import threading
import time
from typing import Final

from confluent_kafka import Producer

from streams.kafka.clients import librdkafka_config
from streams.records import Interaction, encode
from streams.settings import Settings

MOST_EVENTS: Final = 100
"""Of one user; histories must be longer than that, or events would be trimmed that look as if lost."""
_ACTIVE_USERS: Final = 60
_RETURNING_SHARE: Final = 0.3
_ITEMS: Final = 400
_TYPES: Final = ("view", "click", "cart", "purchase")


class Feed:
    """A thread that sends until it is stopped; what Kafka does not take at once is kept and sent later.

    Args:
        settings: where to.
        rate: events a second.
        seed: of what is sent.
        passing: each user has one event.
    """

    def __init__(self, settings: Settings, rate: float, seed: int, *, passing: bool = False) -> None:
        self.start_ms = int(time.time() * 1000) - 86_400_000
        """Event time of number 0: long enough ago that no number lies in the future."""
        self.sent = 0
        self._random = random.Random(seed)
        self._rate = rate
        self._passing = passing
        self._topic = settings.topics.interactions
        self._producer = Producer(
            librdkafka_config(
                settings,
                acks="all",
                enable_idempotence=True,
                partitioner="murmur2_random",
                linger_ms=2,
                message_timeout_ms=600_000,
            )
        )
        self._events_of: dict[str, int] = {}
        self._active = [self._new_user() for _ in range(_ACTIVE_USERS)]
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="feed", daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def stop(self, seconds: float = 120.0) -> None:
        """End when Kafka has taken every event."""
        self._stop.set()
        self._thread.join()
        left = self._producer.flush(seconds)
        if left:
            raise RuntimeError(f"Kafka did not take {left} events in {seconds:.0f} s")

    def _run(self) -> None:
        began = time.monotonic()
        while not self._stop.wait(0.01):
            due = int((time.monotonic() - began) * self._rate)
            for number in range(self.sent, due):
                self._send(number)
            self._producer.poll(0)

    def _send(self, number: int) -> None:
        user = f"u{number}" if self._passing else self._user()
        event = Interaction(
            f"e{number}",
            user,
            f"i{self._random.randrange(_ITEMS)}",
            self._random.choice(_TYPES),
            self.start_ms + number,
        )
        self._producer.produce(self._topic, encode(event), user)
        self.sent = number + 1

    def _user(self) -> str:
        if self._random.random() < _RETURNING_SHARE:
            user = f"u{self._random.randrange(len(self._events_of))}"
        else:
            place = self._random.randrange(_ACTIVE_USERS)
            user = self._active[place]
            if self._random.random() < 1 / 20:
                self._active[place] = self._new_user()
        if self._events_of[user] >= MOST_EVENTS:
            user = self._new_user()
        self._events_of[user] += 1
        return user

    def _new_user(self) -> str:
        user = f"u{len(self._events_of)}"
        self._events_of[user] = 0
        return user
