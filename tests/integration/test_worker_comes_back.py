"""A worker that comes back on its disk is the member of its group that it was; one told to end leaves at once."""

import os
import shutil
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from confluent_kafka.admin import AdminClient

from streams.local.local_broker import LocalBroker
from tests.integration.real_worker import Deployment, RealWorker, deployment, until

pytestmark = pytest.mark.integration

USERS = [f"u{number}" for number in range(12)]


@pytest.fixture(params=["6"])
def real(broker: LocalBroker, tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Deployment]:
    with deployment(broker.address, tmp_path, HEADRACE_KAFKA__SESSION_TIMEOUT_SECONDS=request.param) as made:
        made.start()
        made.start()
        until(lambda: [len(worker.partitions) for worker in made.workers] == [2, 2])
        until(lambda: all(worker.ready for worker in made.workers))
        yield made


def members(real: Deployment) -> set[str | None]:
    group = f"{real.prefix}workers"
    admin = AdminClient({"bootstrap.servers": real.broker, "log_level": 2})  # kept: without it the answer never comes
    found = admin.describe_consumer_groups([group])[group].result(10)
    return {member.group_instance_id for member in found.members}


def assignments(worker: RealWorker) -> int:
    return worker.child.output().count("partitions_ready")


def kill(worker: RealWorker) -> None:
    os.kill(worker.child.pid, signal.SIGKILL)
    until(lambda: not worker.child.running)


@pytest.mark.parametrize("real", ["18"], indirect=True)  # in which a busy machine has started it again
def test_after_a_kill_it_gets_its_partitions_back_and_the_others_stay_where_they_are(real: Deployment) -> None:
    first, second = real.workers
    before = first.partitions, second.partitions, members(real), assignments(second)
    positions = {user: real.click(user, "i1") for user in USERS}
    for user, position in positions.items():
        assert second.history(user, position) == ["i1"]
    kill(first)
    positions = {user: real.click(user, "i2") for user in USERS}
    first.come_back()
    assert (first.partitions, second.partitions, members(real), assignments(second)) == before
    for user, position in positions.items():
        assert second.history(user, position) == ["i1", "i2"]


def test_without_its_disk_it_is_another_member(real: Deployment) -> None:
    first, _ = real.workers
    before = members(real)
    kill(first)
    shutil.rmtree(real.folder / first.child.name)
    first.come_back()
    until(lambda: len(members(real)) == 2)
    assert len(members(real) & before) == 1


def test_told_to_end_it_leaves_the_group_at_once(real: Deployment) -> None:
    first, second = real.workers
    first.child.stop(10)
    assert len(members(real)) == 1
    until(lambda: second.partitions == [0, 1, 2, 3] and second.ready)
    first.come_back()
    until(lambda: [len(worker.partitions) for worker in real.workers] == [2, 2])
