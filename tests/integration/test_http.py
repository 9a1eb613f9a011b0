"""The API on real workers: an event posted to any of them is read back from any of them, whoever owns the user."""

import json
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from uuid import uuid4

import httpx
import pytest
from confluent_kafka import OFFSET_BEGINNING, Consumer, Message, Producer, TopicPartition

from streams.commands.ask import path_segment
from streams.local.local_broker import LocalBroker
from streams.local.local_triton import LocalTriton
from streams.local.processes import Child, free_port
from tests.unit.test_http import event, problem_of
from tests.unit.test_http_edge import ODD_IDS

pytestmark = pytest.mark.integration
DEADLINE_SECONDS = 60.0
TOKEN = {"Authorization": "Bearer secret"}
USERS = [f"user/{n}" for n in range(24)]


@dataclass(frozen=True)
class Workers:
    broker: str
    prefix: str
    clients: list[httpx.Client]
    children: list[Child]


@contextmanager
def workers(count: int, broker: LocalBroker, triton: LocalTriton, folder: Path, **more: str) -> Iterator[Workers]:
    prefix = f"{uuid4().hex[:8]}."
    children, clients = [], []
    with ExitStack() as stack:
        for number in range(count):
            port = free_port()
            environment = {
                **os.environ,
                "HEADRACE_BROKER": broker.address,
                "HEADRACE_PREFIX": prefix,
                "HEADRACE_DATA_DIR": str(folder),
                "HEADRACE_WORKER_ID": f"worker-{number}",
                "HEADRACE_HTTP__PORT": str(port),
                "HEADRACE_HTTP__TOKENS": json.dumps({"secret": ["events", "read"]}),
                "HEADRACE_TRITON__URL": triton.address,
                "HEADRACE_TRITON__TIMEOUT_MS": "2000",
                "HEADRACE_TRITON__SERVE_UNTRAINED": "true",
                "HEADRACE_SERVING__DEADLINE_MS": "5000",
                **more,
            }
            command = [sys.executable, "-m", "streams", "worker"]
            log_file = folder / f"worker-{number}.log"
            child = Child(f"worker {number}", command, log_file=log_file, environment=environment)
            stack.callback(child.stop)
            client = httpx.Client(base_url=f"http://127.0.0.1:{port}", headers=TOKEN, timeout=15.0, trust_env=False)
            stack.enter_context(client)
            children.append(child)
            clients.append(client)
            child.wait_until(lambda client=client: answers(client), DEADLINE_SECONDS)
        for client in clients:
            until(lambda client=client: len(partitions(client)) == 4 // count)
        yield Workers(broker.address, prefix, clients, children)


def answers(client: httpx.Client) -> bool:
    try:
        return client.get("/readyz").status_code == 200
    except httpx.HTTPError:
        return False


def partitions(client: httpx.Client) -> list[int]:
    return list(client.get("/healthz").json()["partitions"])


def until(done: Callable[[], object]) -> None:
    deadline = time.monotonic() + DEADLINE_SECONDS
    while not done():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def post(client: httpx.Client, **fields: object) -> str:
    response = client.post("/v1/events", json=event(**fields))
    assert response.status_code == 200, response.text
    [position] = response.json()["positions"]
    return str(position)


@pytest.fixture(scope="module")
def pair(broker: LocalBroker, triton: LocalTriton, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Workers]:
    with workers(2, broker, triton, tmp_path_factory.mktemp("pair")) as two:
        yield two


def test_what_is_posted_to_either_is_read_from_both(pair: Workers) -> None:
    for number, user_id in enumerate(USERS):
        position = post(pair.clients[number % 2], user_id=user_id, event_id=f"e{number}", item_id=f"i{number % 5}")
        for client in pair.clients:
            path = f"/v1/users/{user_id.replace('/', '%2F')}"
            history = client.get(f"{path}/history", params={"after": position}).json()
            assert history["position"] == position
            assert [entry["item_id"] for entry in history["interactions"]] == [f"i{number % 5}"]
            found = client.get(f"{path}/recommendations", params={"after": position, "k": 3}).json()
            topic, partition, offset = position.split("/")
            assert found["cause"] == {"topic": topic, "partition": int(partition), "offset": int(offset)}
            assert found["user_id"] == user_id
    for client in pair.clients:  # an item can be recommended once its row is known
        until(lambda client=client: client.get("/v1/users/newcomer/recommendations?k=3").json()["items"])


def test_both_workers_own_users_and_forward_the_others(pair: Workers) -> None:
    owned = [partitions(client) for client in pair.clients]
    assert sorted(owned[0] + owned[1]) == [0, 1, 2, 3]
    assert all(owned)


def test_a_list_of_events_is_durable_at_the_positions_returned(pair: Workers) -> None:
    events = [event(user_id=user_id, event_id="batch", item_id="i9") for user_id in USERS]
    positions = pair.clients[0].post("/v1/events", json=events).json()["positions"]
    consumer = Consumer({"bootstrap.servers": pair.broker, "log_level": 2, "group.id": "unused"})
    topic = f"{pair.prefix}interactions"
    consumer.assign([TopicPartition(topic, partition, OFFSET_BEGINNING) for partition in range(4)])
    stored = {
        f"interactions/{record.partition()}/{record.offset()}": json.loads(record.value())["user_id"]
        for record in consumer.consume(2 * len(USERS), timeout=20)
    }
    consumer.close()
    assert [stored[position] for position in positions] == USERS


def test_an_odd_id_is_the_same_user_at_either(pair: Workers) -> None:
    """Issue 10, D: posted in one list, read from the owner and through the other worker."""
    events = [event(user_id=user_id, event_id="odd", item_id=f"i{n}") for n, user_id in enumerate(ODD_IDS)]
    positions = pair.clients[0].post("/v1/events", json=events).json()["positions"]
    for number, (user_id, position) in enumerate(zip(ODD_IDS, positions, strict=True)):
        for client in pair.clients:
            history = client.get(f"/v1/users/{path_segment(user_id)}/history", params={"after": position}).json()
            assert (history["user_id"], [e["item_id"] for e in history["interactions"]]) == (user_id, [f"i{number}"])


def test_a_position_of_another_partition_is_refused(pair: Workers) -> None:
    position = post(pair.clients[0], user_id="u1", event_id="elsewhere")
    other = (int(position.split("/")[1]) + 1) % 4
    response = pair.clients[0].get("/v1/users/u1/history", params={"after": f"interactions/{other}/0"})
    assert problem_of(response) == (400, "invalid-parameter", "after")


def test_a_position_that_does_not_exist_yet_runs_into_the_deadline(pair: Workers) -> None:
    partition = post(pair.clients[1], user_id="u1", event_id="deadline").split("/")[1]
    response = pair.clients[1].get("/v1/users/u1/history", params={"after": f"interactions/{partition}/999999"})
    assert problem_of(response) == (504, "state-behind", None)


def test_what_was_posted_is_read_after_its_owner_was_killed(pair: Workers) -> None:
    positions = {user_id: post(pair.clients[0], user_id=user_id, event_id="last", item_id="i8") for user_id in USERS}
    for user_id, position in positions.items():  # read once, so that all of it is in the changelog
        last_item(pair.clients[0], user_id, position)
    os.kill(pair.children[0].pid, signal.SIGKILL)
    until(lambda: len(partitions(pair.clients[1])) == 4 and answers(pair.clients[1]))
    for user_id, position in positions.items():
        assert last_item(pair.clients[1], user_id, position) == "i8"


def last_item(client: httpx.Client, user_id: str, position: str) -> str:
    history = client.get(f"/v1/users/{user_id.replace('/', '%2F')}/history", params={"after": position}).json()
    return str(history["interactions"][-1]["item_id"])


def test_with_a_key_no_user_id_is_stored_and_each_user_is_still_found(
    broker: LocalBroker, triton: LocalTriton, tmp_path: Path
) -> None:
    """Issue 10, C.4: of eight ids read from `recommendations` six asked for nobody; dead letters kept ids."""
    users = {f"jane-{n}@example.org": f"i{n}" for n in range(8)}
    with workers(1, broker, triton, tmp_path, HEADRACE_PSEUDONYM_KEY="pepper") as one:
        client, producer = (
            one.clients[0],
            Producer({"bootstrap.servers": broker.address, "partitioner": "murmur2_random"}),
        )
        events = [event(user_id=user_id, item_id=item_id) for user_id, item_id in users.items()]
        positions = client.post("/v1/events", json=events).json()["positions"]
        for (user_id, item_id), position in zip(users.items(), positions, strict=True):
            assert last_item(client, user_id, position) == item_id
        for user_id in users:
            producer.produce(f"{one.prefix}interactions", json.dumps(event(user_id=user_id, type="x")), key=user_id)
        producer.flush()

        lists = records(one, "recommendations", len(users))
        hidden = {json.loads(record.value())["user_id"]: record.partition() for record in lists}
        assert sorted(last_item(client, user_id, f"interactions/{n}/0") for user_id, n in hidden.items()) == sorted(
            users.values()
        )
        for user_id in hidden:
            asked = {"request_id": "r1", "user_id": user_id, "k": 5}
            producer.produce(f"{one.prefix}requests", json.dumps(asked), key=user_id)
        producer.flush()
        answers = records(one, "recommendations", 2 * len(users))
        causes = {(a["user_id"], a["cause"]["topic"]) for a in (json.loads(record.value()) for record in answers)}
        assert causes == {(user_id, topic) for user_id in hidden for topic in ("interactions", "requests")}
        assert {record.partition() for record in answers if record.key().decode() in hidden} == {*hidden.values()}
        stored = [*answers, *records(one, "examples", 1), *records(one, "dead-letters", len(users))]
        for record in stored:
            assert b"example.org" not in b"".join(
                [record.key(), record.value(), *dict(record.headers() or ()).values()]
            )


def records(of: Workers, topic: str, count: int) -> list[Message]:
    """The first records of a topic, of all its partitions."""
    consumer = Consumer({"bootstrap.servers": of.broker, "log_level": 2, "group.id": "unused"})
    partitions = consumer.list_topics(of.prefix + topic, timeout=20).topics[of.prefix + topic].partitions
    consumer.assign([TopicPartition(of.prefix + topic, n, OFFSET_BEGINNING) for n in partitions])
    found = consumer.consume(count, timeout=20)
    consumer.close()
    assert len(found) == count
    return list(found)
