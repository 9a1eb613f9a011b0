"""topics of one partition -> whoever wants their records: a thread reads them from the beginning, as long as it runs.

Runs inside Triton's backend too: it takes plain values and imports neither torch nor Faust.
"""

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from confluent_kafka import Consumer, KafkaError, KafkaException, Message, TopicPartition

from streams.errors import StartError
from streams.kafka.topic_reader import reader

_BATCH: Final = 1000
_POLL_SECONDS: Final = 0.2
_TOLD_SECONDS: Final = 5.0
"""Between two lines about the same thing."""
_SILENT_SECONDS: Final = 30.0
_EOF: Final = KafkaError._PARTITION_EOF  # noqa: SLF001 - its public name


class Follower:
    """A thread that hands over every record, from the topics' beginning on.

    A record that cannot be taken is reported and left out: it would stop the thread again after every restart. A
    thread that ends all the same is no follower any more: `check` says so to the role, which must not serve for ever
    what was true at that moment.

    Args:
        client: librdkafka's settings of the connection.
        topics: their full names; records of one topic come in order.
        take: is given each record.
        report: takes a sentence when a topic cannot be read, a record not be taken, or much is still to be read.
    """

    def __init__(
        self,
        client: Mapping[str, Any],
        topics: str | Sequence[str],
        take: Callable[[Message], None],
        report: Callable[[str], None] = lambda _: None,
    ) -> None:
        self._client = client
        self._topics = [topics] if isinstance(topics, str) else list(topics)
        self._take = take
        self._report = report
        self._stop = threading.Event()
        self._caught_up = threading.Event()
        self._reached: dict[str, int] = {}
        """Offset at which a topic could be read no further for the first time."""
        self._taken = 0
        self._heard = 0.0
        self._told: dict[str, float] = {}
        self._failure: BaseException | None = None
        self._thread = threading.Thread(target=self._live, name=f"follow-{self._name}", daemon=True)

    def start(self) -> None:
        """Begin; a Kafka that is not there yet is waited for."""
        self._heard = time.monotonic()
        self._thread.start()

    def catch_up(self) -> None:
        """Return when all that could be read has been taken: what is behind an open transaction cannot.

        There is no deadline while records come in, however many there are.

        Raises:
            StartError: Kafka has given nothing for a while, or the thread has ended.
        """
        told = time.monotonic()
        while not self._caught_up.wait(_POLL_SECONDS / 2):
            self.check()
            now = time.monotonic()
            if now > self._heard + _SILENT_SECONDS:
                raise StartError(
                    f"Kafka gives no records of {self._name} for {_SILENT_SECONDS:.0f} s, after {self._taken:,}; check "
                    "the brokers and their access lists."
                )
            if now > told + _TOLD_SECONDS:
                told = now
                self._report(f"{self._name}: {self._taken:,} records read so far")

    def check(self) -> None:
        """Make sure that the thread lives.

        Raises:
            StartError: it has ended by itself.
        """
        if self._failure is not None:
            raise StartError(
                f"The thread that follows {self._name} has ended ({self._failure!r}); what it gave grows old, so the "
                "role must end and be started again."
            )

    def stop(self) -> None:
        """End within a poll."""
        self._stop.set()
        if self._thread.ident is not None:
            self._thread.join()

    @property
    def _name(self) -> str:
        return " and ".join(self._topics)

    def _live(self) -> None:
        try:
            self._follow()
        except BaseException as exc:  # noqa: BLE001 - whatever it is, somebody must hear of it
            self._failure = exc
            self._report(f"the thread that follows {self._name} has ended: {exc!r}")

    def _follow(self) -> None:
        if (consumer := self._connected()) is None:
            return
        try:
            while not self._stop.is_set():
                for message in self._messages(consumer):
                    self._heard = time.monotonic()
                    self._handle(message, consumer)
        finally:
            consumer.close()

    def _connected(self) -> Consumer | None:
        """Return a consumer, None when the end comes first; a certificate may be put where it belongs meanwhile."""
        while not self._stop.is_set():
            try:
                return reader(self._client, self._topics)
            except KafkaException as exc:
                self._tell(f"{self._name} cannot be read: {exc.args[0].str()}")
                self._stop.wait(_POLL_SECONDS)
        return None

    def _messages(self, consumer: Consumer) -> list[Message]:
        try:
            # consume() alone would wait for a full batch; poll() returns with the first message
            first = consumer.poll(_POLL_SECONDS)
            return [first, *consumer.consume(_BATCH, 0)] if first is not None else []  # a tombstone is falsy
        except KafkaException as exc:
            self._tell(f"{self._name} cannot be read: {exc}")
            self._stop.wait(_POLL_SECONDS)
            return []

    def _handle(self, message: Message, consumer: Consumer) -> None:
        error = message.error()
        if error is None:
            self._taken += 1
            try:
                self._take(message)
            except Exception as exc:  # noqa: BLE001 - one record's failure must not end the thread
                self._report(f"{message.topic()} at offset {message.offset()} cannot be taken: {exc!r}")
        elif error.code() != _EOF:
            self._tell(f"{message.topic()} cannot be read: {error.str()}")
        elif message.topic() not in self._reached:
            self._reach(message, consumer)

    def _reach(self, message: Message, consumer: Consumer) -> None:
        """Note that a topic could be read no further, and say so when it goes on behind an open transaction."""
        topic, offset = message.topic(), message.offset()
        self._reached[topic] = offset
        _, end = consumer.get_watermark_offsets(TopicPartition(topic, 0), cached=True)
        if end > offset:
            self._report(
                f"{topic} goes on to offset {end}, but a transaction is open since {offset}; what follows is read when "
                "its producer ends it"
            )
        if len(self._reached) == len(self._topics):
            self._caught_up.set()

    def _tell(self, why: str) -> None:
        now = time.monotonic()
        if now >= self._told.get(why, 0.0) + _TOLD_SECONDS:
            self._told = {why: now}
            self._report(why)
