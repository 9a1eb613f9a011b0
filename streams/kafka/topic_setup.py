"""a broker -> the topics that Headrace needs: they are created or checked at the start of a role."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import stamina
from confluent_kafka import Consumer, KafkaException, TopicPartition
from confluent_kafka.admin import AdminClient, ConfigResource, NewTopic, ResourceType

from streams.errors import StartError
from streams.kafka.clients import librdkafka_config
from streams.kafka.refusals import refusal
from streams.settings import Settings
from streams.topics import SPECS, TopicSpec

_NOT_YET: Final = frozenset({
    "UNKNOWN_TOPIC_OR_PART", "LEADER_NOT_AVAILABLE", "NOT_LEADER_FOR_PARTITION",
    "_UNKNOWN_PARTITION", "_UNKNOWN_TOPIC",
})  # fmt: skip
"""What Kafka, or the client that has just heard of a topic, answers for a moment after it was created."""


@dataclass(frozen=True)
class TopicState:
    """What `ensure_topics` found or did."""

    name: str
    partitions: int
    cleanup_policy: str
    retention: str
    created: bool
    problem: str | None = None


def ensure_topics(settings: Settings, *, create: bool = True, timeout_seconds: float = 20.0) -> list[TopicState]:
    """Create the topics that are missing and check the others.

    Raises:
        StartError: Kafka does not answer or refuses.
    """
    try:
        admin = AdminClient(librdkafka_config(settings))
        existing = {
            name: len(topic.partitions) for name, topic in admin.list_topics(timeout=timeout_seconds).topics.items()
        }
        missing = [spec for spec in SPECS if settings.topics.named(spec.name) not in existing]
        if create and missing:
            for future in admin.create_topics([_new_topic(settings, spec) for spec in missing]).values():
                _created(future.result, timeout_seconds)
        present = [spec for spec in SPECS if create or spec not in missing]
        _wait_for_leaders(settings, _partitions(settings, present, existing), timeout_seconds)
        configs = _configs(admin, [settings.topics.named(spec.name) for spec in present])
    except KafkaException as exc:
        raise refusal(settings, exc) from exc
    return [_state(settings, spec, existing, configs, created=create and spec in missing) for spec in SPECS]


def check_topics(states: list[TopicState]) -> None:
    """Stop the start when a topic is not what Headrace needs.

    Raises:
        StartError: it names the first such topic.
    """
    for state in states:
        if state.problem:
            raise StartError(f"Topic {state.name}: {state.problem}")


def _new_topic(settings: Settings, spec: TopicSpec) -> NewTopic:
    return NewTopic(
        settings.topics.named(spec.name),
        num_partitions=spec.partitions or settings.kafka.partitions,
        replication_factor=settings.kafka.replication_factor,
        config=dict(spec.config),
    )


def _created(result: "object", timeout_seconds: float) -> None:
    try:
        result(timeout_seconds)  # type: ignore[operator]
    except KafkaException as exc:
        if exc.args[0].name() != "TOPIC_ALREADY_EXISTS":  # another role was faster
            raise


def _configs(admin: AdminClient, names: list[str]) -> dict[str, dict[str, str]]:
    resources = [ConfigResource(ResourceType.TOPIC, name) for name in names]
    for attempt in stamina.retry_context(on=_not_yet_known, timeout=20):
        with attempt:
            found = admin.describe_configs(resources) if resources else {}
            return {r.name: {k: entry.value for k, entry in future.result(20).items()} for r, future in found.items()}
    raise AssertionError


def _partitions(settings: Settings, specs: Sequence[TopicSpec], existing: Mapping[str, int]) -> list[TopicPartition]:
    counts = {settings.topics.named(spec.name): spec.partitions or settings.kafka.partitions for spec in specs}
    return [
        TopicPartition(topic, partition)
        for topic, count in counts.items()
        for partition in range(existing.get(topic, count))
    ]


def _wait_for_leaders(settings: Settings, partitions: Sequence[TopicPartition], timeout_seconds: float) -> None:
    """Return once every partition can be read: whoever asks right after a topic was created may be too early.

    With a consumer: an AdminClient that found no leader once keeps saying so.
    """
    consumer = Consumer(librdkafka_config(settings, group_id=settings.topics.named("topics")))
    retries = stamina.retry_context(
        on=_not_yet_known, attempts=None, timeout=timeout_seconds, wait_initial=0.05, wait_max=0.1, wait_jitter=0.02
    )
    waiting = list(partitions)
    for attempt in retries:
        with attempt:
            while waiting:
                consumer.get_watermark_offsets(waiting[-1], timeout_seconds)
                waiting.pop()
    consumer.close()


def _not_yet_known(failure: Exception) -> bool:
    return isinstance(failure, KafkaException) and failure.args[0].name() in _NOT_YET


def _state(
    settings: Settings, spec: TopicSpec, existing: dict[str, int], configs: dict[str, dict[str, str]], *, created: bool
) -> TopicState:
    name = settings.topics.named(spec.name)
    config = configs.get(name, {})
    wanted = spec.partitions or settings.kafka.partitions
    partitions = wanted if created else existing.get(name, 0)
    problem = None
    if not partitions:
        problem = "it does not exist; `headrace topics` creates it."
    elif spec.partitions and partitions != spec.partitions:
        problem = f"it has {partitions} partitions and must have {spec.partitions}; recreate it."
    elif not spec.partitions and partitions != _by_user(settings, existing, wanted):
        problem = f"it has {partitions} partitions, {settings.topics.interactions} another number; make them equal."
    else:
        wrong = [f"{k} is {config.get(k)}, not {v}" for k, v in spec.config.items() if config.get(k) != v]
        problem = f"{'; '.join(wrong)}; alter its configuration." if wrong else None
    return TopicState(
        name, partitions, config.get("cleanup.policy", ""), config.get("retention.ms", ""), created, problem
    )


def _by_user(settings: Settings, existing: dict[str, int], wanted: int) -> int:
    return existing.get(settings.topics.interactions, wanted)
