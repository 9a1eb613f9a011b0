"""A disk that fills while a worker runs ends it with the folder's name; with room again every event is there once."""

import resource
from collections import defaultdict
from pathlib import Path

import pytest

from streams.local.local_broker import LocalBroker
from tests.integration.real_worker import deployment, now_ms, until

pytestmark = pytest.mark.integration

LIMIT_BYTES = 64 * 1024
"""No file may grow beyond it: what a full disk is to RocksDB, without the right to mount one.

The users' states are twice as much in each partition, also where all of its events come in one batch.
"""


def test_a_worker_whose_disk_fills_ends_and_goes_on_with_every_event_once(tmp_path: Path, broker: LocalBroker) -> None:
    with deployment(broker.address, tmp_path, HEADRACE_SERVING__RECOMMEND="false") as real:
        worker = real.start()
        worker.history("u0", after=real.click("u0", "before"))
        _, most = resource.prlimit(worker.child.pid, resource.RLIMIT_FSIZE)
        resource.prlimit(worker.child.pid, resource.RLIMIT_FSIZE, (LIMIT_BYTES, most))

        wanted: dict[str, list[str]] = defaultdict(list, {"u0": ["before"]})
        placed: dict[str, list[tuple[int, int]]] = {}
        for number in range(8000):
            user, item = f"u{number % 2500}", f"item-{number}"
            wanted[user].append(item)
            event = {"event_id": str(number), "user_id": user, "item_id": item, "type": "click", "timestamp": now_ms()}
            placed[user] = real.queue("interactions", user, event)
        real.flush()

        until(lambda: not worker.child.running)
        said = worker.child.output()
        assert worker.child.exit_code == 1
        assert f"The disk of {tmp_path / 'worker-0'}" in said.splitlines()[-1]
        assert "is full; make room" in said.splitlines()[-1]
        assert "Traceback" not in said

        worker.come_back()
        for user, items in wanted.items():
            [(partition, offset)] = placed[user]
            assert worker.history(user, after=f"interactions/{partition}/{offset}") == items
