"""interactions, recommendations, dead-letters, weights -> what a run did, read back as anybody could."""

import json
import threading
import time
from collections import Counter, deque
from dataclasses import dataclass, field
from typing import Final

from confluent_kafka import OFFSET_BEGINNING, TIMESTAMP_NOT_AVAILABLE, Consumer, KafkaException, Message, TopicPartition
from confluent_kafka.admin import (
    AdminClient,
    AlterConfigOpType,
    ConfigEntry,
    ConfigResource,
    ResourceType,
)

from engine.generations import end_facts
from streams.decoding import decode_interaction, decoder
from streams.errors import RejectedEventError, StartError
from streams.kafka.clients import librdkafka_config
from streams.pseudonyms import pseudonyms
from streams.records import HISTORY_HEADER, Recommendation
from streams.settings import Settings

_TOPICS: Final = ("interactions", "recommendations", "dead-letters", "weights")
_RECENT: Final = 1000
_SECONDS: Final = 10.0


@dataclass(frozen=True, slots=True)
class Event:
    """A record of `interactions`."""

    partition: int
    offset: int
    written_ms: int
    """The broker's timestamp."""
    history: bool
    """The past of the shop: folded, not to be answered."""
    user_id: str
    """Empty when the record cannot be read."""
    item_id: str = ""
    type: str = ""
    timestamp: int = 0
    """Event time."""


@dataclass(frozen=True, slots=True)
class Answer:
    """A record of `recommendations`."""

    user_id: str
    partition: int
    offset: int
    """Of the event that caused it."""
    written_ms: int
    rung: str
    version: int
    generation: int
    items: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Learned:
    """The end mark of a generation on `weights`."""

    generation: int
    until: dict[int, int]
    """Partition of `interactions` to the first offset that it has not learned."""


@dataclass
class Observations:
    """All that was seen so far; lists only grow, so that another thread may read them."""

    events: list[Event] = field(default_factory=list)
    answers: list[Answer] = field(default_factory=list)
    """One for each cause; repeated ones are counted only."""
    repeated: int = 0
    rejected: dict[tuple[int, int], str] = field(default_factory=dict)
    """Partition and offset to the reason."""
    generations: list[Learned] = field(default_factory=list)
    streamed: int = 0
    """Events that are not history."""
    rungs: Counter[str] = field(default_factory=Counter)
    recent: deque[tuple[Event, Answer]] = field(default_factory=lambda: deque(maxlen=_RECENT))
    """The newest answers and what caused them."""
    waiting: dict[tuple[int, int], Event] = field(default_factory=dict)
    """By position: events that caused no answer yet; another of the same user may have."""


class Observer:
    """A thread that reads the topics from their beginning.

    Args:
        settings: which broker and prefix.

    Raises:
        StartError: Kafka does not answer.
    """

    def __init__(self, settings: Settings) -> None:
        self.seen = Observations()
        self._settings = settings
        self._prefix = settings.prefix
        self._pseudonym = pseudonyms(settings.pseudonym_key, settings.kafka.partitions)
        self._max_future_ms = settings.state.max_future_seconds * 1000
        self._recommendation = decoder(Recommendation)
        self._answered: set[tuple[int, int]] = set()
        self._take = {
            "interactions": self._take_event,
            "recommendations": self._take_answer,
            "dead-letters": self._take_rejection,
            "weights": self._take_generation,
        }
        self._stop = threading.Event()
        self._consumer = Consumer(
            librdkafka_config(
                settings,
                group_id=settings.topics.named("observer"),
                enable_auto_commit=False,
                isolation_level="read_committed",
                fetch_wait_max_ms=50,
            )
        )
        try:
            metadata = self._consumer.list_topics(timeout=_SECONDS).topics
        except KafkaException as exc:
            raise StartError(f"Kafka at {settings.broker} does not answer.") from exc
        self._consumer.assign(
            [
                TopicPartition(settings.topics.named(name), partition, OFFSET_BEGINNING)
                for name in _TOPICS
                for partition in metadata[settings.topics.named(name)].partitions
            ]
        )
        self._thread = threading.Thread(target=self._follow, name="observer", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Let go of Kafka."""
        self._stop.set()
        self._thread.join()

    def _follow(self) -> None:
        try:
            while not self._stop.is_set():
                for message in self._consumer.consume(500, 0.1):
                    if message.error() is None:
                        self._take[message.topic().removeprefix(self._prefix)](message)
        finally:
            self._consumer.close()

    def _take_event(self, message: Message) -> None:
        position = (message.partition(), message.offset())
        history = any(name == HISTORY_HEADER for name, _ in message.headers() or ())
        written_ms = _written_ms(message)
        try:
            found = decode_interaction(message.value(), time.time_ns() // 1_000_000, self._max_future_ms)
        except RejectedEventError:
            event = Event(*position, written_ms, history, "")
        else:
            user_id = self._pseudonym(found.user_id, position[0])
            event = Event(*position, written_ms, history, user_id, found.item_id, found.type, int(found.timestamp))
        self.seen.events.append(event)
        if not history:
            self.seen.streamed += 1
            self.seen.waiting[position] = event

    def _take_answer(self, message: Message) -> None:
        found = self._recommendation.decode(message.value())
        cause = (found.cause.partition, found.cause.offset)
        if found.cause.topic != "interactions":
            return
        if cause in self._answered:
            self.seen.repeated += 1
            return
        self._answered.add(cause)
        written_ms = _written_ms(message)
        items = tuple(item.item_id for item in found.items)
        answer = Answer(found.user_id, *cause, written_ms, found.rung, found.version, found.generation, items)
        self.seen.answers.append(answer)
        self.seen.rungs[found.rung] += 1
        if event := self.seen.waiting.pop(cause, None):
            self.seen.recent.append((event, answer))

    def _take_rejection(self, message: Message) -> None:
        headers = dict(message.headers() or ())
        if headers.get("topic", b"").decode() == f"{self._prefix}interactions":
            self.seen.rejected[int(headers["partition"]), int(headers["offset"])] = headers["reason"].decode()

    def _take_generation(self, message: Message) -> None:
        if learned := learned_by(message):
            self.seen.generations.append(learned)


def learned_by(message: Message) -> Learned | None:
    """Return what a record of `weights` says of its generation, when it is the end mark."""
    facts = end_facts(message.key(), message.value())
    if not facts:
        return None
    until = {int(partition): offset for partition, offset in json.loads(facts.get("learned", "{}")).items()}
    return Learned(int(facts["generation"]), until)


def stamp_by_broker(settings: Settings) -> None:
    """Let the broker stamp events and recommendations when it appends them, instead of whoever sends them.

    Raises:
        StartError: Kafka does not allow it.
    """
    entry = ConfigEntry("message.timestamp.type", "LogAppendTime", incremental_operation=AlterConfigOpType.SET)
    topics = [settings.topics.named(name) for name in ("interactions", "recommendations")]
    resources = [ConfigResource(ResourceType.TOPIC, name, incremental_configs=[entry]) for name in topics]
    admin = AdminClient(librdkafka_config(settings))  # held: its end would cancel what it has begun
    try:
        for future in admin.incremental_alter_configs(resources).values():
            future.result(_SECONDS)
    except KafkaException as exc:
        raise StartError(f"Kafka at {settings.broker} does not stamp records: {exc.args[0].str()}.") from exc


def _written_ms(message: Message) -> int:
    kind, timestamp = message.timestamp()
    return 0 if kind == TIMESTAMP_NOT_AVAILABLE else int(timestamp)
