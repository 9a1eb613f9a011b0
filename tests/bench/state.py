"""make bench-state: how fast a worker has a million users back, from its changelog and from its own disk.

The changelog of a real Kafka is filled with one state a user; a worker recovers it into an empty folder and is then
started again on that folder. Times are random, sessions of minutes with days between; items are drawn alike, which
compresses worse than a shop with favourites.
"""

import argparse
import json
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from confluent_kafka import Producer
from confluent_kafka.admin import AdminClient, NewTopic
from rich.console import Console
from rich.table import Table

from streams.local.local_broker import LocalBroker
from streams.local.processes import free_port
from streams.state.user_state import DAY_MS, DIGEST_BYTES, UserState
from tests.bench.stack import Stack, samples

INTERACTIONS = 50
ITEMS = 4000
WINDOW = 16
"""Digests of event ids a user."""
NEWEST_MS = 1_764_000_000_000
USERS_AT_ONCE = 10_000
CHANGELOG = "headrace.workers-histories-changelog"
WORKER = {"HEADRACE_SERVING__RECOMMEND": "false", "HEADRACE_STATE__STANDBYS": "0"}
START_SECONDS = 300
QUIET_SECONDS = 3
AIMS = {
    "recovered_records_per_second": ">= 150,000",
    "table_bytes_per_user": "<= 537 (0.5 GiB a million)",
    "table_gib": "<= 0.5 at 1,000,000 users",
    "rss_peak_mib": "<= 400, at any number of users",
    "warm_seconds_to_ready": "< 3",
}
HEAD = np.dtype([("type", "u1"), ("length", "u1"), ("time", ">u4")])
TAIL = np.dtype([("time", ">u2"), ("item", "S6")])
"""An entry of `user_state` with an item id of six characters, in its two columns."""


def states(users: int, seed: int = 1) -> Iterator[tuple[bytes, bytes]]:
    """Yield each user's id and encoded state."""
    draw = np.random.default_rng(seed)
    today = int(time.time() * 1000) // DAY_MS  # an idle user would be forgotten
    items = np.array([f"{number}{'ABCD'[number % 4]}" for number in draw.permutation(90_000)[:ITEMS] + 10_000], "S6")
    for first in range(0, users, USERS_AT_ONCE):
        shape = (min(USERS_AT_ONCE, users - first), INTERACTIONS)
        gaps = np.where(draw.random(shape) < 0.8, draw.exponential(6e4, shape), draw.exponential(8e8, shape))
        times = NEWEST_MS - np.cumsum(gaps.astype("i8"), 1)[:, ::-1]
        heads, tails = np.empty(shape, HEAD), np.empty(shape, TAIL)
        heads["type"], heads["length"], heads["time"] = 1, 6, times >> 16
        tails["time"], tails["item"] = times & 0xFFFF, items[draw.integers(0, ITEMS, shape)]
        for at in range(shape[0]):
            window, newest = draw.bytes(DIGEST_BYTES * WINDOW), int(times[at, -1])
            state = UserState(first + at, newest, window, heads[at].tobytes(), tails[at].tobytes(), today)
            yield f"u{first + at}".encode(), state.encode()


def fill(broker: str, users: int) -> int:
    """Create the changelog and write the states; return their bytes."""
    new = NewTopic(CHANGELOG, 4, 1, config={"cleanup.policy": "compact"})
    admin = AdminClient({"bootstrap.servers": broker})
    for future in admin.create_topics([new]).values():
        future.result(20)
    producer = Producer(
        {
            "bootstrap.servers": broker,
            "partitioner": "murmur2_random",
            "linger.ms": 20,
            "queue.buffering.max.kbytes": 65_536,
        }
    )
    written = 0
    for key, value in states(users):
        while True:
            try:
                producer.produce(CHANGELOG, value, key)
                break
            except BufferError:
                producer.poll(0.1)
        written += len(value)
    producer.flush()
    return written


class Recovery:
    """Watches a worker that recovers: when the first and the last record came, and its memory."""

    def __init__(self, stack: Stack, users: int) -> None:
        self._stack = stack
        self._users = users
        self._none = self._all = time.monotonic()
        self._records = 0
        self.rss_peak = 0

    def look(self) -> None:
        """Ask the worker and the system once."""
        self.rss_peak = max(self.rss_peak, self._stack.rss_bytes("worker"))
        if self._records < self._users:
            self._records, self._all = self._recovered(), time.monotonic()
            if not self._records:
                self._none = self._all

    def records_per_second(self) -> int:
        """Return the rate from the last look without a record to the first with all of them.

        Raises:
            SystemExit: the worker is ready and has not all of them.
        """
        self.look()
        if self._records < self._users:
            raise SystemExit(f"the worker recovered {self._records} of {self._users} records")
        return round(self._users / (self._all - self._none))

    def _recovered(self) -> int:
        try:
            recovered = samples(self._stack.port, "headrace_recovered_records_total")
        except OSError:
            return self._records
        return int(sum(sample.value for sample in recovered))


def settled_bytes(folder: Path) -> int:
    """Return the bytes of a folder once RocksDB has come to rest."""
    size, since = -1, time.monotonic()
    while time.monotonic() - since < QUIET_SECONDS:
        if (found := folder_bytes(folder)) != size:
            size, since = found, time.monotonic()
        time.sleep(0.2)
    return size


def folder_bytes(folder: Path) -> int:
    """Return the bytes of all files; one that goes away meanwhile has none."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def measure(users: int) -> dict[str, float]:
    """Recover into an empty folder, then start again on it."""
    with tempfile.TemporaryDirectory() as name, LocalBroker(Path(name) / "kafka", free_port()) as broker:
        found: dict[str, float] = {"users": users, "state_bytes_per_user": round(fill(broker.address, users) / users)}
        stack = Stack(Path(name), broker.address, f"127.0.0.1:{free_port()}")
        try:
            recovery, began = Recovery(stack, users), time.monotonic()
            stack.start("worker", WORKER, START_SECONDS, recovery.look)
            found["empty_seconds_to_ready"] = round(time.monotonic() - began, 1)
            found["recovered_records_per_second"] = recovery.records_per_second()
            found["recovery_cpu_seconds"] = round(stack.cpu_seconds("worker"), 1)
            size = settled_bytes(Path(name) / "worker-1")
            recovery.look()
            found["table_gib"] = round(size / 2**30, 3)
            found["table_bytes_per_user"] = round(size / users)
            found["rss_peak_mib"] = recovery.rss_peak >> 20
            stack.stop("worker")
            began = time.monotonic()
            stack.start("worker", WORKER, START_SECONDS)
            found["warm_seconds_to_ready"] = round(time.monotonic() - began, 1)
            found["warm_rss_mib"] = stack.rss_bytes("worker") >> 20
        finally:
            stack.close()
    return found


def main() -> None:
    """Print each figure beside its aim, write the report."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--users", type=int, default=1_000_000)
    parser.add_argument("--report", type=Path)
    arguments = parser.parse_args()
    found = measure(arguments.users)
    table = Table("figure", "value", "aim")
    for key, value in found.items():
        table.add_row(key, f"{value:,}", AIMS.get(key, ""))
    Console().print(table)
    if arguments.report:
        arguments.report.write_text(json.dumps(found, indent=2) + "\n")


if __name__ == "__main__":
    main()
