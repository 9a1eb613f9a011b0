"""bytes -> records: decoded and validated here and nowhere else.

Unknown fields are ignored, so that a producer may be newer than a worker. What is required is strict: a field that is
missing, mistyped or out of bounds is a RejectedEventError that names it. What is optional is lenient: it never costs
the event (see repair). An id may be an integer, and is its decimal text.
"""

import json
import re
import string
from collections import Counter
from datetime import datetime
from functools import cache
from typing import Any, Final, TypeVar

import msgspec

from streams.errors import RejectedEventError
from streams.records import (
    EARLIEST_MS,
    INTERACTION_TYPES,
    MAX_EVENT_BYTES,
    MAX_ID_BYTES,
    Example,
    Id,
    Impression,
    Interaction,
    Timestamp,
)
from streams.repair import Fates, may_be_wild, repaired, without_wild

Record = TypeVar("Record", bound=msgspec.Struct)

_FIELD: Final = re.compile(r"field `([A-Za-z_]+)`|`\$[^`]*\.([A-Za-z_]+)")


def decoder(record: type[Record]) -> msgspec.json.Decoder[Record]:
    """Return a decoder to be made once and used for every record of a topic."""
    return msgspec.json.Decoder(record)


_INTERACTION: Final = decoder(Interaction)
_decode_interaction: Final = _INTERACTION.decode
_IMPRESSION: Final = decoder(Impression)
_EXAMPLE: Final = decoder(Example)


def decode(using: msgspec.json.Decoder[Record], value: bytes | None, fates: Fates | None = None) -> Record:
    """Return the record that value holds; its timestamp is as it came.

    Args:
        using: the decoder of the record's type.
        value: what came.
        fates: counts the fields that did not fit and were read all the same, or left out.

    Raises:
        RejectedEventError: it is a tombstone, no JSON, is too large, lacks a field or has a required one that is wrong.
    """
    value = _present(value)
    fates = Counter() if fates is None else fates
    is_doubtful = may_be_wild(value)
    try:
        record = using.decode(value)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as exc:
        record = _decode_leniently(using.type, value, exc, fates)
        is_doubtful = True  # Python's JSON, unlike msgspec's, takes half a surrogate pair
    required_ids, optional = _fields_of(type(record))
    for name in required_ids:
        _check_id(name, getattr(record, name))
    return without_wild(record, optional, fates) if is_doubtful else record


def decode_strictly(using: msgspec.json.Decoder[Record], value: bytes | None) -> Record:
    """Return the record that value holds; Headrace wrote it, so that a field that does not fit is a defect.

    Raises:
        RejectedEventError: any of its fields is wrong.
    """
    value = _present(value)
    try:
        return using.decode(value)
    except msgspec.ValidationError as exc:
        raise _rejection(str(exc)) from exc
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as exc:
        raise RejectedEventError("undecodable", f"the record is not UTF-8 JSON ({exc})") from exc


def decode_interaction(value: bytes | None, now_ms: int, max_future_ms: int, fates: Fates | None = None) -> Interaction:
    """Return the interaction that value holds, its timestamp in epoch milliseconds.

    Raises:
        RejectedEventError: see decode; also when the timestamp lies more than max_future_ms after now_ms.
    """
    try:
        interaction = _decode_interaction(value)  # type: ignore[arg-type]  # None is among what `decode` explains
        if len(value) > MAX_EVENT_BYTES or (interaction.context is not None and may_be_wild(value)):  # type: ignore[arg-type]
            interaction = decode(_INTERACTION, value, fates)
    except (ValueError, TypeError, RecursionError):
        interaction = decode(_INTERACTION, value, fates)
    timestamp = interaction.timestamp
    if type(timestamp) is not int:
        timestamp = epoch_ms(timestamp)
        interaction = msgspec.structs.replace(interaction, timestamp=timestamp)
    if not EARLIEST_MS < timestamp <= now_ms + max_future_ms:
        raise _out_of_range(timestamp)
    user_id, item_id, event_id = interaction.user_id, interaction.item_id, interaction.event_id
    if not (user_id.isascii() and item_id.isascii() and event_id.isascii()) or (
        user_id < "!" or item_id < "!" or event_id < "!"  # what is blank is below the first sign that is not
    ):
        for name in ("event_id", "user_id", "item_id"):
            _check_id(name, getattr(interaction, name))
    return interaction


def decode_impression(value: bytes | None, now_ms: int, max_future_ms: int, fates: Fates | None = None) -> Impression:
    """Return the impression that value holds, its timestamp in epoch milliseconds.

    Raises:
        RejectedEventError: as decode_interaction.
    """
    impression = decode(_IMPRESSION, value, fates)
    timestamp = epoch_ms(impression.timestamp)
    if not EARLIEST_MS < timestamp <= now_ms + max_future_ms:
        raise _out_of_range(timestamp)
    for shown in impression.items:
        _check_id("item_id", shown.item_id)
    return msgspec.structs.replace(impression, timestamp=timestamp)


def decode_example(value: bytes | None) -> Example:
    """Return the example that value holds.

    Raises:
        RejectedEventError: as decode_strictly; also when the history's lists are not of one length.
    """
    example = decode_strictly(_EXAMPLE, value)
    history = example.history
    if not len(history.items) == len(history.types) == len(history.timestamps):
        raise RejectedEventError("wrong_type", "the lists of a history are not of one length", "history")
    return example


def epoch_ms(timestamp: Timestamp) -> int:
    """Return epoch milliseconds for a wire timestamp; a time without a zone is taken as UTC.

    Raises:
        RejectedEventError: the string is no RFC 3339 time.
    """
    if isinstance(timestamp, int):
        return timestamp
    try:
        moment = datetime.fromisoformat(timestamp)
        return round((moment if moment.tzinfo else moment.replace(tzinfo=_UTC)).timestamp() * 1000)
    except (ValueError, OverflowError) as exc:
        raise RejectedEventError(
            "wrong_type", f"timestamp {timestamp!r} is neither epoch milliseconds nor RFC 3339", "timestamp"
        ) from exc


_UTC: Final = datetime.fromisoformat("1970-01-01T00:00:00+00:00").tzinfo


def _present(value: bytes | None) -> bytes:
    if value is None:
        raise RejectedEventError("tombstone", "the record has no value; send the event itself")
    if len(value) > MAX_EVENT_BYTES:
        raise RejectedEventError("too_large", f"{len(value)} bytes, the limit is {MAX_EVENT_BYTES}")
    return value


def _decode_leniently(record: type[Record], value: bytes, why: Exception, fates: Fates) -> Record:
    try:
        found = _any_json(value)
    except (ValueError, RecursionError):
        raise RejectedEventError("undecodable", f"the record is not UTF-8 JSON ({why})") from why
    try:
        return msgspec.convert(repaired(record, found, fates) if isinstance(found, dict) else found, record)
    except msgspec.ValidationError as exc:
        raise _rejection(str(exc)) from exc
    except UnicodeEncodeError as exc:
        raise RejectedEventError("undecodable", f"a field is not valid Unicode ({exc})") from exc


def _any_json(value: bytes) -> Any:  # noqa: ANN401 - JSON
    """Return what JSON holds; also what Python and pandas write for no number, which JSON does not know."""
    try:
        return msgspec.json.decode(value)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return json.loads(value.decode(), parse_constant=lambda _: None)


@cache
def _fields_of(record: type[msgspec.Struct]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return the names of the ids that a record requires, and of what is optional."""
    fields = msgspec.structs.fields(record)
    required_ids = tuple(field.name for field in fields if field.required and field.type == Id)
    return required_ids, tuple(field.name for field in fields if not field.required)


def _out_of_range(timestamp: int) -> RejectedEventError:
    if 0 < timestamp <= EARLIEST_MS:
        detail = f"timestamp {timestamp} looks like epoch seconds; send milliseconds"
    elif timestamp >= 1 << 50:
        detail = f"timestamp {timestamp} looks like epoch micro- or nanoseconds; send milliseconds"
    else:
        detail = f"timestamp {timestamp} is no event time in epoch milliseconds up to now; check the producer's clock"
    return RejectedEventError("timestamp_out_of_range", detail, "timestamp")


def _check_id(name: str, identifier: str) -> None:
    try:
        size = len(identifier.encode())
    except UnicodeEncodeError as exc:  # JSON may escape half a surrogate pair
        raise RejectedEventError("undecodable", f"{name} is not valid Unicode", name) from exc
    if size > MAX_ID_BYTES:
        raise RejectedEventError("wrong_type", f"{name} has {size} bytes, the limit is {MAX_ID_BYTES}", name)
    if not identifier.strip(string.whitespace):
        raise RejectedEventError("wrong_type", f"{name} is blank", name)


def _rejection(message: str) -> RejectedEventError:
    found = _FIELD.search(message)
    field = (found[1] or found[2]) if found else None
    if "missing required field" in message:
        return RejectedEventError("missing_field", message, field)
    if field == "type" and "Invalid enum value" in message:
        return RejectedEventError("unknown_type", f"{message}; known: {', '.join(INTERACTION_TYPES)}", field)
    return RejectedEventError("wrong_type", message, field)
