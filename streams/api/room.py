"""how many connections are open, and which of them gives way to a new one."""

import asyncio
import math
import time
from typing import Final, Protocol

import structlog

from streams.api.problems import ProblemError, problem_response

_log = structlog.get_logger()

PATIENCE_SECONDS: Final = 1.0
"""A head is left so much time even when a new connection needs its place."""
_TELL_SECONDS: Final = 30.0


class Connection(Protocol):
    """What the room knows of one."""

    transport: asyncio.Transport


class Room:
    """How many connections may be open. One that only waits for its client gives way to a new one."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._inside: set[Connection] = set()
        self._idle: dict[Connection, None] = {}
        self._in_head: dict[Connection, float] = {}
        self._tell_at = -math.inf

    def take(self, connection: Connection) -> bool:
        """Return whether one more may stay; where there is no room, the one that is idle for longest makes some."""
        if len(self._inside) >= self._most:
            waiting = next(iter(self._idle), None) or self._slowest()
            if waiting is None:
                self._tell()
                return False
            self.leave(waiting)
            waiting.transport.abort()
        self._inside.add(connection)
        return True

    def leave(self, connection: Connection) -> None:
        """Note a connection that is lost."""
        self._inside.discard(connection)
        self.at_work(connection)

    def is_flooded(self, open_now: int) -> bool:
        """Return whether so many are open that one more gets no answer."""
        return open_now > 2 * self._most

    def refusal(self) -> bytes:
        """Return the answer for a connection that is one too many."""
        detail = f"{self._most} are open; ask again, or raise HEADRACE_HTTP__MAX_CONNECTIONS"
        response = problem_response(
            ProblemError("too-many-connections", detail, {"Retry-After": "1", "Connection": "close"})
        )
        headers = b"".join(b"%b: %b\r\n" % header for header in response.raw_headers)
        return b"HTTP/1.1 503 Service Unavailable\r\n%b\r\n%b" % (headers, bytes(response.body))

    def idle(self, connection: Connection) -> None:
        """Note a connection that has nothing to do, or is being closed."""
        self.at_work(connection)
        if connection in self._inside:
            self._idle[connection] = None

    def in_head(self, connection: Connection) -> None:
        """Note a connection whose next request has not arrived whole."""
        self.at_work(connection)
        self._in_head[connection] = time.monotonic()

    def at_work(self, connection: Connection) -> None:
        """Note a connection that does not wait for its client."""
        self._idle.pop(connection, None)
        self._in_head.pop(connection, None)

    def _slowest(self) -> Connection | None:
        for connection, since in self._in_head.items():  # the first of them is there for longest
            return connection if time.monotonic() - since > PATIENCE_SECONDS else None
        return None

    def _tell(self) -> None:
        if (now := time.monotonic()) >= self._tell_at:
            self._tell_at = now + _TELL_SECONDS
            _log.warning("connections_refused", open=self._most, told_again_after_seconds=_TELL_SECONDS)
