"""`python -m tests.crash.mutant NAME worker`: a worker with a known defect, which the suite must find.

The product has no switch for this: the defect is put into its classes here, before its own command line runs.
`lost_answer` is no defect of the worker but bad luck, which it must survive; the first defect is seen only with it.
"""

import asyncio
import itertools
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final

from faust.types import TP

from streams.agents import completion, pipeline
from streams.cli.main import main
from streams.kafka import transport
from streams.kafka.outputs import Delivery
from streams.records import Interaction
from streams.state import foreign_writes, user_states
from streams.state.batch_fold import Touched
from streams.state.fold import Fold, Folded
from streams.state.user_state import UserState

_UNLUCKY: Final = 20
"""Number of the batch whose answer never comes; after a restart there are fewer batches than that."""
_FREEZE_SECONDS: Final = 12
"""The session timeout, and time for the others to take over and to write."""


def lost_answer() -> None:
    """Let one batch wait for ever: it must stay uncommitted, so that it is read again after the next restart."""
    answer, turn = completion.Completion._answer, itertools.count(1)

    async def unlucky(self: Any, *args: Any) -> None:
        if next(turn) == _UNLUCKY:
            await asyncio.Event().wait()
        await answer(self, *args)

    _replace(completion.Completion, "_answer", unlucky)


def highest_offset() -> None:
    """Commit the highest finished offset, not the end of the finished run."""
    lost_answer()

    def new_offset(self: transport.Consumer, tp: TP) -> int | None:
        return max((message.offset + 1 for message in self._runs[tp] if message.acked), default=None)

    _replace(transport.Consumer, "_new_offset", new_offset)


def local_before_changelog() -> None:
    """Write the local store before the changelog, and be killed in between, once.

    The look at what others wrote is left out, because it would send again what recovery finds to be ahead.
    """
    send = pipeline.Pipeline._send_states
    marker = Path(os.environ["HEADRACE_DATA_DIR"]) / "killed"

    def store_and_send(self: Any, changed: Sequence[Touched], partition: int, *more: Any) -> Delivery:
        self._table.write(partition, [(touched.key, touched.value) for touched in changed], -1)
        if not marker.exists():
            marker.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return send(self, changed, partition, *more)

    async def unseen(_self: Any, _partition: int, last_offset: int, _count: int) -> int:
        return last_offset

    _replace(pipeline.Pipeline, "_send_states", store_and_send)
    _replace(foreign_writes.ForeignWrites, "check", unseen)


def no_source_offset() -> None:
    """Read states as if they did not say which offset they reflect."""
    decode: Callable[[bytes], UserState] = vars(user_states)["decode_state"]

    def forgetful(value: bytes) -> UserState:
        state = decode(value)
        state.offset = -1
        return state

    _replace(user_states, "decode_state", forgetful)


def zombie() -> None:
    """Freeze one worker after it looked at its lease and before it sends states; it wakes when others own its users.

    No defect, but the moment that a lease cannot guard: its states must be written over.
    """
    send, turn = pipeline.Pipeline._send_states, itertools.count(1)
    marker = Path(os.environ["HEADRACE_DATA_DIR"]) / "frozen"

    def send_late(self: Any, *args: Any) -> Delivery:
        if next(turn) == 10 * _UNLUCKY and not marker.exists():
            marker.touch()
            subprocess.Popen(["/bin/sh", "-c", f"sleep {_FREEZE_SECONDS}; kill -CONT {os.getpid()}"])
            os.kill(os.getpid(), signal.SIGSTOP)
        return send(self, *args)

    _replace(pipeline.Pipeline, "_send_states", send_late)


def poison() -> None:
    """Raise on every interaction with item `poison`, its user's state changed already; it must cost no other record."""
    add = Fold.add

    def defective(self: Fold, state: UserState, interaction: Interaction, offset: int, day: int) -> Folded:
        folded = add(self, state, interaction, offset, day)
        if interaction.item_id == "poison":
            raise ZeroDivisionError("planted")
        return folded

    _replace(Fold, "add", defective)


def _replace(where: object, name: str, what: object) -> None:
    setattr(where, name, what)


MUTANTS: Final = {
    mutate.__name__: mutate
    for mutate in (lost_answer, highest_offset, local_before_changelog, no_source_offset, zombie, poison)
}

if __name__ == "__main__":
    MUTANTS[sys.argv.pop(1)]()
    main()
