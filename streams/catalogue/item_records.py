"""records of items and rows -> what they say: one rule for workers, the learner and Triton's backend.

A record that one reader rejects and another applies would make them disagree on what can be recommended.
"""

from typing import Final

from streams.decoding import decode, decoder
from streams.errors import RejectedEventError
from streams.records import MAX_ID_BYTES, Item
from streams.repair import Fates

_ITEM: Final = decoder(Item)


def read_item(key: bytes | None, value: bytes | None, fates: Fates | None = None) -> tuple[str, Item | None]:
    """Return an item's id and its newest description, None when a tombstone retires it.

    Its key must be the id, because compaction goes by the key.

    Args:
        key: of the record.
        value: of the record.
        fates: counts the fields that did not fit.

    Raises:
        RejectedEventError: nobody may apply it.
    """
    item_id = _id(key)
    if value is None:
        return item_id, None
    item = decode(_ITEM, value, fates)
    if item.item_id != item_id:
        raise RejectedEventError("wrong_type", f"the key {item_id!r} is not the item_id {item.item_id!r}", "item_id")
    return item_id, item


def read_row(key: bytes | None) -> str | None:
    """Return the id of the item that a record of `rows` gives a row, None when it gives none."""
    return key.decode(errors="replace") if key else None


def _id(key: bytes | None) -> str:
    if not key or len(key) > MAX_ID_BYTES:
        raise RejectedEventError("missing_field", "an items record needs its item_id as key", "item_id")
    try:
        return key.decode()
    except UnicodeDecodeError as exc:
        raise RejectedEventError("undecodable", f"the key is not UTF-8 ({exc})", "item_id") from exc
