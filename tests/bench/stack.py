"""The real parts for a benchmark, on free ports: Kafka, Triton with a seed model, worker, learner."""

import os
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import psutil
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.samples import Sample

from streams.local.local_broker import LocalBroker
from streams.local.local_triton import LocalTriton
from streams.local.processes import free_port
from streams.settings import Settings, load_settings
from streams.triton.model_repository import ModelRepository, write_seed_version

START_SECONDS = 60


class Stack:
    """What runs; roles are added and ended by name."""

    def __init__(self, folder: Path, broker: str, triton: str) -> None:
        self.port = free_port()
        self._environment = {
            "HEADRACE_BROKER": broker,
            "HEADRACE_DATA_DIR": str(folder),
            "HEADRACE_TRITON__URL": triton,
            "HEADRACE_TRITON__SERVE_UNTRAINED": "true",
            "HEADRACE_HTTP__PORT": str(self.port),
            "HEADRACE_LEARNER_METRICS_PORT": str(free_port()),
        }
        self._roles: dict[str, psutil.Popen] = {}

    def settings(self) -> Settings:
        """Return the settings that the roles run with."""
        for name, value in self._environment.items():
            os.environ[name] = value
        return load_settings()

    def start(
        self,
        role: str,
        extra: Mapping[str, str] | None = None,
        seconds: float = START_SECONDS,
        meanwhile: Callable[[], object] = lambda: None,
    ) -> None:
        """Start a role; a worker is waited for until it is ready, something done between two looks."""
        self._roles[role] = psutil.Popen(
            [sys.executable, "-m", "streams", role],
            env={**os.environ, **self._environment, **(extra or {})},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        deadline = time.monotonic() + seconds
        while role == "worker" and not self._ready():
            if time.monotonic() > deadline or self._roles[role].poll() is not None:
                raise SystemExit("the worker is not ready, or has ended")
            meanwhile()
            time.sleep(0.05)

    def stop(self, role: str) -> None:
        """End a role."""
        process = self._roles.pop(role)
        process.terminate()
        try:
            process.wait(15)
        except psutil.TimeoutExpired:
            process.kill()

    def cpu_seconds(self, role: str) -> float:
        """Return the CPU time of a role so far."""
        times = self._roles[role].cpu_times()
        return float(times.user + times.system)

    def rss_bytes(self, role: str) -> int:
        """Return the memory of a role."""
        return int(self._roles[role].memory_info().rss)

    def _ready(self) -> bool:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/readyz", timeout=1) as answer:
                return bool(answer.status == 200)
        except OSError:
            return False

    def close(self) -> None:
        """End every role."""
        for role in list(self._roles):
            self.stop(role)


def samples(port: int, name: str) -> list[Sample]:
    """Return what a worker's metrics have under a name.

    Raises:
        OSError: nothing answers.
    """
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=5) as answer:
        families = text_string_to_metric_families(answer.read().decode())
    return [sample for family in families for sample in family.samples if sample.name == name]


@contextmanager
def running(items: int) -> Iterator[Stack]:
    """Run Kafka, and Triton with a seed model of so many items."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        repository = ModelRepository(folder / "models")
        repository.write_config()
        write_seed_version(repository, "small", items + 1)
        with LocalBroker(folder / "kafka", free_port()) as broker:
            follow = {
                "consumer": {"bootstrap.servers": broker.address},
                "topic": "headrace.weights",
            }
            with LocalTriton(folder / "triton", repository, free_port(), backend=follow) as triton:
                stack = Stack(folder, broker.address, triton.address)
                try:
                    yield stack
                finally:
                    stack.close()
