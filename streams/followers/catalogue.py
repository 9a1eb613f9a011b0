"""items, rows -> catalogue: followed from the beginning of both topics by a thread."""

import structlog
from confluent_kafka import Message

from streams.catalogue.catalogue import Catalogue
from streams.catalogue.item_records import read_item, read_row
from streams.errors import RejectedEventError
from streams.followers.follower import Follower
from streams.kafka.clients import librdkafka_config
from streams.settings import Settings

log = structlog.get_logger()


class CatalogueFollower:
    """Keeps a Catalogue up to date in a thread of its own."""

    def __init__(self, settings: Settings, catalogue: Catalogue) -> None:
        self.catalogue = catalogue
        self._rows = settings.topics.rows
        client = librdkafka_config(settings, fetch_wait_max_ms=20)
        topics = (self._rows, settings.topics.items)
        self._follower = Follower(client, topics, self._take, lambda what: log.info("catalogue", what=what))
        self.check = self._follower.check
        self.stop = self._follower.stop

    def start(self) -> None:
        """Begin, and return when everything that can be read of the topics now has been read.

        Raises:
            StartError: Kafka gives nothing for a while.
        """
        self._follower.start()
        self._follower.catch_up()

    def _take(self, record: Message) -> None:
        if record.topic() == self._rows:
            if item_id := read_row(record.key()):
                self.catalogue.add_row(item_id)
            return
        try:
            self.catalogue.describe(*read_item(record.key(), record.value()))
        except RejectedEventError:
            return  # the agent that adds items dead-letters it
