"""A learner may die between any two steps of publishing: readers get whole generations, and numbers go on rising."""

import os
import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import pytest

from engine.weights import CHALLENGER, CHAMPION, Generation
from streams.local.local_broker import LocalBroker
from streams.settings import Settings
from streams.topics import ensure_topics
from tests.integration.test_learner import generations

pytestmark = [
    pytest.mark.integration,
    pytest.mark.slow,
    pytest.mark.timeout(900),
    pytest.mark.skipif("SLOW_TESTS" not in os.environ, reason="a process a step: SLOW_TESTS=1 runs it"),
]
STEPS = {"begin", "produce", "commit", "save", "number", "rename", "checkpoint", "remove"}


def test_a_learner_that_dies_before_any_step_leaves_whole_generations(broker: LocalBroker, tmp_path: Path) -> None:
    settings = Settings(broker=broker.address, prefix=f"{tmp_path.name}.", data_dir=tmp_path)
    ensure_topics(settings)
    environment = {
        **os.environ,
        "HEADRACE_BROKER": settings.broker,
        "HEADRACE_PREFIX": settings.prefix,
        "HEADRACE_DATA_DIR": str(tmp_path),
        "HEADRACE_LEARNER__PRESET": "tiny",
        "OMP_NUM_THREADS": "1",
    }
    command = [sys.executable, "-m", "tests.crash.publishing"]
    run = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=850, check=False)

    assert run.returncode == 0, run.stderr[-2000:]
    steps = [line for line in run.stdout.splitlines() if line in STEPS]
    assert set(steps) == STEPS, steps

    whole: list[Generation] = [*generations(settings, CHAMPION), *generations(settings, CHALLENGER)]
    for generation in whole:
        assert (generation.tables["item_vectors"][generation.rows_U > 0] == generation.generation).all()
    numbers = [generation.generation for generation in whole]
    assert len(set(numbers)) == len(numbers)
    assert all(a.generation < b.generation for a, b in pairwise(generations(settings, CHAMPION)))
