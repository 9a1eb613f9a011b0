"""answers of the model server -> whether it is asked: as much as it answers in time, and by probes while it is down.

An answer that is late says that too much was asked, not that the server is dead: those asked with it are not given up,
and its place is held until it comes, because the server works on it all the same. So what waits at the server stays
as short as the deadline allows, and what is more is answered by a lower rung at once.
"""

import time
from dataclasses import dataclass
from typing import Final

PROBE_SECONDS: Final = 0.2
"""A server that is down is asked once in so long, so that it costs hardly a list its deadline."""
_FAILURES: Final = 3
"""In a row, nobody answered in between: down. One may be about a request of its own."""
_SHARE: Final = 0.7
"""Of the deadline is what an answer is expected to take at most; the rest is for what differs between answers."""
_FIRST_GUESS: Final = 0.001
_WEIGHT: Final = 0.2
"""Of the newest answer in the guess of what a user costs."""


@dataclass(frozen=True)
class Ticket:
    """Leave to ask for some users."""

    users: int
    """0 when nothing may be asked."""
    ahead: int = 0
    """Users that the server has to answer by then, these among them."""
    began: float = 0.0
    refusal: str = ""
    """`down` or `busy`, of those users who may not be asked for."""


class Admission:
    """Decides for one model server, as one worker sees it."""

    def __init__(self) -> None:
        self._in_flight = 0
        self._failures = 0
        self._seconds_per_user = _FIRST_GUESS
        self._probe_at: float | None = None
        """When the server is asked next, None while it is up."""

    def admit(self, users: int, seconds: float) -> Ticket:
        """Return for how many of so many users the server is asked, that are to be answered in so many seconds."""
        now = time.monotonic()
        if self._probe_at is not None:
            if now < self._probe_at:
                return Ticket(0, refusal="down")
            self._probe_at = now + PROBE_SECONDS
        fitting = int(seconds * _SHARE / self._seconds_per_user) - self._in_flight
        admitted = min(users, max(fitting, 0 if self._in_flight else 1))
        self._in_flight += admitted
        return Ticket(admitted, self._in_flight, now, "busy")

    def answered(self, ticket: Ticket) -> None:
        """Learn from an answer, in time or late: the server is up."""
        self._in_flight -= ticket.users
        took = (time.monotonic() - ticket.began) / ticket.ahead
        self._seconds_per_user += _WEIGHT * (took - self._seconds_per_user)
        self._failures, self._probe_at = 0, None

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
