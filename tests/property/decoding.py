"""What must hold of every record that is decoded, whatever its topic and its bytes."""

from collections import Counter
from collections.abc import Callable
from typing import Any, Final

import msgspec
import numpy as np

from streams.catalogue.columns import Columns
from streams.decoding import decode, decode_example, decode_impression, decode_interaction, decode_strictly, decoder
from streams.errors import MAX_DETAIL, RejectedEventError
from streams.learning.ledger import Ledger
from streams.records import (
    EARLIEST_MS,
    INTERACTION_TYPES,
    MAX_ID_BYTES,
    REASONS,
    Command,
    DecisionRecord,
    Example,
    Impression,
    Interaction,
    Item,
    Request,
    encode,
)
from streams.repair import LEFT_OUT, READ, Fates
from streams.settings import ImpressionSettings, StateSettings
from streams.state.fold import Fold
from streams.state.impressions import Impressions
from streams.state.user_state import UserState, decode_state
from tests.builders import NOON, interaction

FUTURE_MS: Final = 300_000
_FOLD: Final = Fold(StateSettings())
_IMPRESSIONS: Final = Impressions(ImpressionSettings())
_DECODERS: Final[dict[str, Callable[[bytes | None, Fates], msgspec.Struct]]] = {
    "interactions": lambda value, fates: decode_interaction(value, NOON, FUTURE_MS, fates),
    "impressions": lambda value, fates: decode_impression(value, NOON, FUTURE_MS, fates),
    "items": lambda value, fates: decode(_ITEM, value, fates),
    "requests": lambda value, fates: decode(_REQUEST, value, fates),
    "examples": lambda value, _: decode_example(value),
    "decisions": lambda value, _: decode_strictly(_DECISION, value),
    "commands": lambda value, _: decode_strictly(_COMMAND, value),
}
_ITEM: Final = decoder(Item)
_REQUEST: Final = decoder(Request)
_DECISION: Final = decoder(DecisionRecord)
_COMMAND: Final = decoder(Command)
TOPICS: Final = tuple(_DECODERS)


def outcome(topic: str, value: bytes | None) -> str:
    """Return `accepted` or the reason of the rejection, after checking what must hold of either."""
    fates = Fates()
    try:
        record = _DECODERS[topic](value, fates)
    except RejectedEventError as why:
        check_rejection(why)
        return why.reason
    assert all(field.isidentifier() and fate in {READ, LEFT_OUT} for field, fate in fates)
    check_again(topic, record)
    _CHECKS[type(record)](record)
    return "accepted leniently" if fates else "accepted"


def check_rejection(why: RejectedEventError) -> None:
    """Check a rejection: a dead letter's headers and a problem document can carry it."""
    assert why.reason in REASONS
    assert 0 < len(why.detail) <= MAX_DETAIL
    assert encode(why.detail)
    assert why.field is None or why.field.isidentifier()


def check_again(topic: str, record: msgspec.Struct) -> None:
    """Check that the wire can carry what was accepted, and that it is then accepted as it is."""
    fates = Fates()
    assert _DECODERS[topic](encode(record), fates) == record
    assert not fates


def check_interaction(event: Interaction) -> None:
    """Check that the state can hold an interaction, and join it to an impression."""
    _check_ids(event.event_id, event.user_id, event.item_id)
    assert event.type in INTERACTION_TYPES
    assert type(event.timestamp) is int
    assert EARLIEST_MS < event.timestamp <= NOON + FUTURE_MS
    state = UserState()
    _FOLD.add(state, event, 0)
    _IMPRESSIONS.take(state, event, 0, Counter())
    [entry] = decode_state(state.encode()).history()
    assert (entry.item_id, entry.timestamp) == (event.item_id, event.timestamp)


def check_impression(impression: Impression) -> None:
    """Check that the state can hold an impression beside a history, and the examples what is joined to it."""
    _check_ids(impression.event_id, impression.user_id, *(shown.item_id for shown in impression.items))
    state = UserState()
    _IMPRESSIONS.show(state, impression, 0, Counter())
    taken = interaction(item_id=impression.items[0].item_id, timestamp=max(impression.timestamp, EARLIEST_MS + 1))
    _FOLD.add(state, taken, 0)
    exposures = _IMPRESSIONS.take(state, taken, 0, Counter())
    assert decode_state(state.encode()).section(1)
    assert encode(exposures)


def check_item(item: Item) -> None:
    """Check that the catalogue can hold an item, and HTTP show it."""
    _check_ids(item.item_id)
    columns = Columns()
    columns.grow(2)
    columns.set(1, item)
    assert encode(columns.titles)


def check_request(request: Request) -> None:
    """Check that a request can be answered."""
    _check_ids(request.request_id, request.user_id)
    assert 1 <= request.k <= 100


def check_example(example: Example) -> None:
    """Check that the learner can hold an example."""
    history, outcomes = example.history, example.outcomes
    assert len(list(zip(history.items, history.types, history.timestamps, strict=True))) == len(history.items)
    np.asarray([*history.types, *(one.type for one in outcomes)], np.uint8)
    np.asarray([*history.timestamps, *(one.timestamp for one in outcomes)], np.int64)
    ledger = Ledger()
    for one in outcomes:
        ledger.take(one.offset)


def check_decision(decision: DecisionRecord | Command) -> None:
    """Check that a decision's numbers are such as 64 bits hold."""
    np.asarray([value for value in msgspec.structs.astuple(decision) if type(value) is int], np.int64)


_CHECKS: Final[dict[type, Callable[[Any], None]]] = {
    Interaction: check_interaction,
    Impression: check_impression,
    Item: check_item,
    Request: check_request,
    Example: check_example,
    DecisionRecord: check_decision,
    Command: check_decision,
}


def _check_ids(*identifiers: str) -> None:
    for identifier in identifiers:
        assert 0 < len(identifier.encode()) <= MAX_ID_BYTES
