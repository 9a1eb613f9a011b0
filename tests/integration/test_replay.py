"""A replay puts every row on the topics once: in order a user, resumed where it ended, from a file or from a topic."""

import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import OFFSET_BEGINNING, Consumer, Message, Producer, TopicPartition

from streams.commands.replay_command import run_replay
from streams.errors import StartError
from streams.files.columns import Columns
from streams.files.event_files import read_rows
from streams.files.pace import Pace
from streams.files.replay import between, replay
from streams.files.sender import EventSender
from streams.files.topic_rows import topic_rows
from streams.kafka.topic_setup import ensure_topics
from streams.local.local_broker import LocalBroker
from streams.settings import Settings

pytestmark = pytest.mark.integration

USERS, ROWS = 20, 1000
TAKEN = ROWS - ROWS // 50
MAPPING = "user_id=who,item_id=what,timestamp=at,type==click,title=name"
COLUMNS = Columns.parse(MAPPING)
CASES = Path(__file__).parents[1] / "cases"


@pytest.fixture
def settings(broker: LocalBroker, request: pytest.FixtureRequest, tmp_path: Path) -> Settings:
    settings = Settings(
        broker=broker.address, prefix=f"{re.sub(r'[^a-z0-9_]', '', request.node.name)[-60:]}.", data_dir=tmp_path
    )
    ensure_topics(settings)
    return settings


@pytest.fixture
def shop(tmp_path: Path) -> Path:
    """Every fiftieth row has no user."""
    path = tmp_path / "shop.csv"
    lines = (f"{'' if n % 50 == 0 else f'u{n % USERS}'},i{n % 7},{1_700_000_000_000 + n},Thing" for n in range(ROWS))
    path.write_text("who,what,at,name\n" + "\n".join(lines) + "\n")
    return path


def send(settings: Settings, path: Path) -> EventSender:
    sender = EventSender(settings, linger_ms=5)
    for _ in replay(read_rows(path, COLUMNS), sender, Pace(), stop=threading.Event()):
        pass
    sender.flush()
    return sender


def command(settings: Settings, file: Path | None = None, **options: Any) -> int:
    wanted: dict[str, Any] = {
        "topic": None, "columns": None, "types": None, "speed": "max", "since": None, "until": None, "resume": False,
        "as_history": False,
    }  # fmt: skip
    return run_replay(settings, str(file) if file else None, **(wanted | options))


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
    """B.3: what a worker would reject was acknowledged and then dead-lettered; now it is not sent, and counted."""
    sender = send(settings, shop)
    messages = read(settings, "interactions")
    lines_of = {row.mark: row.line for row in read_rows(shop, COLUMNS) if row.user_id}
    assert sorted(ids(messages)) == sorted(lines_of)
    for user in (f"u{n}".encode() for n in range(USERS)):
        of_user = [message for message in messages if message.key() == user]
        assert len({message.partition() for message in of_user}) <= 1
        lines = [lines_of[name] for name in ids(of_user)]
        assert lines == sorted(lines)
    assert {message.key() for message in read(settings, "items")} == {f"i{n}".encode() for n in range(7)}
    done = sender.done
    assert (done.acknowledged, done.items_acknowledged, done.refused) == (TAKEN, 7, 0)
    assert done.rejected == {"missing_field": ROWS - TAKEN}


@pytest.mark.parametrize("own_ids", [False, True])
def test_a_killed_replay_goes_on_with_exactly_what_is_missing(
    settings: Settings, tmp_path: Path, *, own_ids: bool
) -> None:
    """B.3: files with ids of their own, and topics with 2,000 newer records, were begun anew without a word."""
    path = tmp_path / "past.jsonl"
    rows = [
        {"user_id": f"u{n % USERS}", "item_id": f"i{n}", "type": "view", "timestamp": 1_700_000_000_000 + n}
        | ({"event_id": f"own{n}"} if own_ids else {})
        for n in range(ROWS)
    ]
    path.write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    killed = subprocess.Popen(
        [sys.executable, "-c", "from streams.cli.main import main; main()", "replay", str(path), "--speed", "400/s"],
        env=os.environ
        | {"HEADRACE_BROKER": settings.broker, "HEADRACE_PREFIX": settings.prefix}
        | {"HEADRACE_DATA_DIR": str(settings.data_dir)},
    )
    deadline = time.monotonic() + 60
    while not (reached := len(read(settings, "interactions"))) or not list(tmp_path.glob("replays/*.json")):
        assert time.monotonic() < deadline
    killed.send_signal(signal.SIGKILL)
    killed.wait()
    others = Producer({"bootstrap.servers": settings.broker, "linger.ms": 5})
    for n in range(2500):
        others.produce(settings.topics.interactions, b"{}", str(n).encode())
    others.flush()
    path = path.rename(tmp_path / "moved.jsonl")
    assert 0 < reached < ROWS
    assert command(settings, path, resume=True) == 0
    messages = [message for message in read(settings, "interactions") if message.value() != b"{}"]
    assert len(messages) == ROWS
    assert len(set(ids(messages))) == ROWS


def test_a_finished_file_is_known_again_by_its_content(settings: Settings, capsys: pytest.CaptureFixture[str]) -> None:
    """B.3: day 2 took the ids of day 1, and was skipped by --resume."""
    day1, day2 = CASES / "same_name" / "day1" / "events.jsonl", CASES / "same_name" / "day2" / "events.jsonl"
    assert command(settings, day1) == 0
    assert command(settings, day2, resume=True) == 0
    assert len(set(ids(read(settings, "interactions")))) == 100
    copy = settings.data_dir / "another name.jsonl"
    copy.write_bytes(day1.read_bytes())
    capsys.readouterr()
    assert command(settings, copy, resume=True) == 0
    assert "0 events" in (printed := capsys.readouterr().out)
    assert "50 events were sent by the replay before" in printed
    assert len(read(settings, "interactions")) == 100
    assert command(settings, copy) == 0
    assert "was replayed up to line 50" in capsys.readouterr().out
    assert len(set(ids(read(settings, "interactions")))) == 100


def test_progress_that_the_topic_does_not_bear_out_is_not_gone_on_from(settings: Settings, shop: Path) -> None:
    """A topic made anew holds less than was acknowledged; with other partitions, what was sent is sent once more."""
    assert command(settings, shop, columns=MAPPING) == 1
    [kept] = settings.data_dir.glob("replays/*.json")
    progress = json.loads(kept.read_bytes())
    kept.write_text(json.dumps(progress | {"partitions": progress["partitions"] + 1}))
    assert command(settings, shop, columns=MAPPING, resume=True) == 1
    assert len(read(settings, "interactions")) == 2 * TAKEN
    beyond = {partition: [position, 1_000_000] for partition, (position, _) in progress["points"].items()}
    kept.write_text(json.dumps(progress | {"points": beyond}))
    with pytest.raises(StartError, match="was made anew"):
        command(settings, shop, columns=MAPPING, resume=True)


def test_a_file_of_the_past_does_not_change_the_catalogue(
    settings: Settings, capsys: pytest.CaptureFixture[str]
) -> None:
    """B.3: a titled history brought retired items back, and overwrote titles and prices."""
    now = Producer({"bootstrap.servers": settings.broker})
    now.produce(settings.topics.items, None, b"old0", 0)
    now.produce(settings.topics.items, b'{"item_id":"old1","title":"New thing"}', b"old1", 0)
    now.flush()
    assert command(settings, CASES / "titled_history.jsonl") == 0
    assert "2 items left as the catalogue has them" in capsys.readouterr().out
    said = {message.key(): message.value() for message in read(settings, "items")}
    assert set(said) == {f"old{n}".encode() for n in range(6)}
    assert said[b"old0"] is None
    assert b"New thing" in (said[b"old1"] or b"")


def test_what_a_worker_would_reject_ends_with_1_and_is_counted(
    settings: Settings, capsys: pytest.CaptureFixture[str]
) -> None:
    """B.3, C.3: one bad time among good ones; the rest goes on. Of a topic, too."""
    assert command(settings, CASES / "one_bad_time.csv", columns="type==view") == 1
    printed = capsys.readouterr().out
    assert "120 events" in printed
    assert "1 rows not sent" in printed
    assert "line 122" in printed
    raw = Producer({"bootstrap.servers": settings.broker})
    raw.produce(settings.topics.interactions, b'{"user_id": 5}', b"5")
    raw.flush()
    assert command(settings, topic=settings.topics.interactions) == 1
    assert "1 rows not sent" in capsys.readouterr().out


def test_the_past_is_sent_oldest_first_whichever_way_the_file_runs(settings: Settings) -> None:
    """B.3: newest first, 58 of 90 purchases were too late for their users."""
    for name in ("newest_first.csv", "oldest_first.csv"):
        assert command(settings, CASES / name, as_history=True) == 0
    found: dict[bytes | None, list[str]] = {}
    for message in read(settings, "interactions"):
        found.setdefault(message.key(), []).append(json.loads(message.value() or b"")["item_id"])
    for items in found.values():
        assert items[:45] == items[45:]
        assert items[:2] in (["i89", "i87"], ["i88", "i86"])


def test_a_topics_past_stays_the_past(settings: Settings, shop: Path) -> None:
    """B.3: --topic dropped the header, so a shop's past was answered and learned."""
    command(settings, shop, columns=MAPPING, as_history=True)
    again = settings.model_copy(update={"prefix": f"again-{settings.prefix}"})
    ensure_topics(again)
    assert command(again, topic=settings.topics.interactions) == 0
    assert [message.headers() for message in read(again, "interactions")] == [[("history", b"")]] * TAKEN


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
    middle = sorted(message.timestamp()[1] for message in messages)[TAKEN // 2]
    expected = sum(message.timestamp()[1] >= middle for message in messages)
    assert len(list(topic_rows(settings, settings.topics.interactions, middle, None))) == expected


def test_a_replay_keeps_its_pace_and_stops_when_told(settings: Settings, shop: Path) -> None:
    stop, sender = threading.Event(), EventSender(settings)
    count = 0
    for done in replay(read_rows(shop, COLUMNS), sender, Pace(per_second=1), stop=stop):
        count = done.sent
        stop.set()  # the second one is due in a second
    assert count == 1
