"""topics as they are -> what is wrong with them, and what is a risk. Asks nobody."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final

from streams.settings import Settings
from streams.topics import CHANGELOG, TopicSpec

_ENOUGH_IN_SYNC: Final = 2


@dataclass(frozen=True)
class Cluster:
    """What a broker says of all."""

    brokers: int
    partitions: Mapping[str, int]
    """By full topic name."""
    replicas: Mapping[str, int]
    """The fewest of any partition, by full topic name."""


@dataclass(frozen=True)
class TopicState:
    """What was found or done."""

    name: str
    partitions: int
    cleanup_policy: str
    retention: str
    created: bool
    problem: str | None = None
    """What stops a start."""
    risk: str | None = None
    """What does not stop one, and loses records when a broker is lost."""


def judged(
    settings: Settings, spec: TopicSpec, cluster: Cluster, config: Mapping[str, str], *, created: bool
) -> TopicState:
    """Return how a topic is."""
    name = settings.topics.named(spec.name)
    return TopicState(
        name,
        cluster.partitions.get(name, 0),
        config.get("cleanup.policy", ""),
        config.get("retention.ms", ""),
        created,
        _problem(settings, spec, cluster.partitions, config),
        _risk(cluster, name, config),
    )


def risks(states: Iterable[TopicState]) -> list[str]:
    """Return one sentence a kind of risk, with the topics that it is about."""
    topics: dict[str, list[str]] = {}
    for state in states:
        if state.risk:
            topics.setdefault(state.risk, []).append(state.name)
    return [f"{', '.join(names)}: {risk}" for risk, names in topics.items()]


def _problem(settings: Settings, spec: TopicSpec, existing: Mapping[str, int], config: Mapping[str, str]) -> str | None:
    name, interactions = settings.topics.named(spec.name), settings.topics.interactions
    partitions = existing.get(name, 0)
    by_user = existing.get(interactions, partitions)
    if not partitions:
        return "it does not exist; `headrace topics` creates it."
    if spec.partitions and partitions != spec.partitions:
        return f"it has {partitions} partitions and must have {spec.partitions}; recreate it."
    if spec.name == CHANGELOG and partitions != by_user:
        return moved_users(settings, partitions, by_user)
    if not spec.partitions and partitions != by_user:
        return f"it has {partitions} partitions, {interactions} another number; make them equal."
    wrong = [
        f"{key} is {config.get(key)}, not {value}" for key, value in spec.config.items() if config.get(key) != value
    ]
    return f"{'; '.join(wrong)}; alter its configuration." if wrong else None


def moved_users(settings: Settings, before: int, now: int) -> str:
    """Return what to do when users are in other partitions than their states."""
    interactions = settings.topics.interactions
    return (
        f"it holds the states of users in {before} partitions, and {interactions} has {now} now: most users would be "
        "parted from what is known of them. Keep both: set a new HEADRACE_PREFIX and put the old events onto it with "
        f"`headrace replay --topic {interactions} --as-history`; or stop all workers and give the states up with "
        "`headrace reset --state`."
    )


def _risk(cluster: Cluster, name: str, config: Mapping[str, str]) -> str | None:
    replicas = cluster.replicas.get(name, 0)
    if cluster.brokers < _ENOUGH_IN_SYNC or not replicas:
        return None
    if replicas == 1:
        return (
            f"one of {cluster.brokers} brokers holds each partition, and what it holds is lost with it; create topics "
            "with HEADRACE_KAFKA__REPLICATION_FACTOR=3, or reassign these."
        )
    if int(config.get("min.insync.replicas", "1")) < _ENOUGH_IN_SYNC:
        return (
            "min.insync.replicas is 1, so that Kafka acknowledges what one broker alone holds; alter it to 2 on the "
            "topic or the cluster."
        )
    return None
