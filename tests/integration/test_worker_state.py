"""A user's state outlives the worker, its disk and a value that cannot be read."""

import os
import signal
from collections.abc import Iterator
from contextlib import suppress
from struct import pack
from zlib import crc32

import pytest

from streams.errors import StartError
from streams.local.local_broker import LocalBroker
from streams.state.entries import columns_of
from streams.state.user_state import DAY_MS, UserState, decode_state
from tests.integration.real_worker import Deployment, deployment, now_ms, until

pytestmark = pytest.mark.integration

USERS = [f"u{number}" for number in range(24)]
CHANGELOG = "workers-histories-changelog"


@pytest.fixture(scope="module")
def real(broker: LocalBroker, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deployment]:
    with deployment(broker.address, tmp_path_factory.mktemp("state")) as made:
        made.start()
        made.start()
        until(lambda: sorted(made.workers[0].partitions + made.workers[1].partitions) == [0, 1, 2, 3])
        yield made


def test_two_workers_share_the_partitions_and_a_killed_ones_users_move_with_their_state(real: Deployment) -> None:
    first, second = real.workers
    until(lambda: len(first.partitions) == len(second.partitions) == 2)
    positions = {user: [real.click(user, item_id) for item_id in ("i1", "i2", "i3")][-1] for user in USERS}
    for user, position in positions.items():
        assert second.history(user, position) == ["i1", "i2", "i3"]
    os.kill(first.child.pid, signal.SIGKILL)
    until(lambda: second.partitions == [0, 1, 2, 3] and second.ready)
    for user in USERS:
        assert second.history(user, real.click(user, "i4")) == ["i1", "i2", "i3", "i4"]


def test_from_an_empty_disk_all_comes_back_but_what_cannot_be_read_which_is_set_aside(real: Deployment) -> None:
    real.workers[1].child.stop(10)
    request = partition, _ = real.send("requests", "poisoned", {"request_id": "r1", "user_id": "poisoned"})
    real.send(CHANGELOG, "poisoned", b"no state at all", partition=partition)
    worker = real.start()
    for user in USERS:
        assert worker.history(user) == ["i1", "i2", "i3", "i4"]
    assert worker.recommended("poisoned")["user_id"] == "poisoned"  # nothing is known of the user until the next event
    position = real.click("poisoned", "i5")
    assert worker.history("poisoned", position) == ["i5"]
    found = real.topic("dead-letters").find(lambda message: message.key() == b"poisoned")
    assert found.value() == b"no state at all"
    headers = dict(found.headers())
    assert (headers["reason"], headers["topic"]) == (b"broken_state", (real.prefix + CHANGELOG).encode())
    wanted = b"requests/%d/%d" % request
    assert real.topic("recommendations").find(lambda message: wanted in message.value())
    assert worker.child.running


def test_what_is_written_late_into_a_quiet_partition_is_written_over(real: Deployment) -> None:
    worker = real.workers[-1]
    position = real.click("quiet", "i1")
    assert worker.history("quiet", position) == ["i1"]
    partition = int(position.split("/")[1])
    real.send(CHANGELOG, "quiet", UserState(offset=-1).encode(), partition=partition)  # of a former owner
    late = real.topic(CHANGELOG)
    values: list[bytes] = []

    def written_over() -> bool:
        values.extend(message.value() for message in late.drain(0.1) if message.key() == b"quiet")
        return len(values) > 2 and decode_state(values[-1]).offset == int(position.split("/")[2])

    until(written_over, 30)


def test_idle_users_are_forgotten_by_store_and_changelog(real: Deployment) -> None:
    real.workers[2].child.stop(10)
    today = now_ms() // DAY_MS
    for number in range(1100):  # of one partition, so that the sweep takes more than one slice
        days = 2 if number % 2 else 400
        head, tail = columns_of("i1", 2, now_ms())
        state = UserState(offset=0, newest=now_ms(), heads=head, tails=tail, day=today - days)
        real.queue(CHANGELOG, f"idle{number}", state.encode(), partition=0)
    real.flush()
    worker = real.start()
    until(lambda: worker.metric("headrace_expired_users_total") == 550)
    newest = {message.key(): message.value() for message in real.topic(CHANGELOG).drain()}
    assert [newest[b"idle%d" % number] is None for number in range(1100)] == [n % 2 == 0 for n in range(1100)]
    assert worker.history(USERS[0])  # of today


def test_a_state_of_a_newer_release_stops_the_worker_and_stays_as_it_is(real: Deployment) -> None:
    real.workers[3].child.stop(10)
    body = b"known to a later release"
    value = pack("<BBHI", 9, 0, 0, crc32(body)) + body
    partition = int(real.click("future", "i1").split("/")[1])
    real.send(CHANGELOG, "future", value, partition=partition)
    with suppress(StartError):  # it may end before it serves
        real.start()
    worker = real.workers[-1]
    until(lambda: not worker.child.running)
    assert worker.child.exit_code == 1
    assert "version 9" in worker.child.output()
    [*_, newest] = [message for message in real.topic(CHANGELOG).drain() if message.key() == b"future"]
    assert newest.value() == value
