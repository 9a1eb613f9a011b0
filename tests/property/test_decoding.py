"""Every record of every topic is either one that its readers can hold or a rejection with a known reason: nothing else.

Issue 10, A.4: a position of 2^64 raised in the fold of `impressions`, which nothing had fuzzed.
"""

import random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streams.records import encode
from tests.builders import interaction
from tests.property.decoding import TOPICS, outcome
from tests.property.events import malformed, valid

json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


topics = st.sampled_from(TOPICS)


@given(topics, st.binary(max_size=200))
def test_any_bytes(topic: str, value: bytes) -> None:
    outcome(topic, value)


@given(topics, json_values)
def test_any_json(topic: str, value: Any) -> None:
    outcome(topic, encode(value))


@given(topics, st.data())
def test_a_record_with_any_values_in_its_fields(topic: str, data: st.DataObject) -> None:
    record = valid(topic, random.Random(0))
    fields = st.sampled_from([*record, "more"])
    outcome(topic, encode({**record, **data.draw(st.dictionaries(fields, json_values, max_size=4))}))


@given(topics, st.integers(0, 2**32))
def test_a_malformed_record(topic: str, seed: int) -> None:
    outcome(topic, malformed(topic, random.Random(seed)))


@pytest.mark.parametrize("topic", TOPICS)
def test_a_valid_record_is_accepted_as_it_is(topic: str) -> None:
    assert outcome(topic, encode(valid(topic, random.Random(1)))) == "accepted"


@given(st.text())
def test_any_text_as_a_time(text: str) -> None:
    outcome("interactions", encode({**_plain(), "timestamp": text}))


def test_what_no_producer_should_send() -> None:
    assert outcome("interactions", None) == "tombstone"
    assert outcome("interactions", b"") == "undecodable"
    assert outcome("interactions", b"x" * (5 * 1024 * 1024)) == "too_large"
    assert outcome("interactions", encode({**_plain(), "type": "x" * 100_000})) == "unknown_type"
    assert outcome("interactions", encode({**_plain(), "timestamp": "x" * 100_000})) == "wrong_type"


def _plain() -> dict[str, Any]:
    event = interaction()
    return {name: getattr(event, name) for name in ("event_id", "user_id", "item_id", "type", "timestamp")}
