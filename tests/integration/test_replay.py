"""A replay puts every row on the topics once: in order a user, resumed where it ended, from a file or from a topic."""

import json
import threading
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path

import pytest
from confluent_kafka import OFFSET_BEGINNING, Consumer, Message, TopicPartition

from streams.files.event_files import Columns, read_rows
from streams.files.pace import Pace
from streams.files.replay import EventSender, between, replay, resume_points, topic_rows
from streams.kafka.topic_setup import ensure_topics
from streams.local.local_broker import LocalBroker
from streams.settings import Settings

pytestmark = pytest.mark.integration

USERS, ROWS = 20, 1000
COLUMNS = Columns.parse("user_id=who,item_id=what,timestamp=at,type==click,title=name")


@pytest.fixture
def settings(broker: LocalBroker, request: pytest.FixtureRequest, tmp_path: Path) -> Settings:
    settings = Settings(broker=broker.address, prefix=f"{request.node.name[:60]}.", data_dir=tmp_path)
    ensure_topics(settings)
    return settings


@pytest.fixture
def shop(tmp_path: Path) -> Path:
    """Every fiftieth row has no user."""
    path = tmp_path / "shop.csv"
    lines = (f"{'' if n % 50 == 0 else f'u{n % USERS}'},i{n % 7},{1_700_000_000_000 + n},Thing" for n in range(ROWS))
    path.write_text("who,what,at,name\n" + "\n".join(lines) + "\n")
    return path


def send(settings: Settings, path: Path, *, stop_after: int | None = None, resume: bool = False) -> EventSender:
    sender = EventSender(settings, linger_ms=5)
    before = resume_points(settings, path) if resume else {}
    steps = replay(read_rows(path, COLUMNS), sender, Pace(), stop=threading.Event(), sent_before=before)
    for _ in islice(steps, stop_after):
        pass
    sender.flush()
    return sender


def read(settings: Settings, name: str) -> list[Message]:
    return list(_read(settings, settings.prefix + name))


def _read(settings: Settings, topic: str) -> Iterator[Message]:
    consumer = Consumer(
        {"bootstrap.servers": settings.broker, "log_level": 2, "group.id": "test", "enable.partition.eof": True}
    )
    partitions = consumer.list_topics(topic, timeout=10).topics[topic].partitions
    consumer.assign([TopicPartition(topic, partition, OFFSET_BEGINNING) for partition in partitions])
    left = len(partitions)
    while left:
        message = consumer.poll(10)
        assert message is not None
        if message.error() is None:
            yield message
        else:
            left -= 1
    consumer.close()


def ids(messages: Sequence[Message]) -> list[str]:
    return [json.loads(message.value() or b"")["event_id"] for message in messages]


def test_every_row_arrives_once_and_a_users_rows_in_order_in_one_partition(settings: Settings, shop: Path) -> None:
    sender = send(settings, shop)
    messages = read(settings, "interactions")
    assert sorted(ids(messages)) == sorted(f"shop-{line}" for line in range(2, ROWS + 2))
    for user in (f"u{n}".encode() for n in range(USERS)):
        of_user = [message for message in messages if message.key() == user]
        assert len({message.partition() for message in of_user}) <= 1
        lines = [int(name.removeprefix("shop-")) for name in ids(of_user)]
        assert lines == sorted(lines)
    assert {message.key() for message in read(settings, "items")} == {f"i{n}".encode() for n in range(7)}
    assert (sender.done.acknowledged, sender.done.refused) == (ROWS + 7, 0)


def test_a_resumed_replay_sends_exactly_what_is_missing(settings: Settings, shop: Path) -> None:
    send(settings, shop, stop_after=333)
    resumed = send(settings, shop, resume=True)
    assert resumed.done.sent == ROWS - 333
    assert sorted(ids(read(settings, "interactions"))) == sorted(f"shop-{line}" for line in range(2, ROWS + 2))
    assert send(settings, shop, resume=True).done.sent == 0


def test_history_is_marked_as_such(settings: Settings, shop: Path) -> None:
    sender = EventSender(settings)
    for _ in replay(read_rows(shop, COLUMNS), sender, Pace(), stop=threading.Event(), history=True):
        pass
    sender.flush()
    assert all(message.headers() == [("history", b"")] for message in read(settings, "interactions"))


def test_a_topic_is_replayed_as_it_was(settings: Settings, shop: Path) -> None:
    send(settings, shop)
    again = settings.model_copy(update={"prefix": "again."})
    ensure_topics(again)
    sender = EventSender(again, linger_ms=5)
    rows = topic_rows(settings, settings.topics.interactions, None, None)
    for _ in replay(rows, sender, Pace(), stop=threading.Event()):
        pass
    sender.flush()
    first, second = read(settings, "interactions"), read(again, "interactions")

    def partitions(messages: Sequence[Message]) -> dict[int, list[tuple[bytes | None, bytes | None]]]:
        found: dict[int, list[tuple[bytes | None, bytes | None]]] = {}
        for message in messages:
            found.setdefault(message.partition() or 0, []).append((message.key(), message.value()))
        return found

    assert partitions(first) == partitions(second)


def test_only_what_lies_between_two_times_is_sent(shop: Path) -> None:
    rows = between(read_rows(shop, COLUMNS), 1_700_000_000_010, 1_700_000_000_013)
    assert [row.line for row in rows] == [12, 13, 14]


def test_a_topic_is_replayed_from_a_time_on(settings: Settings, shop: Path) -> None:
    send(settings, shop)
    messages = read(settings, "interactions")
    middle = sorted(message.timestamp()[1] for message in messages)[ROWS // 2]
    expected = sum(message.timestamp()[1] >= middle for message in messages)
    assert len(list(topic_rows(settings, settings.topics.interactions, middle, None))) == expected


def test_a_replay_keeps_its_pace_and_stops_when_told(settings: Settings, shop: Path) -> None:
    stop, sender = threading.Event(), EventSender(settings)
    count = 0
    for done in replay(read_rows(shop, COLUMNS), sender, Pace(per_second=1), stop=stop):
        count = done.sent
        stop.set()  # the second one is due in a second
    assert count == 1
