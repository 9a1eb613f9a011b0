"""answers of the model server -> whether it is asked: as much as it answers in time, and by probes while it is down.

An answer that is late says that too much was asked, not that the server is dead: those asked with it are not given up,
and its place is held until it comes, because the server works on it all the same. So what waits at the server stays
as short as the deadline allows, and what is more is answered by a lower rung at once.
"""

import time
from dataclasses import dataclass
from math import inf
from typing import Final

PROBE_SECONDS: Final = 0.2
"""A server that is down is asked once in so long, so that it costs hardly a list its deadline."""
_FAILURES: Final = 3
"""In a row, nobody answered in between: down. One may be about a request of its own."""
_SHARE: Final = 0.7
"""Of the deadline: an answer that takes longer says that too many were asked for. What is left is for chance."""
_SHRINK: Final = 0.8
_FIRST_LIMIT: Final = 64.0
"""After the first late answer; nothing is refused before. More, when more were in flight."""


@dataclass(frozen=True)
class Ticket:
    """Leave to ask for some users."""

    users: int
    """0 when nothing may be asked."""
    in_flight: int = 0
    """Users that the server has to answer by then, these among them."""
    began: float = 0.0
    due: float = 0.0
    refusal: str = ""
    """`down` or `busy`, of those users who may not be asked for."""


class Admission:
    """Decides for one model server, as one worker sees it.

    The users in flight have a limit, which is found as TCP finds its window (Jacobson 1988, additive increase and
    multiplicative decrease): one more as long as answers are in time, a fifth less when one is not, and half of what
    nobody has needed.
    """

    def __init__(self) -> None:
        self._limit = inf
        self._in_flight = 0
        self._failures = 0
        self._shrunk = 0.0
        """When the limit was lowered: what was asked before says nothing of the new one."""
        self._probe_at: float | None = None
        """When the server is asked next, None while it is up."""

    def admit(self, users: int, seconds: float) -> Ticket:
        """Return for how many of so many users the server is asked, that are to be answered in so many seconds."""
        now = time.monotonic()
        if self._probe_at is not None:
            if now < self._probe_at:
                return Ticket(0, refusal="down")
            self._probe_at = now + PROBE_SECONDS
        admitted = max(0, int(min(users, self._limit - self._in_flight)))
        self._in_flight += admitted
        return Ticket(admitted, self._in_flight, now, now + seconds * _SHARE, "busy")

    def late(self, ticket: Ticket) -> None:
        """Learn that there is no answer yet, and nobody to wait for it any more; its place is held until it comes."""
        if ticket.began >= self._shrunk:
            limit = min(self._limit, max(_FIRST_LIMIT, 2.0 * ticket.in_flight))
            share = _SHRINK if 2 * ticket.in_flight > limit else 0.5
            self._limit, self._shrunk = max(1.0, limit * share), time.monotonic()

    def answered(self, ticket: Ticket) -> None:
        """Learn from an answer, in time or late: the server is up."""
        self._in_flight -= ticket.users
        self._failures, self._probe_at = 0, None
        if time.monotonic() > ticket.due:
            self.late(ticket)
        elif 2 * ticket.in_flight > self._limit:  # else it says nothing of what the limit allows
            self._limit += ticket.users / self._limit

    def failed(self, ticket: Ticket, *, gone: bool) -> None:
        """Learn from a failure.

        Args:
            ticket: of what was asked.
            gone: nothing is there that could answer anybody; else perhaps only this was not answered.
        """
        self._in_flight -= ticket.users
        self._failures += 1
        if gone or self._failures >= _FAILURES:
            self._probe_at = time.monotonic() + PROBE_SECONDS
