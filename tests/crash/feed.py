"""Numbered events at a set rate, onto a Kafka that may be down; and what real producers do beside it.

An event's number is its event time, so each place that keeps an event also keeps its number: start + number, in
milliseconds. Users come and go: most events are of a few dozen users who are active now, the others of any user so far.
A user's next event can mend what a defect did to the one before; passing users do not come back.
"""

import random
import threading
import time
from collections.abc import Iterable
from typing import Final

from confluent_kafka import KafkaException, Producer

from streams.kafka.clients import librdkafka_config
from streams.records import Interaction, encode
from streams.settings import Settings

MOST_EVENTS: Final = 100
"""Of one user; histories must be longer than that, or events would be trimmed that look as if lost."""
HOT_EVENTS: Final = 15_000
"""Of a hot user: in one record of examples they would be more than Kafka takes by default."""
_LARGE_BYTES: Final = 1_000_000
_MOST_BYTES: Final = 1_048_000
"""A little below what Kafka takes by default."""
_ACTIVE_USERS: Final = 60
_RETURNING_SHARE: Final = 0.3
_ITEMS: Final = 400
_TYPES: Final = ("view", "click", "cart", "purchase")
_TRANSACTION_EVENTS: Final = 40
_SECONDS: Final = 10.0


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
        """How many events were given to Kafka, those of aborted transactions and rejected ones left out."""
        self.rejected: set[str] = set()
        """Ids of events that no worker may accept: each must be a dead letter."""
        self._settings = settings
        self._random = random.Random(seed)
        self._lock = threading.Lock()
        self._number = 0
        self._guests = 0
        self._rate = rate
        self._passing = passing
        self._topic = settings.topics.interactions
        self._producer = self._new_producer(enable_idempotence=True, linger_ms=2, message_timeout_ms=600_000)
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

    def hot_user(self) -> None:
        """Send the events of one user all at once, as a crawler or a producer with a backlog does."""
        user = self._guest("hot")
        for number in self._numbers(HOT_EVENTS):
            self._send(self._producer, number, user)
        self.sent += HOT_EVENTS

    def large_records(self) -> None:
        """Send an event that is nearly as large as Kafka's default limit, and one so large that nobody may accept."""
        [number] = self._numbers(1)
        self._send(self._producer, number, self._guest("large"), {"text": "x" * (_LARGE_BYTES - 100_000)})
        self.sent += 1
        broken = self._guest("broken")
        self.rejected.add(broken)
        event = {"event_id": broken, "user_id": broken, "item_id": "i1", "type": "no such", "text": "x" * _LARGE_BYTES}
        self._producer.produce(self._topic, encode(event), broken)

    def abort(self) -> None:
        """Send events of known users in a transaction that is aborted: none of them may be seen anywhere.

        Raises:
            KafkaException: Kafka is away.
        """
        producer = self._transaction()
        for number in range(1, _TRANSACTION_EVENTS + 1):
            with self._lock:
                user = self._random.choice(list(self._events_of))
            self._send(producer, -number, user)
        producer.flush(_SECONDS)
        producer.abort_transaction(_SECONDS)

    def begin_open(self) -> "Open":
        """Send events in a transaction that stays open: nothing after them can be read until it ends.

        Raises:
            KafkaException: Kafka is away.
        """
        producer = self._transaction()
        for number in self._numbers(_TRANSACTION_EVENTS):
            self._send(producer, number, self._guest("open"))
        producer.flush(_SECONDS)
        return Open(self, producer)

    def _transaction(self) -> Producer:
        producer = self._new_producer(transactional_id=self._guest("crash"), transaction_timeout_ms=60_000)
        producer.init_transactions(_SECONDS)
        producer.begin_transaction()
        return producer

    def _new_producer(self, **extra: object) -> Producer:
        return Producer(
            librdkafka_config(
                self._settings, acks="all", partitioner="murmur2_random", message_max_bytes=_MOST_BYTES, **extra
            )
        )

    def _run(self) -> None:
        began, paced = time.monotonic(), 0
        while not self._stop.wait(0.01):
            due = int((time.monotonic() - began) * self._rate)
            for number in self._numbers(due - paced):
                with self._lock:
                    user = f"u{number}" if self._passing else self._user()
                self._send(self._producer, number, user)
                self.sent += 1
            paced = due
            self._producer.poll(0)

    def _numbers(self, count: int) -> Iterable[int]:
        with self._lock:
            begin, self._number = self._number, self._number + count
        return range(begin, begin + count)

    def _send(self, producer: Producer, number: int, user: str, context: dict[str, str] | None = None) -> None:
        event = Interaction(
            f"e{number}",
            user,
            f"i{self._random.randrange(_ITEMS)}",
            self._random.choice(_TYPES),  # type: ignore[arg-type] # each of them is a type
            self.start_ms + number,
            context=context,
        )
        while True:
            try:
                producer.produce(self._topic, encode(event), user)
            except BufferError:
                producer.poll(0.1)
            else:
                return

    def _guest(self, kind: str) -> str:
        with self._lock:
            self._guests += 1
            return f"{kind}-{self._guests}"

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


class Open:
    """A transaction with events in it."""

    def __init__(self, feed: Feed, producer: Producer) -> None:
        self._feed = feed
        self._producer = producer

    def commit(self) -> bool:
        """Commit it; return whether that is done. One that Kafka ended meanwhile left nothing."""
        try:
            self._producer.commit_transaction(_SECONDS)
        except KafkaException as exc:
            return not exc.args[0].retriable()
        self._feed.sent += _TRANSACTION_EVENTS
        return True
