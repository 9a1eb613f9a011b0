"""topics -> their identities: a topic that was made anew under its name is another one, with offsets from 0 again.

What was made of a topic holds its offsets or its order, and is worth nothing beside another topic of the same name: a
worker would take new events for events that it has read, and a model's row would mean another item. So whoever keeps
something that was made of a topic remembers the id that Kafka gave it.
"""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from confluent_kafka import KafkaError, KafkaException, TopicCollection
from confluent_kafka.admin import AdminClient

from streams.errors import StartError
from streams.kafka.clients import librdkafka_config
from streams.kafka.refusals import refusal
from streams.settings import Settings

UNKNOWN: Final = ""
"""Of brokers older than topic ids, and of a few that speak Kafka's protocol without them."""
_NO_ID: Final = "AAAAAAAAAAAAAAAAAAAAAA"
"""Sixteen zero bytes, as Kafka writes an id."""
_SECONDS: Final = 10.0


class OtherTopicError(StartError):
    """A topic is not the one that something was made of."""


@dataclass(frozen=True, slots=True)
class Identity:
    """A topic as it is now."""

    topic_id: str
    partitions: int


def identities(settings: Settings, names: Iterable[str]) -> dict[str, Identity]:
    """Return the identity of each topic that exists, by its name without the prefix.

    Raises:
        StartError: Kafka does not answer or refuses.
    """
    full = {settings.topics.named(name): name for name in names}
    found = {}
    try:
        admin = AdminClient(librdkafka_config(settings))
        described = admin.describe_topics(TopicCollection(list(full)), request_timeout=_SECONDS)
        for topic, future in described.items():
            if description := _existing(future):
                topic_id = str(description.topic_id)
                known = UNKNOWN if topic_id == _NO_ID else topic_id
                found[full[topic]] = Identity(known, len(description.partitions))
    except KafkaException as exc:
        raise refusal(settings, exc) from exc
    return found


def topic_ids(found: Mapping[str, Identity]) -> dict[str, str]:
    """Return what is to be remembered of topics."""
    return {name: identity.topic_id for name, identity in found.items()}


def changed(remembered: Mapping[str, str], now: Mapping[str, str]) -> list[str]:
    """Return the names of the topics that are other ones now, or gone.

    >>> changed({"rows": "a", "items": "b", "weights": ""}, {"rows": "a", "items": "c", "weights": "d"})
    ['items']
    """
    return [name for name, before in remembered.items() if _other(before, now.get(name))]


def _other(before: str, now: str | None) -> bool:
    return now != before and UNKNOWN not in {before, now}


def remembered(path: Path) -> dict[str, str]:
    """Return the ids that a file holds, none when there is no file that can be read."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return {str(name): str(topic_id) for name, topic_id in found.items()} if isinstance(found, dict) else {}


def remember(path: Path, ids: Mapping[str, str]) -> None:
    """Write ids to a file, whole or not at all."""
    scratch = path.with_suffix(".new")
    scratch.write_text(json.dumps(dict(ids), indent=1), encoding="utf-8")
    scratch.rename(path)


def _existing(future: Any) -> Any:  # noqa: ANN401 - of confluent-kafka, which has no types here
    try:
        return future.result(_SECONDS)
    except KafkaException as exc:
        if exc.args[0].code() == KafkaError.UNKNOWN_TOPIC_OR_PART:
            return None
        raise
