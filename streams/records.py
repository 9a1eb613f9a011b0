"""The records on the wire, decoded and validated here and nowhere else.

JSON, UTF-8. Unknown fields are ignored, so that a producer may be newer than a worker. What is required is strict: a
field that is missing, mistyped or out of bounds is a RejectedEventError that names it. What is optional is lenient: it
never costs the event (see repair). An id may be an integer, and is its decimal text. `timestamp` is event time: epoch
milliseconds, or an RFC 3339 string. Every number has bounds that whoever takes it can hold.
"""

import json
import re
import string
from collections import Counter
from datetime import datetime
from functools import cache
from typing import Annotated, Any, Final, Literal, TypeVar

import msgspec

from streams.errors import RejectedEventError
from streams.repair import LEFT_OUT, Fates, repaired

InteractionType = Literal["view", "click", "cart", "purchase", "search", "rating", "like", "dislike", "share", "remove"]
INTERACTION_TYPES: Final = (
    "view", "click", "cart", "purchase", "search", "rating", "like", "dislike", "share", "remove",
)  # fmt: skip
TYPE_CODES: Final = {name: code for code, name in enumerate(INTERACTION_TYPES, start=1)}
"""What the model and the state store for a type; 0 is padding. Append-only: codes are kept for ever."""

REASONS: Final = (
    "undecodable", "missing_field", "wrong_type", "unknown_type", "timestamp_out_of_range", "too_late", "too_large",
    "tombstone", "broken_state", "unprocessable",
)  # fmt: skip
"""Why an event was dead-lettered: the whole set, because it labels a metric."""

MAX_ID_BYTES: Final = 255
"""An id's length is one byte in the state."""

MAX_EVENT_BYTES: Final = 1_048_576

MAX_TABLE_BYTES: Final = 65_536
"""Of `context` and `attributes`."""

MAX_TABLE_DEPTH: Final = 16
"""Of objects and lists in them: encoding recurses, and how deep it may depends on who calls."""

EARLIEST_MS: Final = 100_000_000_000
"""March 1973. Epoch seconds are below it until the year 5138, so they are never taken for milliseconds."""

HISTORY_HEADER: Final = "history"
"""On an interactions record, whatever its value: the past of a shop. It is folded, but neither answered nor learned."""

Id = Annotated[str, msgspec.Meta(min_length=1, max_length=MAX_ID_BYTES)]
Timestamp = int | str
EpochMs = Annotated[int, msgspec.Meta(ge=0, le=(1 << 48) - 1)]
"""Of records that Headrace itself writes: what six bytes hold."""
Offset = Annotated[int, msgspec.Meta(ge=-1, le=1 << 62)]
"""-1 is none."""
Whole = Annotated[int, msgspec.Meta(ge=0, le=1 << 62)]
TypeCode = Annotated[int, msgspec.Meta(ge=0, le=255)]
Amount = Annotated[float, msgspec.Meta(ge=-1e15, le=1e15)]
Share = Annotated[float, msgspec.Meta(ge=0, le=1)]
Short = Annotated[str, msgspec.Meta(max_length=1000)]
"""Text that is held in memory for every item."""


class Interaction(msgspec.Struct, frozen=True, gc=False, omit_defaults=True):
    """A user did something with an item."""

    event_id: Id
    user_id: Id
    item_id: Id
    type: InteractionType
    timestamp: Timestamp
    """After decode_interaction always epoch milliseconds."""
    value: Amount | None = None
    """Price paid, stars given, seconds watched: what the type makes of it."""
    context: dict[str, Any] | None = None


class Shown(msgspec.Struct, frozen=True, omit_defaults=True):
    """One item of an impression."""

    item_id: Id
    position: Annotated[int, msgspec.Meta(ge=0, le=(1 << 31) - 1)]
    propensity: Annotated[float, msgspec.Meta(gt=0, le=1)] | None = None
    """Probability with which the item was shown at its position."""


class Impression(msgspec.Struct, frozen=True, omit_defaults=True):
    """Items were shown to a user."""

    event_id: Id
    user_id: Id
    items: Annotated[list[Shown], msgspec.Meta(min_length=1, max_length=200)]
    timestamp: Timestamp
    recommendation_id: Id | None = None
    version: Whole | None = None
    context: dict[str, Any] | None = None


class Item(msgspec.Struct, frozen=True, omit_defaults=True):
    """An item of the catalogue, as its latest event says."""

    item_id: Id
    title: Short = ""
    text: str = ""
    category: Short = ""
    price: Annotated[float, msgspec.Meta(ge=0, le=1e15)] | None = None
    in_stock: bool = True
    attributes: dict[str, Any] = {}  # msgspec copies an empty default
    brand: Short = ""
    tags: Annotated[list[Short], msgspec.Meta(max_length=100)] = []  # msgspec copies an empty default
    stock: Annotated[int, msgspec.Meta(ge=-(1 << 31), le=(1 << 31) - 1)] | None = None
    """Pieces that can be sold; none left is out of stock."""
    added: Timestamp | None = None
    """When it came into the shop."""


class Request(msgspec.Struct, frozen=True, omit_defaults=True):
    """A user's list is asked for."""

    request_id: Id
    user_id: Id
    k: Annotated[int, msgspec.Meta(ge=1, le=100)] = 10
    surface: Short = ""
    exclude: Annotated[list[Id], msgspec.Meta(max_length=1000)] = []
    timestamp: Timestamp = 0
    context: dict[str, Any] | None = None


class Cause(msgspec.Struct, frozen=True):
    """The record that a recommendation answers."""

    topic: str
    """Without the deployment's prefix."""
    partition: int
    offset: int

    @property
    def position(self) -> str:
        """The cause as one word, `topic/partition/offset`: what POST returns and `?after=` takes."""
        return f"{self.topic}/{self.partition}/{self.offset}"


class RecommendedItem(msgspec.Struct, frozen=True):
    """One place of a list."""

    item_id: str
    score: float
    source: str
    """What proposed it: sequence, covisit or popular."""


class Recommendation(msgspec.Struct, frozen=True):
    """The list returned to one user."""

    recommendation_id: str
    """The same for the same cause, so that a consumer can drop a second answer after a crash."""
    user_id: str
    cause: Cause
    items: list[RecommendedItem]
    version: int
    """Of the model on Triton; 0 when a lower rung answered."""
    generation: int
    """The newest update that the answer reflects, whichever rung gave it; 0 before the first."""
    rung: str
    """triton, covisit or popular."""
    timestamp: int
    """Processing time of the answer, epoch milliseconds."""
    stage_ms: dict[str, float]
    """Milliseconds spent a stage, measured by the worker."""
    slot: str = "champion"
    """Which model answered; `challenger` for users of a canary."""


class HistoryEntry(msgspec.Struct, frozen=True):
    """One interaction of a UserHistory."""

    item_id: str
    type: str
    timestamp: int


class UserHistory(msgspec.Struct, frozen=True):
    """What is remembered of a user, oldest first."""

    user_id: str
    position: str | None
    """Of the newest interaction it reflects, `topic/partition/offset`; none for an unknown user."""
    interactions: list[HistoryEntry]


class TitledItem(RecommendedItem, frozen=True, omit_defaults=True):
    """One place of a list as HTTP shows it."""

    title: str | None = None


class SimilarItems(msgspec.Struct, frozen=True):
    """The items that users take together with one."""

    item_id: str
    items: list[TitledItem]


class Positions(msgspec.Struct, frozen=True):
    """Where accepted events stand in the stream, in the order in which they were sent."""

    positions: list[str]


class ExampleHistory(msgspec.Struct, frozen=True):
    """A user's interactions before an example's first outcome, oldest first, as parallel lists."""

    items: list[Id]
    types: list[TypeCode]
    timestamps: list[EpochMs]


class Outcome(msgspec.Struct, frozen=True):
    """What the user did next."""

    item_id: Id
    type: TypeCode
    timestamp: EpochMs
    offset: Offset
    """In the source partition of the example: rising, which is how the learner takes each outcome once."""


class Exposure(msgspec.Struct, frozen=True, omit_defaults=True):
    """An impression that an interaction followed: what was taken, and what was shown beside it and passed over."""

    impression_id: str
    """The impression's event_id; with `taken` it tells an exposure that comes a second time after a crash."""
    timestamp: EpochMs
    """Event time of the impression."""
    taken: Shown
    passed: list[Shown]
    offset: Offset = -1
    """Of the outcome that it explains; none when the impression arrived after the interaction."""


class Example(msgspec.Struct, frozen=True, omit_defaults=True):
    """A history as it was when it was served, and its outcomes: what the learner learns from."""

    user_id: Id
    partition: Annotated[int, msgspec.Meta(ge=0, le=(1 << 31) - 1)]
    """Of `interactions`."""
    history: ExampleHistory
    outcomes: list[Outcome]
    answered: EpochMs
    """Processing time, epoch milliseconds."""
    shown: list[Exposure] = []
    """Negatives; a learner that does not know them leaves them out."""


class DecisionRecord(msgspec.Struct, frozen=True, omit_defaults=True):
    """What serves from now on, why, and who said so."""

    action: str
    """canary, promote, reject, rollback, advance, pin, freeze, unfreeze; resume, by a learner that came back; or
    refuse, of a command that cannot be carried out."""
    by: str
    """`gate`, or the person."""
    at: EpochMs
    """Processing time, epoch milliseconds."""
    slot: str = "champion"
    stage: str = ""
    """Of the learning weights: shadow, canary, serving; or pinned."""
    share: Share = 1.0
    """Of users that the learning weights serve."""
    canary: Share = 0.0
    """Of users that slot `challenger` serves; the champion serves the others."""
    salt: Whole = 0
    """Of the hash that chooses them; another one for each canary."""
    command: Offset = -1
    """Offset in `decisions` of the command that was carried out or refused."""
    why: str = ""
    """Of a refusal, a sentence."""
    generation: Whole = 0
    """The first that carries the decision."""
    version: Whole = 0
    against: str = ""
    """What the learning weights were compared with."""
    outcomes: Whole = 0
    mean: float = 0.0
    """Of the paired difference in NDCG@10, learning weights minus the other."""
    low: float = 0.0
    high: float = 0.0
    level: float = 0.0
    quality: dict[str, dict[str, float]] = {}


class Command(msgspec.Struct, frozen=True, omit_defaults=True):
    """What a person wants to be served."""

    action: Literal["pin", "promote", "rollback", "freeze", "unfreeze"]
    by: str
    at: EpochMs
    version: Whole | None = None
    """To pin or to go back to; the anchor where not given."""


Record = TypeVar("Record", bound=msgspec.Struct)

_ENCODER: Final = msgspec.json.Encoder()
_FIELD: Final = re.compile(r"field `([A-Za-z_]+)`|`\$[^`]*\.([A-Za-z_]+)")
encode = _ENCODER.encode


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
    may_be_wild = _may_be_wild(value)
    try:
        record = using.decode(value)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as exc:
        record = _decode_leniently(using.type, value, exc, fates)
        may_be_wild = True  # Python's JSON, unlike msgspec's, takes half a surrogate pair
    required_ids, optional = _fields_of(type(record))
    for name in required_ids:
        _check_id(name, getattr(record, name))
    return _without_wild(record, optional, fates) if may_be_wild else record


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
        if len(value) > MAX_EVENT_BYTES or (interaction.context is not None and _may_be_wild(value)):  # type: ignore[arg-type]
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


def _may_be_wild(value: bytes) -> bool:
    """Tell from the bytes whether an optional field may be too large or too deep; False for most."""
    return len(value) > MAX_TABLE_BYTES or value.count(b"{") + value.count(b"[") > MAX_TABLE_DEPTH


def _without_wild(record: Record, names: tuple[str, ...], fates: Fates) -> Record:
    """Leave out the optional fields that could not be kept or sent on."""
    kept = {name: value for name in names if not _is_wild(value := getattr(record, name))}
    if len(kept) == len(names):
        return record
    fates.update((name, LEFT_OUT) for name in names if name not in kept)
    required = {one.name: getattr(record, one.name) for one in msgspec.structs.fields(type(record)) if one.required}
    return type(record)(**required, **kept)


def _is_wild(value: object) -> bool:
    try:
        size = len(encode(value))
    except (UnicodeEncodeError, RecursionError):
        return True
    return isinstance(value, dict) and (size > MAX_TABLE_BYTES or _is_deeper(value, MAX_TABLE_DEPTH))


def _is_deeper(value: object, limit: int) -> bool:
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return limit < 0 or any(_is_deeper(one, limit - 1) for one in inner)


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
