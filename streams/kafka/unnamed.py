"""a user's record that is rejected -> the same without the user's id, where ids are to be pseudonyms.

What was understood of it stays: the fields that the schema has, under the pseudonym. What was not may name the user
anywhere, so it is left out; the record itself is where it came from, and a dead letter says where that is.
"""

from collections.abc import Collection
from typing import Any, Final

import msgspec

from streams.pseudonyms import Pseudonym
from streams.records import Impression, Interaction, Request, encode

_KNOWN: Final = {
    name for record in (Interaction, Impression, Request) for name in record.__struct_fields__ if name != "context"
}
_DECODER: Final = msgspec.json.Decoder(dict[str, Any])


class Unnamed:
    """Takes users' ids out of records.

    Args:
        pseudonym: what is put in their place.
        topics: those with the records of users.
    """

    def __init__(self, pseudonym: Pseudonym, topics: Collection[str]) -> None:
        self._pseudonym = pseudonym
        self._topics = topics

    def names(self, topic: str) -> bool:
        """Return whether the records of a topic name users."""
        return topic in self._topics

    def key(self, key: bytes | None, partition: int) -> bytes | None:
        """Return a record's key under the pseudonym; None when it is no text."""
        try:
            return None if key is None else self._pseudonym(key.decode(), partition).encode()
        except UnicodeDecodeError:
            return None

    def value(self, value: bytes | None, partition: int) -> bytes | None:
        """Return what is known of a record under the pseudonym; None when it does not say who its user is."""
        try:
            fields = _DECODER.decode(value or b"")
        except (msgspec.DecodeError, RecursionError, UnicodeDecodeError):
            return None
        user_id = fields.get("user_id")
        if not isinstance(user_id, str) or not user_id:
            return None
        kept = {
            name: found
            for name, found in fields.items()
            if name in _KNOWN and not (name.endswith("_id") and user_id in str(found))  # u1's event may be u1-17
        }
        return encode(kept | {"user_id": self._pseudonym(user_id, partition)})
