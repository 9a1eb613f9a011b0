"""A dead letter is the record as it came, and never larger than its topic takes."""

from types import SimpleNamespace
from typing import Any

import pytest
from prometheus_client import CollectorRegistry

from streams.errors import RejectedEventError
from streams.instruments import WorkerInstruments
from streams.kafka.dead_letters import MOST_BYTES, DeadLetters
from streams.topics import SPECS

LIMIT = next(int(spec.config["max.message.bytes"]) for spec in SPECS if spec.name == "dead-letters")


def sent(key: bytes | None, value: bytes | None, headers: list[tuple[str, bytes]]) -> Any:
    """Return what goes to the producer of a record that is rejected."""
    got: list[Any] = []

    def send(_topic: str, key: bytes, value: bytes, _delivery: Any, headers: list[tuple[str, bytes]]) -> None:
        got.append(SimpleNamespace(key=key, value=value, headers=dict(headers)))

    letters = DeadLetters("dead-letters", SimpleNamespace(send=send), WorkerInstruments(CollectorRegistry()))  # type: ignore[arg-type]
    why = RejectedEventError("too_large", "é" * 300)
    letters.send_bytes(key, value, why, ("interactions", 3, 2**40), None, headers)  # type: ignore[arg-type]
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
