"""people -> decisions: pin, promote, roll back and freeze; the learner carries it out and writes down what it did.

All of it is on `decisions`: each wish under a key that begins with `command/`, what serves now under its slot, and
every decision under one that begins with `log/`; compaction keeps them all.
"""

import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final, Literal

import msgspec
from confluent_kafka import Producer

from streams.errors import StartError
from streams.kafka.clients import librdkafka_config
from streams.kafka.topic_reader import END_MS, reader, to_the_end
from streams.records import Command, DecisionRecord, encode
from streams.settings import Settings
from streams.triton.model_repository import ModelRepository

COMMAND: Final = "command/"
LOG: Final = "log/"
_SECONDS: Final = 10.0

Action = Literal["pin", "promote", "rollback", "freeze", "unfreeze"]


@dataclass(frozen=True)
class VersionInfo:
    """A version on disk."""

    version: int
    generation: int
    quality: dict[str, dict[str, float]]
    """What the learner measured when it wrote the version, by contender and metric."""


def versions(settings: Settings) -> list[VersionInfo]:
    """Return the versions on disk, oldest first."""
    repository = ModelRepository(settings.models_dir)
    found = []
    for version in repository.versions():
        facts = repository.metadata(version)
        quality = msgspec.json.decode(facts.get("quality", "{}"))
        found.append(VersionInfo(version, int(facts.get("generation", 0)), quality))
    return found


def command(settings: Settings, action: Action, *, by: str, version: int | None = None) -> None:
    """Ask the learner for an action.

    Raises:
        StartError: there is no such version, or Kafka does not take the command.
    """
    if version is not None and version not in ModelRepository(settings.models_dir).versions():
        raise StartError(f"There is no version {version}; `headrace models` lists them.")
    if action == "pin" and version is None:
        raise StartError("Name the version to pin; `headrace models` lists them.")
    producer = Producer(librdkafka_config(settings, enable_idempotence=True))
    now = time.time_ns()
    wish = Command(action, by, now // 1_000_000, version)
    producer.produce(settings.topics.decisions, encode(wish), f"{COMMAND}{now}", 0)
    if producer.flush(_SECONDS):
        raise StartError(f"Kafka at {settings.broker} does not take the command; check the broker.")


def log(settings: Settings) -> list[DecisionRecord]:
    """Return all decisions, oldest first.

    Raises:
        StartError: Kafka does not answer.
    """
    return [msgspec.json.decode(value, type=DecisionRecord) for key, value in _records(settings) if key.startswith(LOG)]


def current(settings: Settings) -> DecisionRecord | None:
    """Return the decision that is in force for the champion, None before the first.

    Raises:
        StartError: Kafka does not answer.
    """
    newest = dict(_records(settings)).get("champion")
    return msgspec.json.decode(newest, type=DecisionRecord) if newest else None


def _records(settings: Settings) -> Iterator[tuple[str, bytes]]:
    consumer = reader(librdkafka_config(settings, fetch_wait_max_ms=END_MS), settings.topics.decisions)
    try:
        for message in to_the_end(consumer):
            if message.key() and message.value():
                yield message.key().decode(), message.value()
    finally:
        consumer.close()
