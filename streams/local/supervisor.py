"""Roles as child processes: started together, started again when they die, stopped together."""

import os
import signal
import sys
import time
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import structlog

from streams.errors import StartError
from streams.local.processes import Child

_log = structlog.get_logger()

_FIRST_PAUSE_SECONDS: Final = 0.5
_LONGEST_PAUSE_SECONDS: Final = 30.0
_STABLE_SECONDS: Final = 60.0
"""A role that lived so long begins again with the shortest pause."""
_GRACE_SECONDS: Final = 4.0
"""Two rounds of this are less than the 10 s in which everything must be down."""
_READY_EVERY_SECONDS: Final = 0.1
_WRONG_SETTING: Final = 2
"""The exit code that no restart can heal."""


@dataclass(frozen=True)
class Role:
    """What runs as a child process."""

    name: str
    """The command `headrace NAME`."""
    address: str
    """Where it listens, for people."""
    ready: Callable[[], bool]
    """Whether it does its work now."""
    arguments: tuple[str, ...] = ()
    outlives: bool = False
    """The others need it to the end: it is stopped after them."""


@dataclass
class _Running:
    role: Role
    child: Child
    started: float
    pause_seconds: float = _FIRST_PAUSE_SECONDS
    restart_at: float | None = None


@dataclass
class Supervisor:
    """Keeps roles running.

    Args:
        roles: what to run.
        environment: of every child.
        logs: folder for one log file a role.
    """

    roles: tuple[Role, ...]
    environment: Mapping[str, str]
    logs: Path
    restarts: int = 0
    _running: dict[str, _Running] = field(default_factory=dict)

    def start(self) -> None:
        """Start all roles at once; each waits for what it needs."""
        for role in self.roles:
            self._running[role.name] = _Running(role, self._spawn(role), time.monotonic())

    def check(self) -> None:
        """Start again what died, when its pause is over.

        Raises:
            StartError: a role ended because of a wrong setting.
        """
        now = time.monotonic()
        for running in self._running.values():
            if running.restart_at is not None:
                if now >= running.restart_at:
                    running.restart_at = None
                    running.started = now
                    running.child = self._spawn(running.role)
            elif not running.child.running:
                self._bury(running, now)

    def wait_until_ready(
        self, names: Iterable[str], seconds: float, tick: Callable[[], None] = lambda: None
    ) -> dict[str, float]:
        """Return how many seconds each role took to be ready, looking after all roles meanwhile.

        Args:
            names: of the roles to wait for.
            seconds: for all of them together.
            tick: called now and then; it may raise to give up.

        Raises:
            StartError: one was not ready in time.
        """
        began = time.monotonic()
        waiting = {name: self._running[name] for name in names}
        took: dict[str, float] = {}
        while waiting:
            self.check()
            tick()
            for name, running in list(waiting.items()):
                if running.child.running and running.role.ready():
                    took[name] = time.monotonic() - began
                    del waiting[name]
            if waiting and time.monotonic() - began > seconds:
                name, running = next(iter(waiting.items()))
                last, log_file = _last_line(running.child), running.child.log_file
                raise StartError(f"{name} was not ready after {seconds:g} s: {last} (in {log_file})")
            time.sleep(_READY_EVERY_SECONDS)
        return took

    def stop(self) -> None:
        """Stop everything: first the roles that need the others, together; nothing is left after two grace times."""
        for last in (False, True):
            children = [r.child for r in self._running.values() if r.role.outlives is last]
            if children:
                with ThreadPoolExecutor(len(children)) as pool:
                    list(pool.map(lambda child: child.stop(_GRACE_SECONDS), children))
        self._running.clear()

    def _spawn(self, role: Role) -> Child:
        # Not the script `headrace`: it may not be on the PATH of whoever called us.
        command = [sys.executable, "-m", "streams", role.name, *role.arguments]
        return Child(role.name, command, log_file=self.logs / f"{role.name}.log", environment=self.environment)

    def _bury(self, running: _Running, now: float) -> None:
        child, name = running.child, running.role.name
        code = child.exit_code
        reason = _last_line(child) if code is None or code >= 0 else f"killed by {signal.Signals(-code).name}"
        child.stop(0.0)  # what it started goes with it
        if code == _WRONG_SETTING:
            raise StartError(f"{name} cannot start: {reason}")
        if now - running.started > _STABLE_SECONDS:
            running.pause_seconds = _FIRST_PAUSE_SECONDS
        _log.warning("role_restarts", role=name, exit_code=code, reason=reason, in_seconds=running.pause_seconds)
        running.restart_at = now + running.pause_seconds
        running.pause_seconds = min(2 * running.pause_seconds, _LONGEST_PAUSE_SECONDS)
        self.restarts += 1


def child_environment(settings_by_variable: Mapping[str, str]) -> dict[str, str]:
    """Return the environment of a child: ours, with settings of its own."""
    return os.environ | dict(settings_by_variable)


def _last_line(child: Child) -> str:
    return next(reversed(child.output().strip().splitlines()), "it said nothing").removeprefix("headrace: ")
