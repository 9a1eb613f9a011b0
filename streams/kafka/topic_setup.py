"""a broker -> the topics that Headrace needs: they are created or checked at the start of a role."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Final

import stamina
import structlog
from confluent_kafka import Consumer, KafkaException, TopicPartition
from confluent_kafka.admin import AdminClient, ConfigResource, NewTopic, ResourceType

from streams.errors import StartError
from streams.kafka.clients import librdkafka_config
from streams.kafka.refusals import refusal
from streams.kafka.topic_check import Cluster, TopicState, judged, risks
from streams.settings import Settings
from streams.topics import SPECS, TopicSpec

_log = structlog.get_logger()

_NOT_YET: Final = frozenset({
    "UNKNOWN_TOPIC_OR_PART", "LEADER_NOT_AVAILABLE", "NOT_LEADER_FOR_PARTITION",
    "_UNKNOWN_PARTITION", "_UNKNOWN_TOPIC",
})  # fmt: skip
"""What Kafka, or the client that has just heard of a topic, answers for a moment after it was created."""


def ensure_topics(settings: Settings, *, create: bool = True, timeout_seconds: float = 20.0) -> list[TopicState]:
    """Create the topics that are missing and check the others.

    Raises:
        StartError: Kafka does not answer or refuses.
    """
    try:
        admin = AdminClient(librdkafka_config(settings))
        existing = dict(_cluster(admin, timeout_seconds).partitions)
        missing = [spec for spec in SPECS if settings.topics.named(spec.name) not in existing]
        by_user = existing.get(settings.topics.interactions, settings.kafka.partitions)
        new = [_new_topic(settings, spec, by_user) for spec in missing if create]
        for future in admin.create_topics(new).values() if new else ():
            _created(future.result, timeout_seconds)
        names = [settings.topics.named(spec.name) for spec in SPECS if create or spec not in missing]
        present = {topic.topic: topic.num_partitions for topic in new} | existing
        _wait_for_leaders(settings, {name: present[name] for name in names}, timeout_seconds)
        configs = _configs(admin, names)
        cluster = _cluster(admin, timeout_seconds)
        cluster = replace(
            cluster, partitions={**present, **cluster.partitions}
        )  # a broker may not have heard of new ones
    except KafkaException as exc:
        raise refusal(settings, exc) from exc
    return [
        judged(
            settings,
            spec,
            cluster,
            configs.get(settings.topics.named(spec.name), {}),
            created=create and spec in missing,
        )
        for spec in SPECS
    ]


def check_topics(states: list[TopicState]) -> None:
    """Stop the start when a topic is not what Headrace needs, and say what is a risk.

    Raises:
        StartError: it names the first such topic.
    """
    for state in states:
        if state.problem:
            raise StartError(f"Topic {state.name}: {state.problem}")
    for risk in risks(states):
        _log.warning("topics_at_risk", why=risk)


def _cluster(admin: AdminClient, timeout_seconds: float) -> Cluster:
    found = admin.list_topics(timeout=timeout_seconds)
    topics = {name: list(topic.partitions.values()) for name, topic in found.topics.items()}
    return Cluster(
        len(found.brokers),
        {name: len(partitions) for name, partitions in topics.items()},
        {name: min((len(p.replicas) for p in partitions), default=0) for name, partitions in topics.items()},
    )


def _new_topic(settings: Settings, spec: TopicSpec, by_user: int) -> NewTopic:
    return NewTopic(
        settings.topics.named(spec.name),
        num_partitions=spec.partitions or by_user,
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


def _wait_for_leaders(settings: Settings, topics: Mapping[str, int], timeout_seconds: float) -> None:
    """Return once every partition can be read: whoever asks right after a topic was created may be too early.

    With a consumer: an AdminClient that found no leader once keeps saying so.
    """
    consumer = Consumer(librdkafka_config(settings, group_id=settings.topics.named("topics")))
    retries = stamina.retry_context(
        on=_not_yet_known, attempts=None, timeout=timeout_seconds, wait_initial=0.05, wait_max=0.1, wait_jitter=0.02
    )
    waiting = [TopicPartition(name, number) for name, count in topics.items() for number in range(count)]
    for attempt in retries:
        with attempt:
            while waiting:
                consumer.get_watermark_offsets(waiting[-1], timeout_seconds)
                waiting.pop()
    consumer.close()


def _not_yet_known(failure: Exception) -> bool:
    return isinstance(failure, KafkaException) and failure.args[0].name() in _NOT_YET
