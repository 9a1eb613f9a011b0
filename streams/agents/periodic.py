"""work -> done again and again: a round that fails is told and counted, and the next one comes.

Nothing that a worker does beside its streams is worth ending it. Only what Headrace itself calls a reason to stop does:
a lapsed lease, a full disk, another owner of the partition.
"""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final

import structlog

from streams.errors import HeadraceError
from streams.instruments import WorkerInstruments

_log = structlog.get_logger()
_RETRY_SECONDS: Final = 30.0
"""After a round that failed the next one comes as soon, where rounds are further apart."""

Work = Callable[[], Awaitable[None]]


def periodic(name: str, seconds: float, work: Work, instruments: WorkerInstruments) -> Work:
    """Return a task that does the work at once and then again and again.

    Args:
        name: what logs and metrics call it.
        seconds: between two rounds.
        work: one round.
        instruments: where failed rounds are counted.
    """

    async def run() -> None:
        while True:
            wait = seconds
            try:
                await work()
            except HeadraceError:
                raise
            except Exception as exc:  # noqa: BLE001 - whatever it is
                _log.warning("task_failed", task=name, reason=repr(exc))
                instruments.failed_tasks.labels(name).inc()
                wait = min(seconds, _RETRY_SECONDS)
            await asyncio.sleep(wait)

    run.__name__ = run.__qualname__ = name
    return run
