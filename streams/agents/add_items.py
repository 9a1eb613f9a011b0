"""items -> rows: every item of the catalogue gets a row, so that it can be recommended before its first click."""

from collections.abc import AsyncIterator
from typing import Any

from streams.agents.faults import rejection
from streams.catalogue.catalogue import Catalogue
from streams.catalogue.item_records import read_item
from streams.kafka.dead_letters import DeadLetters
from streams.kafka.outputs import Outputs
from streams.repair import Fates
from streams.settings import Settings


class AddItems:
    """The agent; a call takes the stream of record batches."""

    def __init__(self, settings: Settings, outputs: Outputs, catalogue: Catalogue, dead_letters: DeadLetters) -> None:
        self._rows_topic = settings.topics.rows
        self._outputs = outputs
        self._catalogue = catalogue
        self._dead_letters = dead_letters

    async def __call__(self, stream: Any) -> AsyncIterator[None]:  # noqa: ANN401 - faust has no types here
        """Append a row for each new item; a batch is finished when Kafka has them."""
        async for event in stream.noack().events():
            delivery, fates = self._outputs.delivery(), Fates()
            for record in event.message.value:
                try:
                    item_id, _ = read_item(record.key, record.value, fates)
                except Exception as exc:  # noqa: BLE001 - one item is set aside, and no others
                    self._dead_letters.send(event.message, record, rejection(exc), delivery)
                    continue
                if item_id not in self._catalogue.rows:
                    self._outputs.send(self._rows_topic, item_id.encode(), b"{}", delivery)
            self._dead_letters.lenient_fields.count(event.message.topic, fates)
            await delivery.seal().acknowledged()
            await stream.ack(event)
            yield None
