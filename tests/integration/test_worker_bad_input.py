"""Whatever is put on a topic, the worker goes on; what it cannot accept is in dead-letters as it came, and why."""

import json
from collections.abc import Iterator
from typing import Any

import pytest
from confluent_kafka.admin import AdminClient, AlterConfigOpType, ConfigEntry, ConfigResource, ResourceType

from streams.local.local_broker import LocalBroker
from tests.integration.real_worker import Deployment, Topic, deployment, now_ms, until

pytestmark = pytest.mark.integration

FAR_FUTURE = now_ms() + 365 * 86_400_000
LONG_ID = "é" * 200


def event(**fields: Any) -> bytes:
    valid = {"event_id": "e1", "user_id": "u1", "item_id": "i1", "type": "click", "timestamp": now_ms()}
    return json.dumps({name: value for name, value in {**valid, **fields}.items() if value is not ...}).encode()


@pytest.fixture(scope="module")
def real(broker: LocalBroker, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deployment]:
    with deployment(broker.address, tmp_path_factory.mktemp("bad-input")) as made:
        accept_large(made, "interactions")
        made.start()
        yield made


@pytest.fixture(scope="module")
def dead_letters(real: Deployment) -> Topic:
    return real.topic("dead-letters")


def accept_large(real: Deployment, topic: str) -> None:
    entry = ConfigEntry("max.message.bytes", str(2**24), incremental_operation=AlterConfigOpType.SET)
    resource = ConfigResource(ResourceType.TOPIC, real.prefix + topic, incremental_configs=[entry])
    admin = AdminClient({"bootstrap.servers": real.broker, "log_level": 2})
    [done] = admin.incremental_alter_configs([resource]).values()
    done.result(20)


def rejected(
    real: Deployment, dead_letters: Topic, topic: str, key: bytes | None, value: bytes | None
) -> dict[str, str]:
    """Send bytes, find them in dead-letters, and see that the worker still folds the same user's next event."""
    partition, offset = real.send(topic, key, value, headers=[("trace", b"t1")])
    position = {"topic": real.prefix + topic, "partition": str(partition), "offset": str(offset)}

    def same(message: Any) -> bool:
        headers = {name: text.decode() for name, text in message.headers()}
        return {name: headers[name] for name in position} == position

    found = dead_letters.find(same)
    assert (found.key(), found.value()) == (key, value)
    assert real.workers[0].child.running
    real.workers[0].history("after", real.click("after", "i1"))
    headers = {name: text.decode() for name, text in found.headers()}
    assert headers.pop("trace") == "t1"
    return headers


@pytest.mark.parametrize(
    ("value", "reason", "field"),
    [
        (b"\xff\xfe\x00", "undecodable", ""),
        (b'{"event_id": "e1"', "undecodable", ""),
        (b"[1, 2]", "wrong_type", ""),
        (event(user_id=7.5), "wrong_type", "user_id"),
        (event(timestamp="yesterday"), "wrong_type", "timestamp"),
        (event(item_id=LONG_ID), "wrong_type", "item_id"),
        (event(user_id=...), "missing_field", "user_id"),
        (event(item_id=...), "missing_field", "item_id"),
        (event(event_id=...), "missing_field", "event_id"),
        (event(type="teleport"), "unknown_type", "type"),
        (event(timestamp=FAR_FUTURE), "timestamp_out_of_range", "timestamp"),
        (event(timestamp=0), "timestamp_out_of_range", "timestamp"),
        (event(context={"blob": "x" * 5_000_000}), "too_large", ""),
        (None, "tombstone", ""),
    ],
    ids=[
        "undecodable bytes", "half an object", "no object", "wrong type", "no time", "long id", "no user", "no item",
        "no event id", "unknown type", "far future", "no event time", "5 MB", "tombstone",
    ],
)  # fmt: skip
def test_a_bad_interaction_is_set_aside_with_its_reason(
    real: Deployment, dead_letters: Topic, value: bytes | None, reason: str, field: str
) -> None:
    headers = rejected(real, dead_letters, "interactions", b"u1", value)
    assert (headers["reason"], headers["field"]) == (reason, field)
    assert headers["detail"]


@pytest.mark.parametrize(
    ("topic", "key", "value", "reason"),
    [
        ("items", b"i1", b"\xff", "undecodable"),
        ("items", b"i1", b'{"title": "no id"}', "missing_field"),
        ("items", b"i1", b'{"item_id": "i2"}', "wrong_type"),
        ("items", b"\xff", b'{"item_id": "i2"}', "undecodable"),
        ("requests", b"u1", b'{"request_id": "r1", "user_id": " "}', "wrong_type"),
        ("requests", b"u1", None, "tombstone"),
    ],
)
def test_a_bad_item_or_request_is_set_aside_too(
    real: Deployment, dead_letters: Topic, topic: str, key: bytes, value: bytes | None, reason: str
) -> None:
    assert rejected(real, dead_letters, topic, key, value)["reason"] == reason


def test_what_was_rejected_is_counted_by_reason(real: Deployment, dead_letters: Topic) -> None:
    labels = {"topic": f"{real.prefix}interactions", "reason": "unknown_type"}
    before = real.workers[0].metric("headrace_dead_letters_total", **labels)
    rejected(real, dead_letters, "interactions", b"u1", event(type="teleport"))
    until(lambda: real.workers[0].metric("headrace_dead_letters_total", **labels) == before + 1)


def test_an_event_with_fields_of_a_newer_producer_is_folded(real: Deployment) -> None:
    position = real.click("newer", "i1", colour="red", context={"device": {"os": "any"}})
    assert real.workers[0].history("newer", position) == ["i1"]


def test_an_unknown_item_gets_a_row_before_its_list_is_sent(real: Deployment) -> None:
    rows, answers = real.topic("rows"), real.topic("recommendations")
    position = real.click("explorer", "never seen before")
    topic, partition, offset = position.split("/")
    cause = {"topic": topic, "partition": int(partition), "offset": int(offset)}
    answers.find(lambda message: json.loads(message.value())["cause"] == cause)
    assert rows.find(lambda message: message.key() == b"never seen before")


def test_an_event_without_a_key_is_folded_where_it_lies(real: Deployment) -> None:
    """Its partition is chance, so a reader by HTTP may not find it; nothing is lost."""
    states = real.topic("workers-histories-changelog")
    real.send("interactions", None, event(user_id="keyless"))
    assert states.find(lambda message: message.key() == b"keyless")
