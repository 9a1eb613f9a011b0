"""A user's state outlives the worker, its disk and a value that cannot be read."""

import os
import signal
from collections.abc import Iterator

import pytest

from streams.local.local_broker import LocalBroker
from tests.integration.real_worker import Deployment, deployment, until

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
    survivor = real.workers[1]
    partition = int(real.click("poisoned", "i1").split("/")[1])
    assert survivor.child.running
    survivor.child.stop(10)
    real.send(CHANGELOG, "poisoned", b"no state at all", partition=partition)
    worker = real.start()
    for user in USERS:
        assert worker.history(user) == ["i1", "i2", "i3", "i4"]
    assert worker.recommended("poisoned")["user_id"] == "poisoned"  # nothing is known of the user until the next event
    request = real.send("requests", "poisoned", {"request_id": "r1", "user_id": "poisoned"})
    position = real.click("poisoned", "i5")
    assert worker.history("poisoned", position) == ["i5"]
    found = real.topic("dead-letters").find(lambda message: message.key() == b"poisoned")
    assert found.value() == b"no state at all"
    headers = dict(found.headers())
    assert (headers["reason"], headers["topic"]) == (b"broken_state", (real.prefix + CHANGELOG).encode())
    wanted = b"requests/%d/%d" % request
    assert real.topic("recommendations").find(lambda message: wanted in message.value())
    assert worker.child.running
