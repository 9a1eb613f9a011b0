"""items -> rows: every item of the catalogue gets a row, so that it can be recommended before its first click."""

from collections.abc import AsyncIterator
from typing import Any, Final

from streams.catalogue.catalogue import Catalogue
from streams.errors import RejectedEventError
from streams.kafka.dead_letters import DeadLetters
from streams.kafka.outputs import Outputs
from streams.records import MAX_ID_BYTES, Item, decode, decoder
from streams.settings import Settings

_ITEM: Final = decoder(Item)


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
            delivery = self._outputs.delivery()
            for record in event.message.value:
                try:
                    item_id = _item_id(record)
                except RejectedEventError as why:
                    self._dead_letters.send(event.message, record, why, delivery)
                    continue
                if item_id not in self._catalogue.rows:
                    self._outputs.send(self._rows_topic, item_id.encode(), b"{}", delivery)
            await delivery.seal().acknowledged()
            await stream.ack(event)
            yield None


def _item_id(record: Any) -> str:  # noqa: ANN401 - aiokafka's record
    """Return the id of a valid item; its key must be the same id, because compaction goes by the key."""
    key = _key(record.key)
    if record.value is None:  # a tombstone retires the item, and says so by its key alone
        return key
    item = decode(_ITEM, record.value)
    if item.item_id != key:
        raise RejectedEventError("wrong_type", f"the key {key!r} is not the item_id {item.item_id!r}", "item_id")
    return key


def _key(key: bytes | None) -> str:
    if not key or len(key) > MAX_ID_BYTES:
        raise RejectedEventError("missing_field", "an items record needs its item_id as key", "item_id")
    try:
        return key.decode()
    except UnicodeDecodeError as exc:
        raise RejectedEventError("undecodable", f"the key is not UTF-8 ({exc})", "item_id") from exc
