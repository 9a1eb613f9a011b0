"""Every record is either an event that the state can hold or a rejection with a known reason: nothing else."""

import random
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from streams.records import encode
from tests.builders import interaction
from tests.property.decoding import outcome
from tests.property.events import malformed

json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)
fields = st.sampled_from(["event_id", "user_id", "item_id", "type", "timestamp", "value", "context", "more"])


@given(st.binary(max_size=200))
def test_any_bytes(value: bytes) -> None:
    outcome(value)


@given(json_values)
def test_any_json(value: Any) -> None:
    outcome(encode(value))


@given(st.dictionaries(fields, json_values, max_size=4))
def test_an_event_with_any_values_in_its_fields(changed: dict[str, Any]) -> None:
    valid = {name: value for name in interaction().__struct_fields__ if (value := getattr(interaction(), name))}
    outcome(encode({**valid, **changed}))


@given(st.integers(0, 2**32))
def test_a_malformed_event(seed: int) -> None:
    outcome(malformed(random.Random(seed)))


@given(st.text())
def test_any_text_as_a_time(text: str) -> None:
    outcome(encode({**_plain(), "timestamp": text}))


def test_what_no_producer_should_send() -> None:
    assert outcome(None) == "tombstone"
    assert outcome(b"") == "undecodable"
    assert outcome(b"x" * (5 * 1024 * 1024)) == "too_large"
    assert outcome(encode(_plain())) == "accepted"
    assert outcome(encode({**_plain(), "type": "x" * 100_000})) == "unknown_type"
    assert outcome(encode({**_plain(), "timestamp": "x" * 100_000})) == "wrong_type"


def _plain() -> dict[str, Any]:
    event = interaction()
    return {name: getattr(event, name) for name in ("event_id", "user_id", "item_id", "type", "timestamp")}
