"""A process -> a worker: started once its topics are checked, run until SIGTERM or SIGINT, its end told in one line."""

import asyncio
import gc
import os
import signal
import sys
from collections.abc import Awaitable, Callable
from typing import Final

import faust
import structlog
import uvloop
from faust.exceptions import ConsistencyError

from streams.kafka.membership import take_folder
from streams.kafka.topic_guard import TopicGuard
from streams.kafka.topic_setup import check_topics, ensure_topics
from streams.logs import Lossy
from streams.settings import Settings
from streams.topics import BY_USER, SPECS
from streams.worker_app import create_app, folder_of

_log = structlog.get_logger()

_STOP_SECONDS: Final = 8.0
_GC_THRESHOLD: Final = (500_000, 20, 100)
"""Python's own (700, 10, 10) took 28 % of the time at full speed, walking states that have no cycles; with 100,000
it was still 14 %, because the users of a few batches alone are so many objects."""


def run_worker(settings: Settings) -> int:
    """Run a worker until SIGTERM or SIGINT; return its exit code.

    Raises:
        StartError: Kafka cannot be reached or its topics are not what Headrace needs.
    """
    states = ensure_topics(settings)
    check_topics(states)
    partitions = next(state.partitions for state, spec in zip(states, SPECS, strict=True) if spec.partitions == BY_USER)
    take_folder(folder_of(settings))
    guard = TopicGuard(settings, folder_of(settings))
    guard.check()
    gc.set_threshold(*_GC_THRESHOLD)
    gc.freeze()  # modules and settings, which live as long as the worker
    return uvloop.run(_run(settings, partitions, guard.watch))


async def _run(settings: Settings, partitions: int, *watches: Callable[[], Awaitable[None]]) -> int:
    loop = asyncio.get_running_loop()
    app = create_app(settings, partitions).app
    for watch in watches:
        app.task(watch)
    stopped = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopped.set)
    living = asyncio.create_task(_live(app))
    told = asyncio.create_task(stopped.wait())
    await asyncio.wait([living, told], return_when=asyncio.FIRST_COMPLETED)
    if reason := app.crash_reason:
        _log.error("worker_stopped", reason=_said(reason, settings))
        # Nothing may be sent or committed any more, so there is nothing to tidy up.
        Lossy(sys.stderr).flush()
        os._exit(1)
    if living.done():
        living.result()
    _, unfinished = await asyncio.wait([asyncio.create_task(app.stop())], timeout=_STOP_SECONDS)
    if unfinished:  # Kafka is gone, or the worker was still joining: what is not committed will be read again
        _log.warning("worker_cut_short", after_seconds=_STOP_SECONDS)
    # A loop that closes waits for every task, and a library's that swallows its cancellation never ends (seen: 30 s).
    Lossy(sys.stderr).flush()
    os._exit(0)


def _said(reason: BaseException, settings: Settings) -> str:
    """Return why the worker stopped, in Headrace's words where Faust has its own."""
    if isinstance(reason, ConsistencyError):
        return (
            f"The tables in {folder_of(settings)} are ahead of {settings.topics.changelog}: the brokers have lost its "
            "end, or it was made anew. Run `headrace reset --tables`, and they are made anew from it."
        )
    return str(reason)


async def _live(app: faust.App) -> None:
    await app.start()
    await app.wait_until_stopped()
