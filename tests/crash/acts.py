"""What ends one life of a deployment: afterwards all begins anew, and every event of the new life counts once.

Each act is done to a deployment whose roles may give up what was made of topics that are no more
(HEADRACE_KAFKA__ON_NEW_TOPICS=anew). The same users come again: their new events must not be taken for old ones.
"""

import shutil
import signal
import time
from collections.abc import Callable
from typing import Final

import stamina
from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient

from streams.errors import StartError
from streams.kafka.clients import librdkafka_config
from streams.kafka.identity import identities
from streams.kafka.topic_setup import ensure_topics
from streams.settings import Settings
from tests.crash.roles import Deployment

_SECONDS: Final = 60.0


Act = Callable[[Deployment, Settings], None]


def topic_made_anew(_deployment: Deployment, settings: Settings) -> None:
    """Somebody deletes `interactions` and makes it anew while everything runs."""
    before = identities(settings, ["interactions"])["interactions"]
    admin, topic = AdminClient(librdkafka_config(settings)), settings.topics.interactions
    admin.delete_topics([topic])[topic].result(_SECONDS)
    for attempt in stamina.retry_context(on=(StartError, KafkaException), timeout=_SECONDS, attempts=None):
        with attempt:
            ensure_topics(settings)
            if identities(settings, ["interactions"]).get("interactions", before) == before:
                raise StartError("it is still being deleted")


def broker_emptied(deployment: Deployment, settings: Settings) -> None:
    """Kafka loses its disk; workers and learner keep theirs, as after everybody's `compose down -v`."""
    broker = deployment.broker
    assert broker
    broker.wanted = False
    broker.send(signal.SIGTERM)
    deadline = time.monotonic() + _SECONDS
    while broker.child and time.monotonic() < deadline:
        deployment.keep()
        time.sleep(0.1)
    shutil.rmtree(settings.data_dir / "kafka")
    broker.start()
    for attempt in stamina.retry_context(on=StartError, timeout=_SECONDS, attempts=None):
        with attempt:
            ensure_topics(settings)


ACTS: Final[dict[str, Act]] = {act.__name__: act for act in (topic_made_anew, broker_emptied)}
