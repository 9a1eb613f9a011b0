"""A learner that dies before a step of publishing: `python -m tests.crash.publishing [STRIDE]` prints each such step.

It begins when it is given a line. Each step is tried by a process of its own, forked before anything has threads: it
goes on from what the one before left, publishes, writes versions, decides, leaves a checkpoint, and dies before its
n-th step. All item vectors of a generation are alike and begin with its number, so that a mixture shows.
"""

import os
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch._dynamo  # the optimiser would import it in every child: 2 to 7 s
from prometheus_client import CollectorRegistry

from engine.weights import load
from streams.instruments import LearnerInstruments
from streams.learning import checkpoints
from streams.learning.role import LearnerRole
from streams.settings import Settings, load_settings
from streams.triton import model_repository
from streams.triton.model_repository import KEEP, ModelRepository

ROWS = 400
KILLED = 9


class Faults:
    """Counts the steps and ends the process before one of them."""

    def __init__(self, fatal: int) -> None:
        self._fatal = fatal
        self._step = 0

    def before(self, name: str, action: Callable[..., Any]) -> Callable[..., Any]:
        """Return the action as a step."""

        def step(*args: Any, **kwargs: Any) -> Any:
            self._step += 1
            if self._step == self._fatal:
                print(name, flush=True)  # noqa: T201 - what the test reads
                os._exit(KILLED)
            return action(*args, **kwargs)

        return step

    def plant(self, role: LearnerRole) -> None:
        """Make steps of all that publishing does to Kafka and to the disk."""
        role._releases._publisher._producer = _Producer(role._releases._publisher._producer, self)  # type: ignore[assignment]
        model_repository.save = self.before("save", model_repository.save)
        os.replace = self.before("number", os.replace)
        shutil.rmtree = self.before("remove", shutil.rmtree)  # type: ignore[assignment]
        Path.rename = self.before("rename", Path.rename)  # type: ignore[method-assign]
        checkpoints.write_checkpoint = self.before("checkpoint", checkpoints.write_checkpoint)


class _Producer:
    """A producer whose calls are steps; of the records of a transaction the first two and the last are."""

    def __init__(self, real: Any, faults: Faults) -> None:
        self._real = real
        self._produced = 0
        self.begin_transaction = faults.before("begin", real.begin_transaction)
        self.commit_transaction = faults.before("commit", real.commit_transaction)
        self._produce = faults.before("produce", real.produce)

    def produce(self, topic: str, value: bytes | None, key: str, partition: int) -> None:
        self._produced += 1
        wanted = self._produced <= 2 or key.endswith("/end")
        (self._produce if wanted else self._real.produce)(topic, value, key, partition)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._real, name)


def publish(settings: Settings, fatal: int) -> None:
    """Do all that a learner does with what it learned, up to the fatal step."""
    role = LearnerRole(settings, LearnerInstruments(CollectorRegistry()))
    learner, releases = role._learner, role._releases
    learner.grow(ROWS)
    _fill(role)
    Faults(fatal).plant(role)
    releases.begin()
    releases.publish({})
    _fill(role)
    learner._touched.add(np.arange(ROWS), ["item_vectors"])  # what was touched goes out, not all
    releases.publish({})
    for action in ("canary", "promote"):
        releases.decide(learner.gate.decide(action))  # type: ignore[arg-type]
        _fill(role)
        releases.publish({})
    role._checkpoint()
    role._checkpoints.settle()


def _fill(role: LearnerRole) -> None:
    role._learner.model.item_table.zero_()[:, 0] = role._releases.generation + 1


def check_versions(settings: Settings) -> None:
    """Every version that a learner wrote is whole, and of one generation; the first ones were there before."""
    repository = ModelRepository(settings.models_dir)
    for version in [number for number in repository.versions() if number > KEEP]:
        vectors = load(repository.file(version)).tables["item_vectors"][1:]
        assert (vectors == vectors[0]).all(), version


def main() -> int:
    """Die before each step in turn, or each STRIDE-th, until a run comes to its end."""
    settings, stride = load_settings(), int(sys.argv[1]) if len(sys.argv) > 1 else 1
    torch.set_num_threads(1)
    sys.stdin.readline()  # all is imported; somebody may have to be there first
    for fatal in range(1, 200, stride):
        pid = os.fork()
        if pid == 0:
            publish(settings, fatal)
            os._exit(0)
        _, status = os.waitpid(pid, 0)
        code = os.waitstatus_to_exitcode(status)
        check_versions(settings)
        if code != KILLED:
            return code
    return 1


if __name__ == "__main__":
    sys.exit(main())
