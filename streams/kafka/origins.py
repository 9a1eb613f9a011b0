"""the topic `identities` -> what each topic was made of: the states of which interactions, the weights of which rows.

The folder of a worker or a learner remembers the topics that it was made of; two of Headrace's topics are made of
others as well, and whoever comes with an empty folder goes by this record. It is written by the first role that finds
none, or one about a topic that was itself made anew since.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import msgspec
import structlog
from confluent_kafka import KafkaException, Producer

from streams.errors import StartError
from streams.kafka.clients import librdkafka_config
from streams.kafka.identity import Identity, changed, identities, topic_ids
from streams.kafka.refusals import refusal
from streams.kafka.topic_reader import END_MS, reader, to_the_end
from streams.settings import Settings
from streams.topics import CHANGELOG

_log = structlog.get_logger()

MADE_OF: Final = {CHANGELOG: ("interactions", "impressions"), "weights": ("rows",)}
"""States hold the offsets of the events that they reflect; a row of the weights is a rank in `rows`."""
_SECONDS: Final = 10.0


class Origin(msgspec.Struct, frozen=True):
    """What is remembered of a topic: a record's value."""

    topic_id: str
    partitions: int
    """Of the topics that it was made of: a user's state lies in the partition that the user had then."""
    made_of: dict[str, str]
    """Ids, by name."""


@dataclass(frozen=True, slots=True)
class Parted:
    """A topic that is of others than there are now."""

    name: str
    new: tuple[str, ...]
    """Those that were made anew; none when only the number of partitions is another."""
    partitions: int
    """Of the topics that it was made of, as they were."""


def parted(settings: Settings, name: str) -> Parted | None:
    """Return how a topic does not fit what it was made of, None when it does; remember it when nobody did before.

    Args:
        settings: of the connection.
        name: one of MADE_OF.

    Raises:
        StartError: Kafka does not answer or refuses.
    """
    found = identities(settings, (name, *MADE_OF[name]))
    if len(found) <= len(MADE_OF[name]):
        return None  # one of them is missing: nothing was made yet
    origin = _read(settings).get(name)
    if origin is None or changed({name: origin.topic_id}, topic_ids(found)):
        write_origin(settings, name, found)
        return None
    new = tuple(changed(origin.made_of, topic_ids(found)))
    if new or origin.partitions != found[MADE_OF[name][0]].partitions:
        return Parted(name, new, origin.partitions)
    return None


def write_origin(settings: Settings, name: str, found: Mapping[str, Identity]) -> None:
    """Remember what a topic is made of from now on.

    Raises:
        StartError: Kafka does not take the record.
    """
    sources = MADE_OF[name]
    made_of = {source: found[source].topic_id for source in sources}
    origin = Origin(found[name].topic_id, found[sources[0]].partitions, made_of)
    failures = []
    producer = Producer(librdkafka_config(settings, acks="all"))
    producer.produce(
        settings.topics.identities,
        msgspec.json.encode(origin),
        name,
        on_delivery=lambda error, _: failures.append(error) if error else None,
    )
    if left := producer.flush(_SECONDS):
        raise StartError(f"Kafka at {settings.broker} did not take {left} record of {settings.topics.identities}.")
    if failures:
        raise refusal(settings, KafkaException(failures[0]))


def _read(settings: Settings) -> dict[str, Origin]:
    consumer = reader(librdkafka_config(settings, fetch_wait_max_ms=END_MS), settings.topics.identities)
    origins = {}
    try:
        for record in to_the_end(consumer):
            name = (record.key() or b"").decode(errors="replace")
            try:
                origins[name] = msgspec.json.decode(record.value() or b"", type=Origin)
            except msgspec.DecodeError as exc:
                _log.warning("identity_rejected", offset=record.offset(), why=str(exc))
    finally:
        consumer.close()
    return origins
