"""Records of every topic as a careless or hostile producer sends them: every byte of them can be wrong."""

import json
import random
from collections.abc import Callable
from typing import Any, Final

from streams.records import INTERACTION_TYPES
from tests.builders import NOON

IDS: Final = (
    "",
    "u",
    "u" * 255,
    "u" * 256,
    "é" * 127,
    "é" * 128,
    "\U0001f600",
    "\x00",
    "\u2028",
    "a/b",
    " ",
    "u" * 5000,
)
NUMBERS: Final = (0, -0.0, -1, 1, 0.5, 2**31, 2**53 + 1, 2**63 - 1, 2**63, 2**64, -(2**64), 10**400, 1e308, 5e-324)
TIMES: Final = (
    "2026-11-25T12:00:00Z", "2026-11-25T12:00:00+14:00", "2026-11-25", "20261125T120000", "2026-W48-3", "now", "",
    "0001-01-01T00:00:00+23:59", "9999-12-31T23:59:59.999999-23:59", "2026-11-25T25:00:00Z", "٢٠٢٦-11-25", "1" * 500,
)  # fmt: skip
TEXTS: Final = ("12.99", "12,99", "true", "no", "nan", " ", "1e5", "\ud800", "x" * 1200)
FRAGMENTS: Final = (
    b"null", b"NaN", b"-Infinity", b"1e999", b"\\ud800", b"\\udc00", b"\\u0000", b"\xff", b"\xc0\xaf", b"\xed\xa0\x80",
    b"\xef\xbb\xbf", b"{", b"}", b"[", b"]", b'"', b",", b":", b"\\", b"\x00", b"0" * 40, b"[" * 2000, b'{"a":' * 2000,
)  # fmt: skip


def valid(topic: str, rng: random.Random) -> dict[str, Any]:
    """Return a record of a topic that nothing is wrong with."""
    item_id, time = f"i{rng.randrange(100)}", NOON + rng.randrange(-(10**9), 300_000)
    shown = {"item_id": item_id, "position": rng.randrange(9), "propensity": 0.5}
    outcome = {"item_id": item_id, "type": 1, "timestamp": time, "offset": rng.randrange(9)}
    exposure = {"impression_id": "m1", "timestamp": time, "taken": shown, "passed": [shown], "offset": 3}
    events: dict[str, dict[str, Any]] = {
        "interactions": {
            "event_id": f"e{rng.randrange(100)}", "user_id": "u1", "item_id": item_id, "timestamp": time,
            "type": rng.choice(INTERACTION_TYPES), "value": rng.random(), "context": {"page": "home"},
        },
        "impressions": {
            "event_id": "m1", "user_id": "u1", "items": [shown, dict(shown)], "timestamp": time, "version": 3,
            "recommendation_id": "interactions/0/5", "context": {"page": {"of": "home"}},
        },
        "items": {
            "item_id": item_id, "title": "Lamp", "text": "A lamp.", "category": "home", "price": 12.5, "in_stock": True,
            "attributes": {"colours": ["red"]}, "brand": "Lux", "tags": ["new", "led"], "stock": 3, "added": time,
        },
        "requests": {
            "request_id": "r1", "user_id": "u1", "k": 5, "surface": "home", "exclude": [item_id, "i2"],
            "timestamp": time, "context": {"page": "home"},
        },
        "examples": {
            "user_id": "u1", "partition": 0, "answered": time,
            "outcomes": [outcome, dict(outcome)], "shown": [exposure],
            "history": {"items": [item_id], "types": [1], "timestamps": [time]},
        },
        "decisions": {
            "action": "promote", "by": "gate", "at": time, "share": 0.5, "salt": 3, "command": 7, "generation": 3,
            "quality": {"champion": {"ndcg@10": 0.1}},
        },
        "commands": {"action": "pin", "by": "ann", "at": time, "version": 3},
    }  # fmt: skip
    return events[topic]


def malformed(topic: str, rng: random.Random) -> bytes:
    """Return the bytes of a record after some things were done to it; now and then it stays acceptable."""
    event = valid(topic, rng)
    for _ in range(rng.randrange(3)):
        rng.choice(_OF_FIELDS)(_inside(event, rng), rng)
    text = bytearray(json.dumps(event, ensure_ascii=rng.random() < 0.5, allow_nan=True).encode(errors="surrogatepass"))
    for _ in range(rng.randrange(3) * rng.randrange(2)):
        rng.choice(_OF_BYTES)(text, rng)
    return bytes(text)


def _inside(event: dict[str, Any], rng: random.Random) -> dict[str, Any]:
    """Return the record or an object inside it."""
    found, inner = [event], [event]
    while inner:
        value = inner.pop()
        several = value.values() if isinstance(value, dict) else value
        inner += [one for one in several if isinstance(one, dict | list)]
        found += [value] if isinstance(value, dict) and value else []
    return rng.choice(found)


def anything(rng: random.Random, depth: int = 3) -> Any:  # noqa: PLR0911 - any JSON, one kind a return
    """Return any JSON value."""
    match rng.randrange(8 if depth else 6):
        case 0:
            return None
        case 1:
            return rng.random() < 0.5
        case 2:
            return rng.choice(NUMBERS)
        case 3:
            return rng.choice(IDS)
        case 4:
            return rng.choice(TIMES)
        case 5:
            return "".join(chr(rng.randrange(0x250)) for _ in range(rng.randrange(8)))
        case 6:
            return [anything(rng, depth - 1) for _ in range(rng.randrange(3))]
        case _:
            return {rng.choice(IDS): anything(rng, depth - 1) for _ in range(rng.randrange(3))}


def _replace(event: dict[str, Any], rng: random.Random) -> None:
    event[rng.choice(list(event) or ["user_id"])] = anything(rng)


def _renumber(event: dict[str, Any], rng: random.Random) -> None:
    names = [name for name, value in event.items() if isinstance(value, int | float)] or ["timestamp"]
    event[rng.choice(names)] = rng.choice((*TIMES, *NUMBERS, *map(str, NUMBERS), *TEXTS))


def _rename(event: dict[str, Any], rng: random.Random) -> None:
    event[rng.choice(("user_id", "item_id", "event_id"))] = rng.choice(IDS)


def _leave_out(event: dict[str, Any], rng: random.Random) -> None:
    event.pop(rng.choice(list(event) or [""]), None)


def _add(event: dict[str, Any], rng: random.Random) -> None:
    event[rng.choice(IDS)] = anything(rng)


def _cut(text: bytearray, rng: random.Random) -> None:
    del text[rng.randrange(len(text) + 1) :]


def _drop(text: bytearray, rng: random.Random) -> None:
    at = rng.randrange(len(text) + 1)
    del text[at : at + rng.randrange(1, 6)]


def _flip(text: bytearray, rng: random.Random) -> None:
    if text:
        text[rng.randrange(len(text))] ^= 1 << rng.randrange(8)


def _insert(text: bytearray, rng: random.Random) -> None:
    at = rng.randrange(len(text) + 1)
    text[at:at] = rng.choice(FRAGMENTS)


def _repeat(text: bytearray, rng: random.Random) -> None:
    text *= rng.randrange(3)


def _blank(text: bytearray, rng: random.Random) -> None:
    text[:] = bytes(rng.randrange(256) for _ in range(rng.randrange(40)))


_OF_FIELDS: Final[tuple[Callable[[dict[str, Any], random.Random], None], ...]] = (
    _replace, _replace, _renumber, _rename, _leave_out, _add,
)  # fmt: skip
_OF_BYTES: Final[tuple[Callable[[bytearray, random.Random], None], ...]] = (
    _cut, _drop, _flip, _flip, _insert, _insert, _repeat, _blank,
)  # fmt: skip
