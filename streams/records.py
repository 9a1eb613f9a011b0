"""The records on the wire, decoded and validated here and nowhere else.

JSON, UTF-8. Unknown fields are ignored, so that a producer may be newer than a worker; a missing or mistyped required
field is a RejectedEventError that names it. `timestamp` is event time: epoch milliseconds, or an RFC 3339 string.
"""

import re
from datetime import datetime
from typing import Annotated, Any, Final, Literal, TypeVar

import msgspec

from streams.errors import RejectedEventError

InteractionType = Literal["view", "click", "cart", "purchase", "search", "rating", "like", "dislike", "share", "remove"]
INTERACTION_TYPES: Final = (
    "view", "click", "cart", "purchase", "search", "rating", "like", "dislike", "share", "remove",
)  # fmt: skip
TYPE_CODES: Final = {name: code for code, name in enumerate(INTERACTION_TYPES, start=1)}
"""What the model and the state store for a type; 0 is padding. Append-only: codes are kept for ever."""

REASONS: Final = (
    "undecodable", "missing_field", "wrong_type", "unknown_type", "timestamp_out_of_range", "too_late", "too_large",
    "tombstone", "broken_state",
)  # fmt: skip
"""Why an event was dead-lettered: the whole set, because it labels a metric."""

MAX_ID_BYTES: Final = 255
"""An id's length is one byte in the state."""

MAX_EVENT_BYTES: Final = 1_048_576

HISTORY_HEADER: Final = "history"
"""On an interactions record, whatever its value: the past of a shop. It is folded, but neither answered nor learned."""

Id = Annotated[str, msgspec.Meta(min_length=1, max_length=MAX_ID_BYTES)]
Timestamp = int | str


class Interaction(msgspec.Struct, frozen=True, gc=False, omit_defaults=True):
    """A user did something with an item."""

    event_id: Id
    user_id: Id
    item_id: Id
    type: InteractionType
    timestamp: Timestamp
    """After decode_interaction always epoch milliseconds."""
    value: float | None = None
    """Price paid, stars given, seconds watched: what the type makes of it."""
    context: dict[str, Any] | None = None


class Shown(msgspec.Struct, frozen=True, omit_defaults=True):
    """One item of an impression."""

    item_id: Id
    position: int
    propensity: float | None = None
    """Probability with which the item was shown at its position."""


class Impression(msgspec.Struct, frozen=True, omit_defaults=True):
    """Items were shown to a user."""

    event_id: Id
    user_id: Id
    items: Annotated[list[Shown], msgspec.Meta(min_length=1, max_length=200)]
    timestamp: Timestamp
    recommendation_id: str | None = None
    version: int | None = None
    context: dict[str, Any] | None = None


class Item(msgspec.Struct, frozen=True, omit_defaults=True):
    """An item of the catalogue, as its latest event says."""

    item_id: Id
    title: str = ""
    text: str = ""
    category: str = ""
    price: float | None = None
    in_stock: bool = True
    attributes: dict[str, Any] = {}  # msgspec copies an empty default
    brand: str = ""
    tags: list[str] = []  # msgspec copies an empty default
    stock: int | None = None
    """Pieces that can be sold; none left is out of stock."""
    added: Timestamp | None = None
    """When it came into the shop."""


class Request(msgspec.Struct, frozen=True, omit_defaults=True):
    """A user's list is asked for."""

    request_id: Id
    user_id: Id
    k: Annotated[int, msgspec.Meta(ge=1, le=100)] = 10
    surface: str = ""
    exclude: list[str] = []
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

    items: list[str]
    types: list[int]
    timestamps: list[int]


class Outcome(msgspec.Struct, frozen=True):
    """What the user did next."""

    item_id: str
    type: int
    timestamp: int
    offset: int
    """In the source partition of the example: rising, which is how the learner takes each outcome once."""


class Exposure(msgspec.Struct, frozen=True, omit_defaults=True):
    """An impression that an interaction followed: what was taken, and what was shown beside it and passed over."""

    impression_id: str
    """The impression's event_id; with `taken` it tells an exposure that comes a second time after a crash."""
    timestamp: int
    """Event time of the impression."""
    taken: Shown
    passed: list[Shown]
    offset: int = -1
    """Of the outcome that it explains; none when the impression arrived after the interaction."""


class Example(msgspec.Struct, frozen=True, omit_defaults=True):
    """A history as it was when it was served, and its outcomes: what the learner learns from."""

    user_id: str
    partition: int
    """Of `interactions`."""
    history: ExampleHistory
    outcomes: list[Outcome]
    answered: int
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
    at: int
    """Processing time, epoch milliseconds."""
    slot: str = "champion"
    stage: str = ""
    """Of the learning weights: shadow, canary, serving; or pinned."""
    share: float = 1.0
    """Of users that the learning weights serve."""
    canary: float = 0.0
    """Of users that slot `challenger` serves; the champion serves the others."""
    salt: int = 0
    """Of the hash that chooses them; another one for each canary."""
    command: int = -1
    """Offset in `decisions` of the command that was carried out or refused."""
    why: str = ""
    """Of a refusal, a sentence."""
    generation: int = 0
    """The first that carries the decision."""
    version: int = 0
    against: str = ""
    """What the learning weights were compared with."""
    outcomes: int = 0
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
    at: int
    version: int | None = None
    """To pin or to go back to; the anchor where not given."""


Record = TypeVar("Record")

_ENCODER: Final = msgspec.json.Encoder()
_FIELD: Final = re.compile(r"`\$\.([A-Za-z_]+)|field `([A-Za-z_]+)`")
encode = _ENCODER.encode


def decoder(record: type[Record]) -> msgspec.json.Decoder[Record]:
    """Return a decoder to be made once and used for every record of a topic."""
    return msgspec.json.Decoder(record)


_INTERACTION: Final = decoder(Interaction)
_decode_interaction: Final = _INTERACTION.decode
_IMPRESSION: Final = decoder(Impression)
_EXAMPLE: Final = decoder(Example)
decode_example = _EXAMPLE.decode


def decode(using: msgspec.json.Decoder[Record], value: bytes | None) -> Record:
    """Return the record that value holds.

    Raises:
        RejectedEventError: it is a tombstone, no JSON, is too large, lacks a field or has one of a wrong type.
    """
    if value is None:
        raise RejectedEventError("tombstone", "the record has no value; send the event itself")
    if len(value) > MAX_EVENT_BYTES:
        raise RejectedEventError("too_large", f"{len(value)} bytes, the limit is {MAX_EVENT_BYTES}")
    try:
        return using.decode(value)
    except msgspec.ValidationError as exc:
        raise _rejection(str(exc)) from exc
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as exc:
        raise RejectedEventError("undecodable", f"the record is not UTF-8 JSON ({exc})") from exc


def decode_interaction(value: bytes | None, now_ms: int, max_future_ms: int) -> Interaction:
    """Return the interaction that value holds, its timestamp in epoch milliseconds.

    Raises:
        RejectedEventError: see decode; also when the timestamp lies more than max_future_ms after now_ms.
    """
    try:
        interaction = _decode_interaction(value)  # type: ignore[arg-type]  # None is among what `decode` explains
    except (ValueError, TypeError, RecursionError):
        interaction = decode(_INTERACTION, value)
    if len(value) > MAX_EVENT_BYTES:  # type: ignore[arg-type]
        decode(_INTERACTION, value)
    timestamp = interaction.timestamp
    if type(timestamp) is not int:
        timestamp = epoch_ms(timestamp)
        interaction = msgspec.structs.replace(interaction, timestamp=timestamp)
    if not 0 < timestamp <= now_ms + max_future_ms:
        raise _out_of_range(timestamp)
    if not (interaction.user_id.isascii() and interaction.item_id.isascii()):
        _check_length("user_id", interaction.user_id)
        _check_length("item_id", interaction.item_id)
    return interaction


def decode_impression(value: bytes | None, now_ms: int, max_future_ms: int) -> Impression:
    """Return the impression that value holds, its timestamp in epoch milliseconds.

    Raises:
        RejectedEventError: as decode_interaction.
    """
    impression = decode(_IMPRESSION, value)
    timestamp = epoch_ms(impression.timestamp)
    if not 0 < timestamp <= now_ms + max_future_ms:
        raise _out_of_range(timestamp)
    _check_length("user_id", impression.user_id)
    for shown in impression.items:
        _check_length("item_id", shown.item_id)
    return msgspec.structs.replace(impression, timestamp=timestamp)


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


def _out_of_range(timestamp: int) -> RejectedEventError:
    return RejectedEventError(
        "timestamp_out_of_range",
        f"timestamp {timestamp} is not an event time in epoch milliseconds up to now; check the producer's clock",
        "timestamp",
    )


def _check_length(name: str, identifier: str) -> None:
    try:
        size = len(identifier.encode())
    except UnicodeEncodeError as exc:  # JSON may escape half a surrogate pair
        raise RejectedEventError("undecodable", f"{name} is not valid Unicode", name) from exc
    if size > MAX_ID_BYTES:
        raise RejectedEventError("wrong_type", f"{name} has {size} bytes, the limit is {MAX_ID_BYTES}", name)


def _rejection(message: str) -> RejectedEventError:
    found = _FIELD.search(message)
    field = (found[1] or found[2]) if found else None
    if "missing required field" in message:
        return RejectedEventError("missing_field", message, field)
    if field == "type" and "Invalid enum value" in message:
        return RejectedEventError("unknown_type", f"{message}; known: {', '.join(INTERACTION_TYPES)}", field)
    return RejectedEventError("wrong_type", message, field)
