"""A dead letter is the record as it came, and never larger than its topic takes."""

import json
from types import SimpleNamespace
from typing import Any

import pytest
from prometheus_client import CollectorRegistry
from pydantic import SecretStr

from streams.errors import RejectedEventError
from streams.instruments import WorkerInstruments
from streams.kafka.dead_letters import MOST_BYTES, DeadLetters
from streams.kafka.unnamed import Unnamed
from streams.pseudonyms import pseudonyms
from streams.topics import SPECS

LIMIT = next(int(spec.config["max.message.bytes"]) for spec in SPECS if spec.name == "dead-letters")


HIDE = pseudonyms(SecretStr("pepper"), 4)
JANE = HIDE("jane", 3)


def sent(
    key: bytes | None,
    value: bytes | None,
    headers: list[tuple[str, bytes]],
    topic: str = "interactions",
    unnamed: Unnamed | None = None,
) -> Any:
    """Return what goes to the producer of a record that is rejected."""
    got: list[Any] = []

    def send(_topic: str, key: bytes, value: bytes, _delivery: Any, headers: list[tuple[str, bytes]]) -> None:
        got.append(SimpleNamespace(key=key, value=value, headers=dict(headers)))

    outputs = SimpleNamespace(send=send)
    letters = DeadLetters("dead-letters", outputs, WorkerInstruments(CollectorRegistry()), unnamed)  # type: ignore[arg-type]
    why = RejectedEventError("too_large", "é" * 300)
    letters.send_bytes(key, value, why, (topic, 3, 2**40), None, headers)  # type: ignore[arg-type]
    return got[0]


def test_what_fits_is_sent_unchanged() -> None:
    value = b"x" * 2**20
    letter = sent(b"u1", value, [("trace", b"t1")])
    assert (letter.key, letter.value, letter.headers["trace"]) == (b"u1", value, b"t1")
    assert "bytes_cut" not in letter.headers
    assert letter.headers["offset"] == b"1099511627776"


@pytest.mark.parametrize(
    ("key", "value", "headers"),
    [
        (b"u1", b"x" * (LIMIT + 5), [("trace", b"t1")]),
        (b"k" * (LIMIT + 5), b"{}", []),
        (b"u1", b"{}", [("huge", b"h" * (LIMIT + 5)), ("trace", b"t1")]),
        (None, None, [(f"h{number}", b"h" * 2**20) for number in range(20)]),
    ],
    ids=["value", "key", "header", "headers"],
)
def test_what_does_not_fit_is_cut_to_what_the_topic_takes(
    key: bytes | None, value: bytes | None, headers: list[tuple[str, bytes]]
) -> None:
    """A.1: a record that Kafka never acknowledges would be read again for ever; a topic may take more than 16 MiB."""
    letter = sent(key, value, headers)
    size = len(letter.key or b"") + len(letter.value or b"")
    size += sum(len(name) + len(text) for name, text in letter.headers.items())
    assert size < LIMIT - 32 * 1024
    came = len(key or b"") + len(value or b"") + sum(len(name) + len(text) for name, text in headers)
    kept = sum(len(name) + len(text) for name, text in letter.headers.items() if name in dict(headers))
    assert int(letter.headers["bytes_cut"]) == came - kept - len(letter.key or b"") - len(letter.value or b"")
    assert came - int(letter.headers["bytes_cut"]) <= MOST_BYTES


@pytest.mark.parametrize(
    ("value", "kept"),
    [
        ({"user_id": "jane", "type": "teleport"}, {"user_id": JANE, "type": "teleport"}),
        ({"user_id": "jane", "item_id": "i1", "mail": "jane@example.org"}, {"user_id": JANE, "item_id": "i1"}),
        ({"user_id": "jane", "event_id": "jane-17", "context": {"ip": "::1"}}, {"user_id": JANE}),
        ({"user_id": "jane", "event_id": "e17"}, {"user_id": JANE, "event_id": "e17"}),
        ({"user_id": JANE, "k": -1}, {"user_id": JANE, "k": -1}),
        ({"userId": "jane"}, None),
        ({"user_id": {"name": "jane"}}, None),
        ({"user_id": ""}, None),
    ],
)
def test_with_pseudonyms_a_dead_letter_does_not_say_who_its_user_is(value: Any, kept: Any) -> None:
    """Issue 10, C.4: key and value were sent as they came."""
    unnamed = Unnamed(HIDE, {"interactions"})
    letter = sent(b"jane", json.dumps(value).encode(), [("trace", b"jane")], unnamed=unnamed)
    assert letter.key == JANE.encode()
    assert (letter.value and json.loads(letter.value)) == kept
    assert letter.headers["unnamed"] == (b"pseudonym" if kept else b"left out")
    assert b"jane" not in b"".join([letter.value or b"", *letter.headers.values()])


@pytest.mark.parametrize("value", [b"{jane", b"", None, b'"jane"', b"[" * 100_000, b"\xff"])
def test_with_pseudonyms_what_is_no_record_is_left_out(value: bytes | None) -> None:
    letter = sent(b"\xff", value, [], unnamed=Unnamed(HIDE, {"interactions"}))
    assert (letter.key, letter.value, letter.headers["offset"]) == (None, None, b"1099511627776")


def test_with_pseudonyms_what_names_no_user_stays_as_it_came() -> None:
    letter = sent(b"i1", b"{jane", [("trace", b"t")], topic="items", unnamed=Unnamed(HIDE, {"interactions"}))
    assert (letter.key, letter.value, letter.headers["trace"]) == (b"i1", b"{jane", b"t")
