"""What is required is strict, what is optional is lenient, and every number of the wire has bounds."""

from collections import Counter
from typing import Any

import pytest

from streams.decoding import decode, decode_example, decode_impression, decode_interaction, decoder
from streams.errors import RejectedEventError
from streams.records import Impression, Interaction, Item, Request, Shown, encode
from streams.repair import LEFT_OUT, MAX_TABLE_BYTES, READ, Fates
from tests.builders import NOON

INTERACTION = {"event_id": "e1", "user_id": "u1", "item_id": "i1", "type": "purchase", "timestamp": NOON}
SHOWN = {"item_id": "i1", "position": 0}
IMPRESSION = {"event_id": "m1", "user_id": "u1", "items": [SHOWN], "timestamp": NOON}
REQUEST = {"request_id": "r1", "user_id": "u1"}
OUTCOME = {"item_id": "i1", "type": 1, "timestamp": NOON, "offset": 5}
HISTORY = {"items": ["i1"], "types": [1], "timestamps": [NOON]}
EXAMPLE = {"user_id": "u1", "partition": 0, "history": HISTORY, "outcomes": [OUTCOME], "answered": NOON}


def interaction(fates: Fates | None = None, **fields: Any) -> Interaction:
    return decode_interaction(encode({**INTERACTION, **fields}), NOON, 0, fates)


def impression(fates: Fates | None = None, **fields: Any) -> Impression:
    return decode_impression(encode({**IMPRESSION, **fields}), NOON, 0, fates)


def item(fates: Fates | None = None, **fields: Any) -> Item:
    return decode(decoder(Item), encode({"item_id": "n1", "title": "Lamp", **fields}), fates)


def request(fates: Fates | None = None, **fields: Any) -> Request:
    return decode(decoder(Request), encode({**REQUEST, **fields}), fates)


@pytest.mark.parametrize(
    ("value", "read", "fate"),
    [
        ("12.99", 12.99, READ),
        (" 12 ", 12.0, READ),
        ("-1.5e2", -150.0, READ),
        ("", None, None),
        (None, None, None),
        ("12,99", None, LEFT_OUT),
        ("1,234.56", None, LEFT_OUT),
        ("€ 12.99", None, LEFT_OUT),
        ("1_000", None, LEFT_OUT),
        ("nan", None, LEFT_OUT),
        (True, None, LEFT_OUT),
        ([12.99], None, LEFT_OUT),
        (1e16, None, LEFT_OUT),
        (-1e16, None, LEFT_OUT),
        (2**64, None, LEFT_OUT),
        (10**400, None, LEFT_OUT),
    ],
)
def test_a_purchase_is_never_lost_for_its_value(value: object, read: float | None, fate: str | None) -> None:
    # Issue 10, B.6: `"value": "12.99"` and `""` cost the whole purchase.
    fates = Fates()
    assert interaction(fates, value=value).value == read
    assert fates == ({("value", fate): 1} if fate else {})


@pytest.mark.parametrize("number", [b"NaN", b"Infinity", b"-Infinity", b"1e999"])
def test_a_number_that_json_does_not_know_is_none(number: bytes) -> None:
    value = encode(INTERACTION).replace(b"}", b',"value":' + number + b"}")
    assert decode_interaction(value, NOON, 0).value is None


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"text": None}, {"text": ""}),  # shared/cases/items_topic.jsonl
        ({"price": "12.50"}, {"price": 12.5}),
        ({"price": "12,99"}, {"price": None}),
        ({"price": -1}, {"price": None}),
        ({"title": None}, {"title": ""}),
        ({"title": 1984}, {"title": "1984"}),
        ({"title": "x" * 2000}, {"title": "x" * 1000}),
        ({"in_stock": "true"}, {"in_stock": True}),
        ({"in_stock": "False"}, {"in_stock": False}),
        ({"in_stock": 0}, {"in_stock": False}),
        ({"in_stock": None}, {"in_stock": True}),
        ({"in_stock": "sold"}, {"in_stock": True}),
        ({"attributes": None}, {"attributes": {}}),
        ({"attributes": [1]}, {"attributes": {}}),
        ({"attributes": {"blob": "x" * MAX_TABLE_BYTES}}, {"attributes": {}}),
        ({"item_id": 7}, {"item_id": "7"}),
    ],
)
def test_an_item_is_never_lost_for_what_is_optional(fields: dict[str, Any], expected: dict[str, Any]) -> None:
    # Issue 10, B.6: `"text": null` cost the whole item.
    found = item(**fields)
    assert {name: getattr(found, name) for name in expected} == expected
    assert found.title or "title" in fields


def test_fields_that_do_not_fit_are_counted_by_what_became_of_them() -> None:
    fates = Fates()
    item(fates, price="12.50", text=None, in_stock="sold", attributes="", category=5)
    assert fates == {("price", READ): 1, ("in_stock", LEFT_OUT): 1, ("category", READ): 1}


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"k": "5"}, {"k": 5}),
        ({"k": 5.0}, {"k": 5}),
        ({"k": 0}, {"k": 10}),
        ({"k": 2**70}, {"k": 10}),
        ({"exclude": ["a", 5, None, {}, ""]}, {"exclude": ["a", "5"]}),
        ({"exclude": ["a"] * 1001}, {"exclude": ["a"] * 1000}),
        ({"exclude": "a"}, {"exclude": []}),
        ({"timestamp": 1.5}, {"timestamp": 0}),
    ],
)
def test_a_request_is_never_lost_for_what_is_optional(fields: dict[str, Any], expected: dict[str, Any]) -> None:
    found = request(**fields)
    assert {name: getattr(found, name) for name in expected} == expected


def test_an_integer_is_an_id_on_every_topic() -> None:
    # Issue 10, B.3 and shared/cases/int_ids.jsonl: acknowledged by `replay`, then dead-lettered.
    found = interaction(event_id=1, user_id=100, item_id=-5)
    assert (found.event_id, found.user_id, found.item_id) == ("1", "100", "-5")
    shown = impression(event_id=1, user_id=100, items=[{"item_id": 7, "position": 3}], recommendation_id=9)
    assert (shown.user_id, shown.items, shown.recommendation_id) == ("100", [Shown("7", 3)], "9")
    assert request(request_id=1, user_id=2).user_id == "2"


@pytest.mark.parametrize("identifier", [None, "", " ", "\t\n", 5.0, True, [], "x" * 256, "é" * 128, 10**255])
@pytest.mark.parametrize("field", ["event_id", "user_id", "item_id"])
def test_what_is_no_id_is_rejected(field: str, identifier: object) -> None:
    with pytest.raises(RejectedEventError) as rejected:
        interaction(**{field: identifier})
    assert (rejected.value.reason, rejected.value.field) == ("wrong_type", field)


@pytest.mark.parametrize("field", ["event_id", "user_id", "item_id"])
def test_half_a_surrogate_pair_is_no_id_and_no_poison(field: str) -> None:
    value = encode({**INTERACTION, field: "?"}).replace(b'"?"', b'"\\ud800"')
    with pytest.raises(RejectedEventError) as rejected:
        decode_interaction(value, NOON, 0)
    assert (rejected.value.reason, rejected.value.field) == ("undecodable", field)


def test_half_a_surrogate_pair_in_a_title_costs_the_title_alone() -> None:
    fates = Fates()
    found = decode(decoder(Item), b'{"item_id": "n1", "title": "\\ud83d", "text": "a lamp"}', fates)
    assert (found.title, found.text) == ("", "a lamp")
    assert fates == {("title", LEFT_OUT): 1}


@pytest.mark.parametrize("position", [-1, 2**31, 2**64, 1.5, "first", None])
def test_a_position_out_of_bounds_is_rejected_by_name(position: object) -> None:
    # Issue 10, A.4: a position of 2^64 raised in the fold, again and again.
    with pytest.raises(RejectedEventError) as rejected:
        impression(items=[SHOWN, {"item_id": "i2", "position": position}])
    assert (rejected.value.reason, rejected.value.field) == ("wrong_type", "position")


@pytest.mark.parametrize("propensity", [0, -0.1, 1.1, 1e300, "often", None, ""])
def test_an_impression_is_never_lost_for_a_propensity_or_a_version(propensity: object) -> None:
    found = impression(items=[{**SHOWN, "propensity": propensity}, {**SHOWN, "propensity": "0.5"}], version=2**64)
    assert found.items == [Shown("i1", 0), Shown("i1", 0, 0.5)]
    assert found.version is None


def test_a_context_that_is_too_deep_is_left_out_and_an_ordinary_one_stays() -> None:
    deep: Any = "x"
    for _ in range(20):
        deep = {"in": deep}
    fates = Fates()
    assert interaction(fates, context=deep).context is None
    assert interaction(fates, context=[1]).context is None
    assert interaction(fates, context={"é": ["\U0001f600", {"a": 1}]}).context == {"é": ["\U0001f600", {"a": 1}]}
    assert fates == {("context", LEFT_OUT): 2}


@pytest.mark.parametrize(
    ("timestamp", "says"),
    [(1_760_000_000, "seconds"), (1_760_000_000_000_000, "micro"), (1_760_000_000_000_000_000, "nano"), (0, "clock")],
)
def test_a_time_in_another_unit_is_rejected_and_the_unit_is_named(timestamp: int, says: str) -> None:
    # Issue 10, C.3: seconds taken for milliseconds are January 1970.
    with pytest.raises(RejectedEventError, match=says) as rejected:
        interaction(timestamp=timestamp)
    assert (rejected.value.reason, rejected.value.field) == ("timestamp_out_of_range", "timestamp")


def test_an_integer_that_is_written_as_a_fraction_is_one() -> None:
    assert interaction(timestamp=float(NOON)).timestamp == NOON
    with pytest.raises(RejectedEventError):
        interaction(timestamp=NOON - 0.5)


@pytest.mark.parametrize(
    "fields",
    [
        {"partition": 2**31},
        {"answered": -1},
        {"outcomes": [{**OUTCOME, "offset": 2**63}]},
        {"outcomes": [{**OUTCOME, "type": 256}]},
        {"outcomes": [{**OUTCOME, "timestamp": 2**64}]},
        {"history": {**HISTORY, "types": [-1]}},
        {"history": {**HISTORY, "types": []}},
        {"user_id": "\xff"},
    ],
)
def test_an_example_that_the_learner_cannot_hold_is_rejected(fields: dict[str, Any]) -> None:
    # Issue 10, A.4: numpy raises on these, and on lists of unlike lengths, wherever they come from.
    assert decode_example(encode(EXAMPLE)).outcomes
    with pytest.raises(RejectedEventError):
        decode_example(encode({**EXAMPLE, **fields}).replace("\xff".encode(), b"\xff"))


def test_good_records_are_not_counted() -> None:
    fates = Fates()
    interaction(fates, value=3, context={"page": "home"})
    impression(fates)
    item(fates)
    request(fates, k=3, exclude=["i1"])
    assert fates == Counter()
