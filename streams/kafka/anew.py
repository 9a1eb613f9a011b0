"""What was made of topics that are no more is given up, so that it is made anew of those that there are.

Each step leaves what the next start would find and finish: the states are gone before it is written down that there are
new ones.
"""

import shutil
from pathlib import Path
from typing import Final

import stamina
from confluent_kafka import ConsumerGroupState, KafkaError, KafkaException
from confluent_kafka.admin import AdminClient

from streams.errors import StartError
from streams.kafka.clients import librdkafka_config
from streams.kafka.identity import UNKNOWN, identities
from streams.kafka.origins import MADE_OF, write_origin
from streams.kafka.refusals import refusal
from streams.kafka.topic_setup import ensure_topics
from streams.settings import Settings
from streams.topics import CHANGELOG

IDS: Final = "topics.json"
"""Of a worker's folder: the ids of the topics that its tables are copies of."""
_SECONDS: Final = 20.0


def clear_tables(folder: Path) -> bool:
    """Delete a worker's tables, which are copies of the changelog; return whether there were any."""
    tables = [path for path in folder.iterdir() if path.is_dir()] if folder.is_dir() else []
    for path in tables:
        shutil.rmtree(path)
    (folder / IDS).unlink(missing_ok=True)
    return bool(tables)


def make_states_anew(settings: Settings) -> None:
    """Delete all users' states, and have the workers read `interactions` from its beginning.

    Raises:
        StartError: a worker runs, or Kafka does not answer or refuses.
    """
    group = settings.topics.workers
    try:
        admin = AdminClient(librdkafka_config(settings))
        if admin.describe_consumer_groups([group])[group].result(_SECONDS).state not in {
            ConsumerGroupState.EMPTY, ConsumerGroupState.DEAD,
        }:  # fmt: skip
            raise StartError(f"A worker of {group} is running or was until a moment ago; stop all workers first.")
        _delete_group(admin, group)
    except KafkaException as exc:
        raise refusal(settings, exc) from exc
    _make_anew(settings, CHANGELOG)


def make_weights_anew(settings: Settings) -> None:
    """Delete what was published of the model.

    Raises:
        StartError: Kafka does not answer or refuses.
    """
    _make_anew(settings, "weights")


def _make_anew(settings: Settings, name: str) -> None:
    topic = settings.topics.named(name)
    before = identities(settings, [name]).get(name)
    try:
        if before:
            admin = AdminClient(librdkafka_config(settings))
            admin.delete_topics([topic], operation_timeout=_SECONDS)[topic].result(_SECONDS)
    except KafkaException as exc:
        raise refusal(settings, exc) from exc
    for attempt in stamina.retry_context(on=StartError, timeout=_SECONDS, attempts=None, wait_max=0.5):
        with attempt:  # Kafka deletes after it has said so
            ensure_topics(settings)
            found = identities(settings, (name, *MADE_OF[name]))
            if found.get(name, before) == before and not (before and before.topic_id == UNKNOWN):
                raise StartError(f"{topic} is still being deleted; try again in a moment.")
    write_origin(settings, name, found)


def _delete_group(admin: AdminClient, group: str) -> None:
    try:
        admin.delete_consumer_groups([group])[group].result(_SECONDS)
    except KafkaException as exc:
        if exc.args[0].code() != KafkaError.GROUP_ID_NOT_FOUND:
            raise
