"""A follower has no deadline while it gets on, waits for no open transaction; a dead one is a dead role (A.7, A.6)."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from uuid import uuid4

import pytest
from confluent_kafka import Message, Producer

from streams.catalogue.catalogue import Catalogue
from streams.catalogue.row_log import RowLog
from streams.errors import StartError
from streams.followers import follower as following
from streams.followers.catalogue import CatalogueFollower
from streams.followers.follower import Follower
from streams.local.local_broker import LocalBroker
from streams.local.processes import free_port
from tests.integration.real_worker import Deployment, deployment, until

pytestmark = pytest.mark.integration


@pytest.fixture
def real(broker: LocalBroker, tmp_path: Path) -> Iterator[Deployment]:
    with deployment(broker.address, tmp_path) as made:
        yield made


@contextmanager
def followed(real: Deployment) -> Iterator[Catalogue]:
    follower = CatalogueFollower(real.settings, Catalogue())
    follower.start()
    try:
        yield follower.catalogue
    finally:
        follower.stop()


def transaction(real: Deployment) -> Producer:
    producer = Producer({"bootstrap.servers": real.broker, "log_level": 2, "transactional.id": uuid4().hex})
    producer.init_transactions(20)
    producer.begin_transaction()
    return producer


def test_an_open_transaction_keeps_nobody_from_starting_and_what_it_aborts_was_never_said(real: Deployment) -> None:
    for item_id in ("a", "b", "c"):
        real.send("rows", item_id, {})
    real.send("items", "a", {"item_id": "a", "title": "before"})
    aborted = transaction(real)
    aborted.produce(f"{real.prefix}items", b'{"item_id":"b","title":"aborted"}', b"b")
    aborted.produce(f"{real.prefix}rows", b"{}", b"never")
    assert aborted.flush(20) == 0
    aborted.abort_transaction(20)
    opened = transaction(real)
    opened.produce(f"{real.prefix}items", b'{"item_id":"c","title":"open"}', b"c")
    assert opened.flush(20) == 0
    real.send("items", "a", {"item_id": "a", "title": "behind"})
    with followed(real) as catalogue:
        assert [catalogue.title(item_id) for item_id in ("a", "b", "c")] == ["before", None, None]
        assert catalogue.ids == ["", "a", "b", "c"]
        opened.commit_transaction(20)
        until(lambda: catalogue.title("c") == "open" and catalogue.title("a") == "behind")


def test_a_tombstone_that_comes_alone_is_taken(real: Deployment) -> None:
    """It is falsy, as librdkafka's binding has it, and was dropped: retired items stayed, and withdrawn challengers."""
    real.send("rows", "a", {})
    with followed(real) as catalogue:
        until(lambda: catalogue.rows)
        real.send("items", "a", None)
        until(lambda: catalogue.unavailable == 1)
        real.send("items", "a", {"item_id": "a"})
        until(lambda: catalogue.unavailable == 0)


def test_an_open_transaction_is_named(real: Deployment) -> None:
    opened = transaction(real)
    opened.produce(f"{real.prefix}items", b'{"item_id":"c"}', b"c")
    assert opened.flush(20) == 0
    said: list[str] = []
    client = {"bootstrap.servers": real.broker, "log_level": 2}
    follower = Follower(client, f"{real.prefix}items", lambda _: None, said.append)
    follower.start()
    follower.catch_up()
    follower.stop()
    opened.abort_transaction(20)
    assert [f"{real.prefix}items goes on to offset 1, but a transaction is open since 0" in line for line in said] == [
        True
    ]


def test_reading_takes_as_long_as_it_gets_on_and_says_how_far_it_is(
    real: Deployment, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(following, "_SILENT_SECONDS", 2.0)
    monkeypatch.setattr(following, "_TOLD_SECONDS", 0.3)
    for number in range(8):
        real.queue("rows", f"i{number}", {})
    real.flush()
    said: list[str] = []
    taken: list[Message] = []

    def slowly(record: Message) -> None:
        never.wait(0.4)  # 8 of them take longer than Kafka may be silent
        taken.append(record)

    never = threading.Event()
    client = {"bootstrap.servers": real.broker, "log_level": 2}
    follower = Follower(client, f"{real.prefix}rows", slowly, said.append)
    follower.start()
    follower.catch_up()
    follower.stop()
    assert len(taken) == 8
    assert any("records read so far" in line for line in said)


def test_rows_are_appended_however_many_there_are(real: Deployment) -> None:
    """A.7's sibling: all had to be acknowledged in 20 s, and librdkafka holds 100,000 at once."""
    log = RowLog(real.settings)
    ids = [f"i{number}" for number in range(110_000)]
    log.append(ids)
    assert log.of([ids[0], ids[-1]]) == [1, len(ids)]
    log.close()


def test_a_kafka_that_gives_nothing_is_an_error_after_a_while(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(following, "_SILENT_SECONDS", 0.5)
    follower = Follower({"bootstrap.servers": f"127.0.0.1:{free_port()}", "log_level": 0}, "any", lambda _: None)
    follower.start()
    with pytest.raises(StartError, match="gives no records of any for"):
        follower.catch_up()
    follower.stop()


def test_a_record_that_cannot_be_taken_ends_nothing_and_a_thread_that_ends_is_reported(real: Deployment) -> None:
    for key in ("bad", "good", "worst"):
        real.send("rows", key, {})
    said: list[str] = []
    taken: list[bytes | None] = []

    def take(record: Message) -> None:
        if record.key() == b"bad":
            raise ValueError("no such thing")
        if record.key() == b"worst":
            raise SystemExit
        taken.append(record.key())

    client = {"bootstrap.servers": real.broker, "log_level": 2}
    follower = Follower(client, f"{real.prefix}rows", take, said.append)
    follower.check()
    follower.start()
    until(lambda: len(said) == 2)
    assert taken == [b"good"]
    assert "at offset 0 cannot be taken: ValueError('no such thing')" in said[0]
    with pytest.raises(StartError, match=r"rows has ended \(SystemExit\(\)\).*started again"):
        follower.check()
    with pytest.raises(StartError):
        follower.catch_up()
    follower.stop()


def test_a_follower_that_cannot_connect_says_why_and_goes_on_trying() -> None:
    said: list[str] = []
    client = {
        "bootstrap.servers": "127.0.0.1:1",
        "security.protocol": "SSL",
        "ssl.ca.location": "/nowhere",
        "log_level": 0,
    }
    follower = Follower(client, "any", lambda _: None, said.append)
    follower.start()
    until(lambda: said)
    assert "any cannot be read" in said[0]
    assert "ssl.ca.location" in said[0]
    follower.check()
    follower.stop()
