"""make bench-streams: Headrace's worker beside a bare loop, Quix Streams and stock Faust, on the same topic in one run.

Every contestant keeps the last 50 items of each user in RocksDB with a changelog. Headrace's worker does all that it
does in production besides: validation, dead letters, duplicate check, event time, source offsets. The clock runs from
the first record in the contestant's changelog to the commit that covers the last event.
"""

import argparse
import json
import math
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path

import psutil
from confluent_kafka import ConsumerGroupState, KafkaException
from confluent_kafka.admin import AdminClient
from rich.console import Console
from rich.table import Table

from streams.local.local_broker import LocalBroker
from streams.local.processes import free_port
from tests.bench import goodput, http, latency
from tests.bench.load import Together, Watch, create, fill
from tests.bench.stack import samples

PEERS = Path(__file__).parent / "peers"
DEADLINE_SECONDS = 240
STOCK_FAUST_EVENTS = 40_000
"""Of the topic: at 5,000 events/s the rest would take minutes and change nothing."""


class Contestant:
    """A process that folds a topic into state, and what it took."""

    def __init__(self, command: list[str], environment: Mapping[str, str] | None = None) -> None:
        self._process = psutil.Popen(
            command, env={**os.environ, **(environment or {})}, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )

    def cpu_seconds(self) -> float:
        """Return the CPU time so far."""
        times = self._process.cpu_times()
        return float(times.user + times.system)

    @property
    def running(self) -> bool:
        """Whether it has not ended."""
        return bool(self._process.is_running() and self._process.status() != psutil.STATUS_ZOMBIE)

    def stop(self) -> None:
        """End it."""
        self._process.terminate()
        try:
            self._process.wait(15)
        except psutil.TimeoutExpired:
            self._process.kill()
            self._process.wait()


def headrace(
    broker: str, prefix: str, folder: Path, name: str = "worker-1", partitions: int = 4, port: int | None = None
) -> Contestant:
    """Start a worker that folds and answers nothing."""
    return Contestant(
        [sys.executable, "-m", "streams", "worker"],
        {
            "HEADRACE_BROKER": broker,
            "HEADRACE_PREFIX": prefix,
            "HEADRACE_DATA_DIR": str(folder),
            "HEADRACE_WORKER_ID": name,
            "HEADRACE_HTTP__PORT": str(port or free_port()),
            "HEADRACE_SERVING__RECOMMEND": "false",
            "HEADRACE_STATE__STANDBYS": "0",
            "HEADRACE_KAFKA__PARTITIONS": str(partitions),
        },
    )


def peer(python: str | Path, script: str, broker: str, topic: str, group: str, folder: Path, events: int) -> Contestant:
    """Start one of the others."""
    return Contestant([str(python), str(PEERS / script), broker, topic, group, str(folder), str(events)])


def timed(
    contestants: list[Contestant],
    watch: Watch | Together,
    changelog: Watch | Together,
    events: int,
    joined: Callable[[], bool] = lambda: True,
    more: Callable[[], dict[str, float]] = dict,
) -> dict[str, float]:
    """Wait until the events are committed; return events/s and CPU microseconds an event, once all have joined.

    `more` is asked for further figures before the contestants end.
    """
    deadline = time.monotonic() + DEADLINE_SECONDS
    began, cpu, before = 0.0, 0.0, 0
    try:
        while (done := watch.committed()) < events:
            if not began and (done or changelog.written()) and joined():
                began, cpu, before = time.monotonic(), sum(c.cpu_seconds() for c in contestants), done
            if time.monotonic() > deadline or not all(c.running for c in contestants):
                raise SystemExit(f"a contestant stopped or was too slow at {done} of {events} events")
            time.sleep(0.02)
        if not began:
            raise SystemExit(f"{len(contestants)} contestants had not joined when the {events} events were done with")
        seconds, events = time.monotonic() - began, events - before
        return {
            "events_per_second": round(events / seconds),
            "cpu_us_per_event": round((sum(c.cpu_seconds() for c in contestants) - cpu) / events * 1e6, 2),
            **more(),
        }
    finally:
        for contestant in contestants:
            contestant.stop()
        watch.close()
        changelog.close()


def run_headrace(broker: str, prefix: str, events: int, users: int, *, partitions: int = 4) -> dict[str, float]:
    """Measure the worker on a topic of its own."""
    fill(broker, f"{prefix}interactions", events, users, partitions)
    group, port = f"{prefix}workers", free_port()
    with tempfile.TemporaryDirectory() as folder:
        return timed(
            [headrace(broker, prefix, Path(folder), partitions=partitions, port=port)],
            Watch(broker, group, f"{prefix}interactions", partitions),
            Watch(broker, "watch", f"{group}-histories-changelog", partitions),
            events,
            more=partial(_batch_p99, port),
        )


def _batch_p99(port: int) -> dict[str, float]:
    """Return what 99 of 100 batches took at most, to the next bound of the worker's histogram."""
    counts = {
        float(sample.labels["le"]): sample.value
        for sample in samples(port, "headrace_stage_seconds_bucket")
        if sample.labels["stage"] == "batch"
    }
    return {"batch_p99_ms": next(1000 * bound for bound, count in counts.items() if count >= 0.99 * counts[math.inf])}


def scaling(broker: str, events: int, users: int) -> dict[str, float]:
    """Measure two workers over one, and over one bare loop two that know nothing of each other: the machine's limit."""
    one, two = (_sharing(broker, f"w{workers}.", events, users, workers) for workers in (1, 2))
    fill(broker, "loops", events, users)
    loop, loops = (_raw_loops(broker, count, events) for count in (1, 2))
    return {
        "one_worker": one["events_per_second"],
        "two_workers": round(two["events_per_second"] / one["events_per_second"], 2),
        "one_worker_cpu_us": one["cpu_us_per_event"],
        "two_workers_cpu_us": two["cpu_us_per_event"],
        "one_loop": loop["events_per_second"],
        "two_loops": round(loops["events_per_second"] / loop["events_per_second"], 2),
    }


def _sharing(broker: str, prefix: str, events: int, users: int, workers: int) -> dict[str, float]:
    """Measure workers on a topic filled before, from when each has its partitions: a sender takes a core itself."""
    topic, group = f"{prefix}interactions", f"{prefix}workers"
    fill(broker, topic, events, users)
    admin = AdminClient({"bootstrap.servers": broker})
    with tempfile.TemporaryDirectory() as folder:
        return timed(
            [headrace(broker, prefix, Path(folder), f"worker-{n}") for n in range(1, workers + 1)],
            Watch(broker, group, topic, 4),
            Watch(broker, "watch", f"{group}-histories-changelog", 4),
            events,
            partial(_shared, admin, group, workers),
        )


def _shared(admin: AdminClient, group: str, workers: int) -> bool:
    try:
        found = admin.describe_consumer_groups([group])[group].result(20)
    except KafkaException:  # the group has no coordinator before its first member
        return False
    parts = [member.assignment.topic_partitions for member in found.members if member.assignment]
    return found.state == ConsumerGroupState.STABLE and len(parts) == workers and all(parts)


def _raw_loops(broker: str, count: int, events: int) -> dict[str, float]:
    """Measure bare loops that each read all of the topic."""
    groups = [f"loop-{count}-{n}" for n in range(count)]
    for group in groups:
        create(broker, f"{group}-changelog", 4)
    with tempfile.TemporaryDirectory() as folder:
        started = [
            peer(
                sys.executable, "raw.py", broker, "loops", group, Path(folder) / group, events + 1
            )  # until it is stopped
            for group in groups
        ]
        watches = [Watch(broker, group, "loops", 4) for group in groups]
        changelogs = [Watch(broker, "watch", f"{group}-changelog", 4) for group in groups]
        return timed(started, Together(watches), Together(changelogs), count * events)


def run_peers(broker: str, events: int, users: int, quix: Path | None) -> dict[str, dict[str, float]]:
    """Measure all contestants on topics with the same events."""
    found = {"headrace": run_headrace(broker, "one.", events, users)}
    topic = "one.interactions"
    others = {
        "raw": (sys.executable, "raw.py", events),
        "faust": (sys.executable, "stock_faust.py", STOCK_FAUST_EVENTS),
    }
    if quix:
        others["quixstreams"] = (str(quix), "quix.py", events)
    for name, (python, script, count) in others.items():
        changelogs = {"raw": "raw-changelog", "faust": "faust-histories-changelog"}
        changelog = changelogs.get(name, f"changelog__{name}--{topic}--default")
        if name == "raw":
            fill(broker, changelog, 0, 1)
        with tempfile.TemporaryDirectory() as folder:
            contestant = peer(python, script, broker, topic, name, Path(folder) / "state", count)
            found[name] = timed(
                [contestant], Watch(broker, name, topic, 4), Watch(broker, "watch", changelog, 4), count
            )
    return found


def main() -> None:
    """Run what is asked for, print the table, write the report."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--report", type=Path)
    parser.add_argument("--quix", type=Path, help="a Python that has quixstreams; without it that peer is left out")
    parser.add_argument("--events", type=int, default=600_000)
    parser.add_argument("--users", type=int, default=20_000)
    parser.add_argument("--only", nargs="*", default=["peers", "scaling", "flatness", "latency", "goodput", "http"])
    parser.add_argument("--seconds", type=int, default=20, help="of each latency, goodput and HTTP measurement")
    parser.add_argument("--items", type=int, default=latency.ITEMS, help="of the goodput measurement's model")
    arguments = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # or what was started would stay
    report: dict[str, object] = {}
    with tempfile.TemporaryDirectory() as folder:
        with LocalBroker(Path(folder), free_port()) as local:
            broker = local.address
            if "peers" in arguments.only:
                report |= _side_by_side(run_peers(broker, arguments.events, arguments.users, arguments.quix))
            if "scaling" in arguments.only:
                report["scaling"] = scaling(broker, arguments.events, arguments.users)
            if "flatness" in arguments.only:
                report["flatness"] = _flatness(broker, arguments.events)
        if "latency" in arguments.only:
            report["latency_ms"] = latency.run(arguments.seconds)
        if "goodput" in arguments.only:
            report["goodput"] = goodput.run(arguments.seconds, arguments.items)
        if "http" in arguments.only:
            report["http"] = http.run(arguments.seconds)
    _print(report)
    if arguments.report:
        arguments.report.write_text(json.dumps(report, indent=2) + "\n")


def _side_by_side(found: dict[str, dict[str, float]]) -> dict[str, object]:
    keys = dict.fromkeys(key for figures in found.values() for key in figures)
    return {key: {name: figures[key] for name, figures in found.items() if key in figures} for key in keys}


def _flatness(broker: str, events: int) -> dict[str, object]:
    users = {
        str(n): run_headrace(broker, f"u{n}.", events, n)["events_per_second"] for n in (10_000, 100_000, 1_000_000)
    }
    partitions = {
        str(n): run_headrace(broker, f"p{n}.", events, 20_000, partitions=n)["events_per_second"] for n in (4, 16, 64)
    }
    return {"users": users, "partitions": partitions}


def _print(report: Mapping[str, object]) -> None:
    table = Table("figure", "value")

    def add(name: str, value: object) -> None:
        if isinstance(value, dict):
            for key, inner in value.items():
                add(f"{name}.{key}", inner)
        else:
            table.add_row(name, f"{value:,}")

    for key, value in report.items():
        add(key, value)
    Console().print(table)


if __name__ == "__main__":
    main()
