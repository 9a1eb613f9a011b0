"""A learner may die between any two steps of publishing: whole generations are served, and numbers go on rising."""

import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import tritonclient.grpc as triton

from engine.generations import Generation
from engine.weights import CHALLENGER, CHAMPION
from streams.kafka.topic_setup import ensure_topics
from streams.local.local_broker import LocalBroker
from streams.local.local_triton import LocalTriton
from streams.local.processes import free_port
from streams.settings import Settings
from streams.triton.model_repository import KEEP, MODEL, ModelRepository, write_seed_version
from streams.triton.scorer import inputs
from tests.crash.publishing import ROWS
from tests.integration.real_worker import until
from tests.integration.test_learner import generations

pytestmark = [pytest.mark.integration, pytest.mark.timeout(300)]
LOOK_SECONDS = 0.05
"""Half a generation of a dead learner would be there until the next one comes, more than a second later."""
HISTORY = np.array([1, 2], np.int32)
STEPS = {"begin", "produce", "commit", "save", "number", "rename", "checkpoint", "remove"}


@dataclass
class Served:
    """What Triton answered, asked again and again: both slots, all rows."""

    server: LocalTriton
    scores: dict[int, set[float]] = field(default_factory=dict)
    """By generation, of rows outside the history: all the same, and 1.7 more than those of the generation before."""
    failures: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._client = triton.InferenceServerClient(self.server.address)
        types, times, length = np.ones(2, np.uint8), np.arange(2), np.array([2], np.int32)
        self._request = inputs(HISTORY, types, times, length, ROWS - 1)

    def look(self) -> dict[str, int]:
        """Ask for both slots; return which generation answered each."""
        found = {}
        for slot in (CHAMPION, CHALLENGER):
            answer = self._client.infer(MODEL, self._request, parameters={"slot": slot}, client_timeout=5.0)
            found[slot] = generation = int(answer.as_numpy("generation").item())
            if generation:  # 0 is the version that the server began with
                others = ~np.isin(answer.as_numpy("item_rows"), HISTORY)
                self.scores.setdefault(generation, set()).update(answer.as_numpy("scores")[others].tolist())
        return found

    @contextmanager
    def watched(self) -> Iterator[None]:
        """Look all the while."""
        done = threading.Event()

        def watch() -> None:
            while not done.wait(LOOK_SECONDS):
                try:
                    self.server.healthy()  # loads a version that has appeared
                    self.look()
                except Exception as exc:  # noqa: BLE001 - looked at by the test
                    self.failures.append(str(exc))

        thread = threading.Thread(target=watch)
        thread.start()
        try:
            yield
        finally:
            done.set()
            thread.join()


def test_a_learner_that_dies_before_any_step_leaves_whole_generations(broker: LocalBroker, tmp_path: Path) -> None:
    settings = Settings(broker=broker.address, prefix=f"{tmp_path.name}.", data_dir=tmp_path)
    ensure_topics(settings)
    repository = ModelRepository(settings.models_dir)
    for _ in range(KEEP):  # so that one is removed with each that is written
        write_seed_version(repository, "tiny", ROWS)
    backend = {"consumer": {"bootstrap.servers": broker.address, "log_level": 2}, "topic": settings.topics.weights}
    with (
        dying_learners(settings) as die_before_each_step,
        LocalTriton(tmp_path / "triton", repository, free_port(), backend=backend) as server,
    ):
        served = Served(server)
        with served.watched():
            steps = die_before_each_step()
        champions = list(generations(settings, CHAMPION))
        until(lambda: served.look()[CHAMPION] == champions[-1].generation)

    assert set(steps) == STEPS, steps
    assert served.failures == []
    assert len(served.scores) > 5
    assert [scores for scores in served.scores.values() if max(scores) - min(scores) > 0.01] == []
    assert (np.diff(sorted(map(min, served.scores.values()))) > 1).all()

    whole: list[Generation] = [*champions, *generations(settings, CHALLENGER)]
    for generation in whole:
        vectors = generation.tables["item_vectors"]
        assert (vectors.values[vectors.rows_U > 0, 0] == generation.generation).all()
    numbers = [generation.generation for generation in whole]
    assert len(set(numbers)) == len(numbers)
    assert all(a.generation < b.generation for a, b in pairwise(champions))


@contextmanager
def dying_learners(settings: Settings) -> Iterator[Callable[[], list[str]]]:
    """Start what forks them, which takes its time; the call returns the steps before which one died."""
    environment = {
        **os.environ,
        "HEADRACE_BROKER": settings.broker,
        "HEADRACE_PREFIX": settings.prefix,
        "HEADRACE_DATA_DIR": str(settings.data_dir),
        "HEADRACE_LEARNER__PRESET": "tiny",
        "OMP_NUM_THREADS": "1",
    }
    command = [sys.executable, "-m", "tests.crash.publishing"]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    with subprocess.Popen(command, env=environment, text=True, **pipes) as process:

        def die_before_each_step() -> list[str]:
            said, complaints = process.communicate("go\n", timeout=250)
            assert process.returncode == 0, complaints[-2000:]
            return [line for line in said.splitlines() if line in STEPS]

        try:
            yield die_before_each_step
        finally:
            process.kill()
