"""The records on the wire; decoding reads and validates them.

JSON, UTF-8. `timestamp` is event time: epoch milliseconds, or an RFC 3339 string. Every number has bounds that whoever
takes it can hold.
"""

from typing import Annotated, Any, Final, Literal

import msgspec

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


encode: Final = msgspec.json.Encoder().encode
