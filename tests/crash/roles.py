"""The roles as processes, as a supervisor would run them: what ends is started again, unless it was asked to leave."""

import os
import shutil
import signal
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import httpx
import psutil

from streams.local.processes import Child, free_port

_RESTART_SECONDS: Final = 0.5
_HISTORY_LENGTH: Final = 128


@dataclass
class Role:
    """One process, through its restarts."""

    name: str
    command: list[str]
    environment: dict[str, str]
    log_file: Path
    wanted: bool = False
    frozen: bool = False
    starts: int = 0
    child: Child | None = None
    restart_at: float = 0.0
    asked_at: float | None = None
    """When it was sent SIGTERM."""
    stop_seconds: list[float] = field(default_factory=list)
    """How long each clean end took."""
    exit_codes: list[int] = field(default_factory=list)

    @property
    def pid(self) -> int | None:
        """Of the process, None when it does not run."""
        return self.child.pid if self.child and self.child.running else None

    def start(self) -> None:
        """Start it, and keep it running from now on."""
        self.wanted, self.frozen, self.asked_at = True, False, None
        self.starts += 1
        self.child = Child(self.name, self.command, log_file=self.log_file, environment=self.environment)

    def send(self, number: signal.Signals) -> None:
        """Send a signal, if it runs."""
        if self.pid is not None:
            if number is signal.SIGTERM:
                self.asked_at = time.monotonic()
            with suppress(ProcessLookupError):
                os.kill(self.pid, number)

    def keep(self) -> None:
        """Start it again if it ended."""
        if self.child is None:
            return
        if not self.child.running:
            self._bury()
        elif self.asked_at is not None and time.monotonic() - self.asked_at > 30:
            self.stop_seconds.append(30.0)
            self.asked_at = None
            self.send(signal.SIGABRT)

    def _bury(self) -> None:
        assert self.child
        if self.restart_at == 0.0:
            self.exit_codes.append(self.child.exit_code or 0)
            if self.asked_at is not None:
                self.stop_seconds.append(time.monotonic() - self.asked_at)
            self.child.stop(0.0)
            self.restart_at = time.monotonic() + _RESTART_SECONDS
        elif not self.wanted:
            self.child, self.restart_at = None, 0.0
        elif time.monotonic() >= self.restart_at:
            self.restart_at = 0.0
            self.start()

    def descendant(self, name: str) -> psutil.Process | None:
        """Return the process of that name which the role has started."""
        if self.pid is None:
            return None
        with suppress(psutil.Error):
            for process in psutil.Process(self.pid).children(recursive=True):
                if process.name().startswith(name):
                    return process
        return None


class Deployment:
    """A Kafka, a Triton, a learner and up to three workers.

    Args:
        folder: for the data and logs of all of them.
        broker: host:port of a Kafka that runs already; None starts one of our own.
        prefix: of the topics.
        model: also run Triton and a learner.
        mutant: name of a defect for the workers, see tests.crash.mutant.
        settings: further HEADRACE_* variables.
    """

    def __init__(
        self,
        folder: Path,
        *,
        broker: str | None = None,
        prefix: str = "headrace.",
        model: bool = True,
        mutant: str | None = None,
        settings: Mapping[str, str] | None = None,
    ) -> None:
        self.folder = folder
        self.environment = os.environ | {
            "HEADRACE_BROKER": broker or f"127.0.0.1:{free_port()}",
            "HEADRACE_PREFIX": prefix,
            "HEADRACE_DATA_DIR": str(folder),
            "HEADRACE_TRITON__URL": f"127.0.0.1:{free_port()}",
            "HEADRACE_TRITON__METRICS_PORT": str(free_port()),
            "HEADRACE_STATE__HISTORY_LENGTH": str(_HISTORY_LENGTH),
            "HEADRACE_LOG__FORMAT": "json",
            "HEADRACE_LEARNER__PRESET": "tiny",
            "HEADRACE_LEARNER__CHECKPOINT_SECONDS": "2",
            "HEADRACE_LEARNER__VERSION_SECONDS": "60",
            "HEADRACE_LEARNER_METRICS_PORT": "0",
            "HEADRACE_KAFKA__ON_NEW_TOPICS": "anew",
            "OMP_NUM_THREADS": "1",
            "PYTHONFAULTHANDLER": "1",  # what has to be aborted tells where it hung
            **(settings or {}),
        }
        self.broker = None if broker else self._role("broker", ["streams", "broker"])
        self.triton = self._role("triton", ["streams", "triton"]) if model else None
        self.learner = self._role("learner", ["streams", "learner"]) if model else None
        module = ["tests.crash.mutant", mutant] if mutant else ["streams"]
        self.workers = [self._worker(number, [*module, "worker"]) for number in (1, 2, 3)]

    @property
    def roles(self) -> list[Role]:
        """All of them; what the others need first."""
        return [role for role in (self.broker, self.triton, self.learner) if role] + self.workers

    def start(self, workers: int) -> None:
        """Start all at once, so many workers."""
        for role in self.roles[: len(self.roles) - len(self.workers) + workers]:
            role.start()

    def keep(self) -> None:
        """Start again what has ended."""
        for role in self.roles:
            role.keep()

    def stop(self) -> None:
        """End everything, last what the others need."""
        for role in reversed(self.roles):
            role.wanted = False
            if role.child:
                if role.frozen:
                    role.send(signal.SIGCONT)
                role.child.stop()
                role.child = None

    def partitions_of(self, worker: Role) -> list[int]:
        """Return which partitions a worker owns; none when it does not answer."""
        with suppress(httpx.HTTPError, ValueError, KeyError):
            return list(httpx.get(f"{self.api(worker)}/healthz", timeout=0.3, trust_env=False).json()["partitions"])
        return []

    def ready(self, worker: Role) -> bool:
        """Whether a worker has its partitions and their state."""
        with suppress(httpx.HTTPError):
            return httpx.get(f"{self.api(worker)}/readyz", timeout=0.5, trust_env=False).is_success
        return False

    def api(self, worker: Role) -> str:
        """Return the URL of a worker's API."""
        return f"http://127.0.0.1:{worker.environment['HEADRACE_HTTP__PORT']}"

    def wipe(self, worker: Role) -> None:
        """Take a dead worker's disk."""
        shutil.rmtree(self.folder / worker.name, ignore_errors=True)

    def _worker(self, number: int, command: Sequence[str]) -> Role:
        name = f"worker-{number}"
        more = {"HEADRACE_WORKER_ID": name, "HEADRACE_HTTP__PORT": str(free_port())}
        return self._role(name, command, more)

    def _role(self, name: str, command: Sequence[str], more: Mapping[str, str] | None = None) -> Role:
        return Role(
            name, [sys.executable, "-m", *command], self.environment | dict(more or {}),
            self.folder / "logs" / f"{name}.log",
        )  # fmt: skip
