"""What can go wrong, done to a running deployment: each fault now, and what ends it at its time."""

import random
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Final

import psutil

from streams.settings import Settings
from tests.crash.data_faults import DataFaults
from tests.crash.feed import Feed
from tests.crash.roles import Deployment, Role

FREEZE_SECONDS: Final = (7.0, 10.0)
"""Past the session timeout of 6 s: the partitions have moved when the worker wakes."""
PAUSE_SECONDS: Final = (5.0, 20.0)
GONE_SECONDS: Final = 14.0
"""Others have taken over by then."""
_MOVE_DEADLINE_SECONDS: Final = 20.0


@dataclass
class Outage:
    """A worker gone without a word, and the partitions it had."""

    began: float
    """Epoch seconds."""
    kind: str
    partitions: list[int]


@dataclass
class Faults:
    """Faults by name; `inject` does one and says whether it applied.

    Args:
        deployment: what they are done to.
        rng: picks who and how long.
        settings: of the deployment.
        feed: what is sent to it.
    """

    deployment: Deployment
    rng: random.Random
    settings: Settings
    feed: Feed
    done: dict[str, int] = field(default_factory=dict)
    outages: list[Outage] = field(default_factory=list)
    broker_outages: list[tuple[float, float]] = field(default_factory=list)
    """Begin and end of what was done to the broker, epoch seconds."""
    moves: list[float] = field(default_factory=list)
    """When workers came or went, epoch seconds."""
    _later: list[tuple[float, Callable[[], bool]]] = field(default_factory=list)
    """When to begin trying, and what to try until it returns True."""

    def inject(self, name: str) -> bool:
        """Do the fault of that name, unless there is nothing to do it to now."""
        applied = bool(getattr(self if hasattr(self, name) else self._data, name)())
        if applied and name.startswith(("worker", "move")):
            self.moves.append(time.time())
        if applied:
            self.done[name] = self.done.get(name, 0) + 1
        return applied

    def tick(self) -> None:
        """End the faults whose time has come."""
        now = time.monotonic()
        due = [entry for entry in self._later if entry[0] <= now]
        self._later = [entry for entry in self._later if entry[0] > now]
        self._later += [entry for entry in due if not entry[1]()]

    def __post_init__(self) -> None:
        self._data = DataFaults(self.settings, self.feed, self.rng, self._after)

    @property
    def pending(self) -> bool:
        """Whether a fault has not ended yet."""
        return bool(self._later)

    def worker_kill(self) -> bool:
        """Kill -9 of a worker."""
        return self._lose(self._a_worker(), "kill")

    def worker_wipe(self) -> bool:
        """Kill -9 of a worker, whose disk goes with it."""
        worker = self._a_worker()
        lost = self._lose(worker, "wipe")
        if worker and lost:
            self.deployment.wipe(worker)
        return lost

    def worker_gone(self) -> bool:
        """Kill -9 of a worker that comes back only when others have long taken over."""
        worker = self._a_worker()
        if worker is None or sum(w.pid is not None for w in self.deployment.workers) < 2:
            return False
        self._lose(worker, "gone")
        worker.wanted = False

        def comes_back() -> bool:
            if worker.child is None:  # another fault may have started it meanwhile
                self.moves.append(time.time())
                worker.start()
            return True

        self._after(GONE_SECONDS, comes_back)
        return True

    def worker_term(self) -> bool:
        """SIGTERM of a worker, which comes back."""
        worker = self._a_worker()
        if worker:
            worker.send(signal.SIGTERM)
        return worker is not None

    def worker_freeze(self) -> bool:
        """SIGSTOP of a worker until others own its partitions; then it wakes and does not know."""
        worker = self._a_worker()
        if worker is None:
            return False
        self._note(worker, "freeze")
        worker.send(signal.SIGSTOP)
        worker.frozen = True
        self._after(self.rng.uniform(*FREEZE_SECONDS), lambda: self._wake(worker))
        return True

    def worker_join(self) -> bool:
        """Another worker joins, and stays."""
        idle = [worker for worker in self.deployment.workers if worker.child is None]
        if idle:
            idle[0].start()
        return bool(idle)

    def worker_leave(self) -> bool:
        """A worker leaves for good, but for the last one."""
        worker = self._a_worker()
        if worker is None or sum(w.wanted for w in self.deployment.workers) < 2:
            return False
        worker.wanted = False
        worker.send(signal.SIGTERM)
        return True

    def move_and_back(self) -> bool:
        """A worker joins, leaves as soon as it owns partitions, and they move back."""
        idle = [worker for worker in self.deployment.workers if worker.child is None]
        if not idle:
            return False
        guest, deadline = idle[0], time.monotonic() + _MOVE_DEADLINE_SECONDS
        guest.start()

        def leaves() -> bool:
            if not self.deployment.partitions_of(guest) and time.monotonic() < deadline:
                return False
            guest.wanted = False
            guest.send(signal.SIGTERM)
            return True

        self._after(0.0, leaves)
        return True

    def learner_kill(self) -> bool:
        """Kill -9 of the learner."""
        return self._signal(self.deployment.learner, signal.SIGKILL)

    def learner_term(self) -> bool:
        """SIGTERM of the learner, which comes back."""
        return self._signal(self.deployment.learner, signal.SIGTERM)

    def stub_kill(self) -> bool:
        """Kill -9 of the process in which the model runs."""
        return self._kill(self.deployment.triton, "triton_python_b")

    def triton_kill(self) -> bool:
        """Kill -9 of the Triton server."""
        return self._kill(self.deployment.triton, "tritonserver")

    def broker_kill(self) -> bool:
        """Kill -9 of Kafka; its role starts it again."""
        killed = self._kill(self.deployment.broker, "java")
        if killed:
            self.broker_outages.append((time.time(), time.time() + 5))
        return killed

    def broker_restart(self) -> bool:
        """SIGTERM of the broker role, which is started again."""
        if not self._signal(self.deployment.broker, signal.SIGTERM):
            return False
        self.broker_outages.append((time.time(), time.time() + 8))
        return True

    def broker_pause(self) -> bool:
        """SIGSTOP of Kafka."""
        kafka = self.deployment.broker and self.deployment.broker.descendant("java")
        if not kafka or kafka.status() == psutil.STATUS_STOPPED:
            return False
        seconds = self.rng.uniform(*PAUSE_SECONDS)
        kafka.suspend()
        self.broker_outages.append((time.time(), time.time() + seconds + 2))

        def resume() -> bool:
            with suppress(psutil.Error):
                kafka.resume()
            return True

        self._after(seconds, resume)
        return True

    def _lose(self, worker: Role | None, kind: str) -> bool:
        if worker is None:
            return False
        self._note(worker, kind)
        worker.send(signal.SIGKILL)
        return True

    def _note(self, worker: Role, kind: str) -> None:
        partitions = self.deployment.partitions_of(worker)
        self.outages.append(Outage(time.time(), kind, partitions))

    def _wake(self, worker: Role) -> bool:
        worker.send(signal.SIGCONT)
        worker.frozen = False
        return True

    def _after(self, seconds: float, action: Callable[[], bool]) -> None:
        self._later.append((time.monotonic() + seconds, action))

    def _a_worker(self) -> Role | None:
        """Any that runs, rather one that owns partitions."""
        running = [w for w in self.deployment.workers if w.pid and w.wanted and not w.frozen and w.asked_at is None]
        owners = [worker for worker in running if self.deployment.partitions_of(worker)]
        return self.rng.choice(owners or running) if running else None

    @staticmethod
    def _signal(role: Role | None, number: signal.Signals) -> bool:
        if role is None or role.pid is None or role.asked_at is not None:
            return False
        role.send(number)
        return True

    @staticmethod
    def _kill(role: Role | None, name: str) -> bool:
        process = role and role.descendant(name)
        if not process:
            return False
        process.kill()
        return True


WEIGHTS: Final = {
    "worker_kill": 6,
    "worker_gone": 2,
    "worker_wipe": 2,
    "worker_term": 3,
    "worker_freeze": 3,
    "worker_join": 2,
    "worker_leave": 1,
    "move_and_back": 2,
    "learner_kill": 3,
    "learner_term": 1,
    "stub_kill": 2,
    "triton_kill": 1,
    "broker_kill": 2,
    "broker_restart": 1,
    "broker_pause": 1,
    "hot_user": 1,
    "oversized_record": 1,
    "codec_change": 2,
    "aborted_transaction": 2,
    "open_transaction": 2,
    "full_disk": 1,
}
"""How often each is picked."""


def at_random(rng: random.Random) -> Iterator[str]:
    """Give names of faults for ever: first each once in any order, then by their weights."""
    first = list(WEIGHTS)
    rng.shuffle(first)
    yield from first
    while True:
        yield rng.choices(list(WEIGHTS), list(WEIGHTS.values()))[0]
