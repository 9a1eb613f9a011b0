"""what a learner holds -> its checkpoint: copied between two batches, written by a thread while learning goes on."""

import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any, Final

import structlog

from engine.online.checkpoint import newest_checkpoint, write_checkpoint
from streams.errors import StartError
from streams.instruments import LearnerInstruments

log = structlog.get_logger()

_SHARE: Final = 1 / 20
"""Of the time at most: one of 50,000 items is 300 MB, and a second of a core that serving may need."""


class Checkpoints:
    """One file and the one before it.

    Args:
        path: of the file.
        seconds: between two of them at least.
        instruments: count the time to write one.
        confirm: is called before one is written; its exception comes out of `due`.
    """

    def __init__(
        self, path: Path, seconds: float, instruments: LearnerInstruments, confirm: Callable[[], None] = lambda: None
    ) -> None:
        self.path = path
        self._confirm = confirm
        self._seconds = seconds
        self._instruments = instruments
        self._writer = ThreadPoolExecutor(1, "checkpoint")
        self._written: Future[float] = Future()
        """When the next one is due, as soon as the one before is on disk."""
        self._written.set_result(time.monotonic() + seconds)

    def newest(self) -> dict[str, Any] | None:
        """Wait for what is being written, and return the newest that is whole.

        Raises:
            OSError: there was no room for the last one.
        """
        self.settle()
        state, problems = newest_checkpoint(self.path)
        for problem in problems:
            log.warning("checkpoint-refused", why=problem)
        return state

    def newest_or_stop(self) -> dict[str, Any]:
        """Return the newest that is whole.

        Raises:
            StartError: there is none to go back to.
        """
        state = self.newest()
        if state is None:
            raise StartError(
                f"Learning failed, and {self.path}, to go back to, cannot be read; move it away to begin anew."
            )
        return state

    def due(self) -> bool:
        """Whether the next one is to be written.

        Raises:
            OSError: there was no room for the last one.
        """
        return self._written.done() and time.monotonic() >= self._written.result()

    def write(self, state: dict[str, Any]) -> None:
        """Have a state written that does not change meanwhile."""
        self._written = self._writer.submit(self._write, state)

    def settle(self) -> float:
        """Wait until the last one is on disk; return when the next one is due.

        Raises:
            OSError: there is no room.
        """
        return self._written.result()

    def close(self) -> None:
        """Wait for a checkpoint that is being written."""
        self._writer.shutdown()

    def _write(self, state: dict[str, Any]) -> float:
        self._confirm()
        begun = time.monotonic()
        with self._instruments.step_seconds.labels("checkpoint").time():
            write_checkpoint(self.path, state)
        now = time.monotonic()
        return now + max(self._seconds, (now - begun) / _SHARE)
