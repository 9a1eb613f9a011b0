"""A.8: a task beside the streams that fails is told and counted, and goes on."""

import asyncio

import pytest
from prometheus_client import CollectorRegistry

from streams.agents import periodic as module
from streams.agents.periodic import periodic
from streams.errors import StartError
from streams.instruments import WorkerInstruments


class Rounds:
    """Fails in the first rounds; then the test is told."""

    def __init__(self, *failures: Exception) -> None:
        self._failures = list(failures)
        self.done = asyncio.Event()

    async def work(self) -> None:
        if self._failures:
            raise self._failures.pop(0)
        self.done.set()


async def test_a_round_that_fails_is_counted_and_the_next_one_comes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_RETRY_SECONDS", 0.001)
    registry, rounds = CollectorRegistry(), Rounds(FileNotFoundError("000123.sst"), ZeroDivisionError())
    task = asyncio.create_task(periodic("measure", 3600.0, rounds.work, WorkerInstruments(registry))())
    await asyncio.wait_for(rounds.done.wait(), 1.0)
    assert registry.get_sample_value("headrace_failed_tasks_total", {"task": "measure"}) == 2
    assert not task.done()
    task.cancel()


async def test_a_reason_to_stop_ends_the_worker() -> None:
    rounds = Rounds(StartError("the disk is full"))
    with pytest.raises(StartError):
        await asyncio.wait_for(periodic("review", 3600.0, rounds.work, WorkerInstruments(CollectorRegistry()))(), 1.0)
