"""A frozen worker must not write: its partitions may belong to another by the time it wakes.

The loop renews the lease while it runs. A worker that was stopped (SIGSTOP, a paused machine) for longer than the lease
finds it lapsed before it can send anything, and ends; started again, it reads from its last commit. The lease and the
producer's timeout are both shorter than the group's session timeout, after which the partitions move.
"""

import asyncio
import time

from streams.errors import HeadraceError


class LeaseLapsedError(HeadraceError):
    """The worker did not run for longer than its lease."""


class Lease:
    """Renewed by `keep`, asked by everything that sends."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self._renewed = time.monotonic()

    async def keep(self) -> None:
        """Renew for ever; a coroutine of the worker's loop.

        Raises:
            LeaseLapsedError: the loop did not run in time.
        """
        while True:
            self._renewed = time.monotonic()
            await asyncio.sleep(self.seconds / 8)
            self.check()

    def check(self) -> None:
        """Make sure that the worker has been running.

        Raises:
            LeaseLapsedError: it has not.
        """
        frozen = time.monotonic() - self._renewed
        if frozen > self.seconds:
            raise LeaseLapsedError(
                f"The worker did not run for {frozen:.1f} s, its lease is {self.seconds:.1f} s: its partitions may "
                "have moved; it ends and is to be started again."
            )
