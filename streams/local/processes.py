"""Child processes that cannot outlive their parent: each leads its own group and ends with all that it started."""

import os
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from types import FrameType
from typing import Protocol

import structlog

from streams.errors import StartError

log = structlog.get_logger()

POLL_SECONDS = 0.02
GRACE_SECONDS = 3.0  # a role that holds such a child is itself given 4 before it is killed

# The leader's shell leaves a guard in the group and becomes the command. The guard waits on a pipe that only the parent
# holds open: when the parent is gone, by kill -9 too, it ends the group. It also keeps the group's number from being
# given to strangers before stop() has killed what is left. PR_SET_PDEATHSIG would not do: it fires when the *thread*
# that started the child ends, and is not inherited by what the child starts.
_GUARD = """
exec 3<&0
(
  trap '' TERM INT HUP
  read -r _ <&3
  kill -TERM -$$
  i=0; while [ $i -lt 40 ] && kill -0 $$; do i=$((i+1)); sleep 0.1; done
  kill -KILL -$$
) >/dev/null 2>&1 &
exec "$@" 3<&- </dev/null
"""


def free_port(host: str = "127.0.0.1") -> int:
    """Return a port that nothing listens on at this moment."""
    with closing(socket.socket()) as probe:
        probe.bind((host, 0))
        return int(probe.getsockname()[1])


def is_listening(host: str, port: int) -> bool:
    """Whether somebody accepts connections there."""
    with suppress(OSError), closing(socket.create_connection((host, port), timeout=1)):
        return True
    return False


class Child:
    """A running command, its process group and its log.

    Args:
        name: what messages call it.
        command: program and arguments.
        log_file: where its output goes, appended.
        environment: the whole environment; None is the parent's.
        folder: working directory; None is the parent's.
    """

    def __init__(
        self,
        name: str,
        command: Sequence[str],
        *,
        log_file: Path,
        environment: Mapping[str, str] | None = None,
        folder: Path | None = None,
    ) -> None:
        self.name = name
        self.log_file = log_file
        log_file.parent.mkdir(parents=True, exist_ok=True)
        read_end, self._lifeline = os.pipe()  # not inherited by other children
        try:
            with log_file.open("ab") as output:
                self._log_start = output.tell()
                self._process = subprocess.Popen(  # noqa: S603 - commands are the project's own
                    ["/bin/sh", "-c", _GUARD, "sh", *command],
                    stdin=read_end,
                    stdout=output,
                    stderr=subprocess.STDOUT,
                    env=environment,
                    cwd=folder,
                    start_new_session=True,
                )
        finally:
            os.close(read_end)

    @property
    def pid(self) -> int:
        """Of the command, and of its process group."""
        return self._process.pid

    @property
    def exit_code(self) -> int | None:
        """None while it runs."""
        return self._process.poll()

    @property
    def running(self) -> bool:
        """Whether the command itself is alive."""
        return self.exit_code is None

    def output(self) -> str:
        """Return what it has written since it was started."""
        with self.log_file.open("rb") as file:
            file.seek(self._log_start)
            return file.read().decode(errors="replace")

    def wait_until(self, ready: Callable[[], bool], seconds: float) -> None:
        """Return once `ready` says so.

        Raises:
            StartError: the command ended first, or the deadline passed; it is stopped then.
        """
        deadline = time.monotonic() + seconds
        while not ready():
            if not self.running:
                reason = f"ended with exit code {self.exit_code}"
            elif time.monotonic() > deadline:
                reason = f"was not ready after {seconds:g} s"
            else:
                time.sleep(POLL_SECONDS)
                continue
            self.stop()
            last = next(reversed(self.output().strip().splitlines()), "no output")
            raise StartError(f"{self.name} {reason}: {last.strip()} (more in {self.log_file}).")

    def stop(self, grace_seconds: float = GRACE_SECONDS) -> None:
        """End it with everything it started: SIGTERM, then SIGKILL for what is left after the grace time."""
        if self._lifeline < 0:
            return
        self._process.terminate()
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(grace_seconds)
        with suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGKILL)
        self._process.wait()
        os.close(self._lifeline)
        self._lifeline = -1


def blot_out(pid: int, secret: str) -> None:
    """Overwrite a secret in a child's arguments, which everybody on the machine may read in `ps`; of our own user only.

    Its arguments are a place in its memory (proc(5): arg_start and arg_end are the 48th and 49th field of stat).
    """
    try:
        fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
        start, end = int(fields[45]), int(fields[46])
        with Path(f"/proc/{pid}/mem").open("r+b", buffering=0) as memory:
            memory.seek(start)
            if (at := memory.read(end - start).find(secret.encode())) >= 0:
                memory.seek(start + at)
                memory.write(b"*" * len(secret.encode()))
    except OSError as exc:  # a kernel that lets no process write into its child's memory
        log.warning("secret-visible", process=pid, why=f"its arguments cannot be overwritten ({exc.strerror})")


class Server(Protocol):
    """What keep_running looks after."""

    name: str

    def start(self) -> None:
        """Return when it is ready; StartError when it cannot be."""

    def stop(self, grace_seconds: float = GRACE_SECONDS) -> None:
        """Leave nothing behind; harmless when it does not run."""

    def healthy(self) -> bool:
        """Whether it does its work now."""


def keep_running(server: Server, stop: threading.Event, check_seconds: float = 0.5) -> None:
    """Start it, restart it whenever it is unhealthy, stop it when asked to.

    Raises:
        StartError: it did not come up, or not again.
    """
    try:
        server.start()
        log.info("server-ready", server=server.name)
        while not stop.wait(check_seconds):
            if not server.healthy():
                log.warning("server-restarted", server=server.name)
                server.stop(grace_seconds=0.2)  # what does not work does not end in good order either
                server.start()
    finally:
        server.stop()


@contextmanager
def stop_signals() -> Iterator[threading.Event]:
    """Give an event that SIGTERM and SIGINT set, for as long as the block runs (main thread only)."""
    stop = threading.Event()

    def request(_signal: int, _frame: FrameType | None) -> None:
        stop.set()

    before = {number: signal.signal(number, request) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
