"""topics, states -> what was lost, doubled, left unanswered: every event is looked for in every place it must be in."""

import time
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import accumulate
from pathlib import Path
from typing import Final

import msgspec
from confluent_kafka import Consumer, Message, TopicPartition

from engine.online.checkpoint import newest_checkpoint
from streams.kafka.clients import librdkafka_config
from streams.records import Cause, Interaction, Outcome
from streams.settings import Settings
from streams.state.user_state import decode_state

_READ_SECONDS: Final = 60.0
Histories = Mapping[str, Sequence[int]]
"""Event numbers a user, in the order in which they are held."""


class _Answer(msgspec.Struct):
    recommendation_id: str
    user_id: str
    cause: Cause
    rung: str


class _Example(msgspec.Struct):
    partition: int
    outcomes: list[Outcome]


_INTERACTION: Final = msgspec.json.Decoder(Interaction)
_ANSWER: Final = msgspec.json.Decoder(_Answer)
_EXAMPLE: Final = msgspec.json.Decoder(_Example)


@dataclass
class Accepted:
    """What Kafka took."""

    by_user: dict[str, list[int]] = field(default_factory=lambda: defaultdict(list))
    """Numbers, in the order of offsets."""
    offset_of: dict[int, tuple[int, int]] = field(default_factory=dict)
    """Partition and offset of a number."""
    written: dict[int, list[tuple[int, float]]] = field(default_factory=lambda: defaultdict(list))
    """Offset and epoch seconds by partition."""
    last: dict[str, tuple[int, int]] = field(default_factory=dict)
    """Partition and highest offset of a user."""

    def __len__(self) -> int:
        return len(self.offset_of)


@dataclass
class Verdict:
    """What is wrong with the histories of one place."""

    lost: set[int] = field(default_factory=set)
    doubled: int = 0
    phantoms: int = 0
    """Events held that Kafka does not have: their transaction was aborted."""
    misplaced: int = 0
    """Users whose events are all there, in another order."""


@dataclass
class Answers:
    """What came out."""

    raw: int = 0
    distinct: int = 0
    unanswered: int = 0
    rungs: Counter[str] = field(default_factory=Counter)
    first_after: dict[int, list[tuple[int, float]]] = field(default_factory=dict)
    """By partition: offset, and epoch seconds of the first answer to it or a later one."""


@dataclass
class Learned:
    """What became of the examples."""

    outcomes: int = 0
    """All that examples carry, repeats included."""
    missing: int = 0
    """Events that no example carries."""
    difference: int = 0
    """Outcomes that the learner's checkpoint counts above (or below) the events."""


def accepted(settings: Settings, start_ms: int) -> Accepted:
    """Return the events on the topic."""
    result = Accepted()
    for record in records(settings, "interactions"):
        try:
            event = _INTERACTION.decode(record.value())
        except msgspec.ValidationError:
            continue  # it must be a dead letter
        number = int(event.timestamp) - start_ms
        position = (record.partition(), record.offset())
        if number in result.offset_of:
            raise RuntimeError(f"event {number} is on the topic twice: the feed is wrong")
        result.by_user[event.user_id].append(number)
        result.offset_of[number] = position
        result.written[position[0]].append((position[1], record.timestamp()[1] / 1000))
        result.last[event.user_id] = max(position, result.last.get(event.user_id, position))
    return result


def histories_in_changelog(settings: Settings, start_ms: int) -> Histories:
    """Return what a worker without a disk would recover from a compacted changelog: the last value of each user."""
    values = {r.key(): r.value() for r in records(settings, "workers-histories-changelog")}
    return {
        key.decode(): [entry.timestamp - start_ms for entry in decode_state(value).history()]
        for key, value in values.items()
        if value is not None
    }


def judge(events: Accepted, found: Histories, length: int) -> Verdict:
    """Compare histories, each of so many events at most, with the events that should be in them."""
    verdict = Verdict()
    for user, sent in events.by_user.items():
        held, numbers = found.get(user, []), sent[-length:]
        counts = Counter(held)
        verdict.phantoms += len(counts.keys() - set(sent))
        missing = [number for number in numbers if number not in counts]
        verdict.lost.update(missing)
        doubled = sum(counts.values()) - len(counts)
        verdict.doubled += doubled
        if not missing and not doubled and list(held) != numbers:
            verdict.misplaced += 1
    return verdict


def answers(settings: Settings, events: Accepted, since: float = 0.0) -> Answers:
    """Count the recommendations; an event is answered by a list for its user, of its offset or a later one.

    Args:
        settings: of the connection.
        events: what is to be answered.
        since: epoch seconds; what was written before is of another life.
    """
    result, ids = Answers(), set()
    highest: dict[str, int] = {}
    when: dict[int, dict[int, float]] = defaultdict(dict)
    for record in records(settings, "recommendations"):
        if record.timestamp()[1] / 1000 < since:
            continue
        answer = _ANSWER.decode(record.value())
        result.raw += 1
        result.rungs[answer.rung] += 1
        ids.add(answer.recommendation_id)
        cause, seconds = answer.cause, record.timestamp()[1] / 1000
        highest[answer.user_id] = max(cause.offset, highest.get(answer.user_id, -1))
        when[cause.partition].setdefault(cause.offset, seconds)
    result.distinct = len(ids)
    for user, numbers in events.by_user.items():
        offsets = [events.offset_of[number][1] for number in numbers]
        result.unanswered += sum(offset > highest.get(user, -1) for offset in offsets)
    for partition, seconds_of in when.items():
        pairs = sorted(seconds_of.items(), reverse=True)
        earliest = accumulate((seconds for _, seconds in pairs), min)
        result.first_after[partition] = [(offset, s) for (offset, _), s in zip(pairs, earliest, strict=True)][::-1]
    return result


def learned(settings: Settings, events: Accepted) -> Learned:
    """Look for every event among the outcomes of the examples, and ask the learner's checkpoint how many it learned."""
    result = Learned()
    seen: set[tuple[int, int]] = set()
    for record in records(settings, "examples"):
        example = _EXAMPLE.decode(record.value())
        result.outcomes += len(example.outcomes)
        seen.update((example.partition, outcome.offset) for outcome in example.outcomes)
    result.missing = len(set(events.offset_of.values()) - seen)
    result.difference = learned_count(settings.data_dir) - len(events)
    return result


def learned_count(data_dir: Path) -> int:
    """Return how many different outcomes the learner's newest checkpoint has learned from."""
    state, _ = newest_checkpoint(data_dir / "learner" / "checkpoint")
    return sum(ledger["taken"] for ledger in state["learned"].values()) if state else 0


@dataclass
class Ends:
    """Where the interactions end: after the last event, not after the marks of transactions that follow it."""

    events: int = 0
    offsets: dict[int, int] = field(default_factory=dict)
    """By partition."""


def ends(settings: Settings) -> Ends:
    """Read all interactions."""
    result = Ends()
    for record in records(settings, "interactions"):
        result.events += b'"no such"' not in record.value()[:200]
        result.offsets[record.partition()] = record.offset() + 1
    return result


def dead_lettered(settings: Settings) -> set[str]:
    """Return the keys of the dead letters."""
    return {record.key().decode() for record in records(settings, "dead-letters")}


def uncommitted(settings: Settings, end: Ends) -> dict[int, int]:
    """Return how many interactions of each partition the workers have not committed, where there are any."""
    consumer = _consumer(settings, settings.topics.workers)
    try:
        parts = _partitions(consumer, settings.topics.interactions)
        committed = {p.partition: max(p.offset, 0) for p in consumer.committed(parts, 5.0)}
    finally:
        consumer.close()
    return {
        partition: offset - committed[partition]
        for partition, offset in end.offsets.items()
        if offset > committed[partition]
    }


def records(settings: Settings, topic: str) -> Iterator[Message]:
    consumer = _consumer(settings, settings.topics.named("count"))
    try:
        parts = _partitions(consumer, settings.topics.named(topic))
        left = {p.partition for p in parts if consumer.get_watermark_offsets(p, 10.0)[1] > 0}
        consumer.assign([TopicPartition(p.topic, p.partition, 0) for p in parts])
        deadline = time.monotonic() + _READ_SECONDS
        while left:
            if time.monotonic() > deadline:
                raise RuntimeError(f"{topic} was not read to its end in {_READ_SECONDS:.0f} s")
            for message in consumer.consume(1000, 0.2):
                if message.error() is None:
                    yield message
                else:  # the end of a partition
                    left.discard(message.partition())
    finally:
        consumer.close()


def _partitions(consumer: Consumer, topic: str) -> list[TopicPartition]:
    return [TopicPartition(topic, p) for p in consumer.list_topics(topic, 10.0).topics[topic].partitions]


def _consumer(settings: Settings, group: str) -> Consumer:
    return Consumer(librdkafka_config(settings, group_id=group, enable_auto_commit=False, enable_partition_eof=True))
