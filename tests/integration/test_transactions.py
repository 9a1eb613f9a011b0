"""A.6: what a producer's transaction aborted was never said, and what an open one holds back is waited for."""

import json
import shutil
from collections.abc import Iterator
from uuid import uuid4

import pytest
from confluent_kafka import Producer

from streams.kafka.open_transactions import open_transactions
from streams.local.local_broker import LocalBroker
from tests.integration.real_worker import Deployment, RealWorker, deployment, now_ms, until

pytestmark = pytest.mark.integration


@pytest.fixture(scope="module")
def real(broker: LocalBroker, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deployment]:
    with deployment(broker.address, tmp_path_factory.mktemp("transactions")) as made:
        made.start()
        yield made


@pytest.fixture
def worker(real: Deployment) -> RealWorker:
    return real.workers[0]


def begun(real: Deployment) -> Producer:
    """Return a producer in a transaction of its own."""
    client = {"bootstrap.servers": real.broker, "log_level": 2, "partitioner": "murmur2_random"}
    producer = Producer({**client, "transactional.id": uuid4().hex, "transaction.timeout.ms": 60_000, "linger.ms": 0})
    producer.init_transactions(20)
    producer.begin_transaction()
    return producer


def click(real: Deployment, producer: Producer, user_id: str, item_id: str) -> None:
    event = {"event_id": uuid4().hex, "user_id": user_id, "item_id": item_id, "type": "purchase"}
    producer.produce(f"{real.prefix}interactions", json.dumps({**event, "timestamp": now_ms()}).encode(), user_id)
    assert producer.flush(10) == 0


def lag(worker: RealWorker, topic: str) -> float:
    return worker.metric("headrace_consumer_lag_records", topic=topic)


def test_of_two_producers_side_by_side_only_what_was_committed_is_folded(real: Deployment, worker: RealWorker) -> None:
    kept, dropped = begun(real), begun(real)
    for number in range(40):
        click(real, dropped, "u1", f"dropped{number}")
        if number % 20 == 0:
            click(real, kept, "u1", f"kept{number}")
    dropped.abort_transaction(20)
    kept.commit_transaction(20)
    assert worker.history("u1", real.click("u1", "after")) == ["kept0", "kept20", "after"]
    # The commit gets past the marks too, which are no records.
    until(lambda: lag(worker, f"{real.prefix}interactions") == 0)


def test_an_open_transaction_holds_back_what_follows_it_and_nothing_else(real: Deployment, worker: RealWorker) -> None:
    opened = begun(real)
    click(real, opened, "u2", "held back")
    position = real.click("u2", "behind it")
    partition = position.split("/")[1]
    until(lambda: worker.metric("headrace_consumer_lag_records", partition=partition) >= 2)
    assert worker.history("u2") == []
    elsewhere = next(user for user in map(str, range(100)) if real.click(user, "i1").split("/")[1] != partition)
    until(lambda: worker.history(elsewhere) == ["i1"])
    worker.child.stop()
    worker.come_back()
    assert worker.history("u2") == []
    opened.commit_transaction(20)
    assert worker.history("u2", position) == ["held back", "behind it"]


def test_a_recovery_gets_past_what_was_aborted_in_the_changelog(real: Deployment, worker: RealWorker) -> None:
    """Its end is a mark, which is no record: whoever waited for a record there would wait for ever."""
    assert worker.history("u3", real.click("u3", "i1"))[-1:] == ["i1"]
    aborted = begun(real)
    for partition in range(4):
        aborted.produce(f"{real.prefix}workers-histories-changelog", b"no state", b"u3", partition)
    assert aborted.flush(10) == 0
    aborted.abort_transaction(20)
    worker.child.stop()
    shutil.rmtree(real.folder / "worker-0")
    worker.come_back()
    assert worker.history("u3") == ["i1"]
    assert worker.history("u3", real.click("u3", "i2")) == ["i1", "i2"]


def test_doctor_names_the_producer_whose_transaction_is_open(real: Deployment) -> None:
    producer = begun(real)
    click(real, producer, "u9", "open")
    [found] = open_transactions(real.settings, 0)
    assert found.topics == (f"{real.prefix}interactions",)
    assert found.transactional_id in str(found)
    assert open_transactions(real.settings, 3600) == []
    producer.abort_transaction(20)
    assert open_transactions(real.settings, 0) == []
