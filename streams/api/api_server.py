"""uvicorn inside the worker's own event loop, on a port that is known once it listens."""

import asyncio
import math
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

import structlog
import uvicorn
from starlette.types import ASGIApp
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from streams.api.problems import ProblemError, problem_response
from streams.errors import StartError
from streams.settings import HttpSettings

_log = structlog.get_logger()

MAX_HEAD_BYTES: Final = 65_536
HEAD_SECONDS: Final = 10.0
"""A request whose line and headers are still not complete by then is refused."""
_BACKLOG: Final = 2048
_LINGER_SECONDS: Final = 0.5
"""A connection too many is closed so long after its answer: closed at once, its request unread, it would be reset."""
_TELL_SECONDS: Final = 30.0
_GRACE_SECONDS: Final = 2
"""Requests under way may finish for so long when the worker stops."""


class ApiServer:
    """Serves an API until it is stopped."""

    def __init__(self, app: ASGIApp, settings: HttpSettings) -> None:
        self._app = app
        self._settings = settings
        self.port = settings.port
        """The port in use once the server has started."""

    @property
    def address(self) -> str:
        """The URL under which this machine reaches the server."""
        scheme = "https" if self._settings.tls_certfile else "http"
        host = f"[{self._settings.host}]" if ":" in self._settings.host else self._settings.host
        return f"{scheme}://{host}:{self.port}"

    async def start(self) -> None:
        """Listen, and serve from now on.

        Raises:
            StartError: the port is taken, or the TLS files cannot be read.
        """
        config = _Config(
            self._app,
            self._settings.max_connections,
            http=_BoundedProtocol,
            ws="none",
            lifespan="on",
            log_config=None,
            access_log=False,
            server_header=False,
            proxy_headers=False,
            timeout_graceful_shutdown=_GRACE_SECONDS,
            ssl_certfile=self._settings.tls_certfile,
            ssl_keyfile=self._settings.tls_keyfile,
        )
        _load(config)
        listener = _listen(self._settings.host, self._settings.port)
        self.port = listener.getsockname()[1]
        self._server = _Server(config)
        self._serving = asyncio.create_task(self._server.serve([listener]))
        ready = asyncio.create_task(self._server.ready.wait())
        await asyncio.wait([ready, self._serving], return_when=asyncio.FIRST_COMPLETED)
        ready.cancel()
        if self._serving.done():
            self._serving.result()

    async def stop(self) -> None:
        """Take no more connections, let requests under way finish, and close."""
        self._server.should_exit = True
        await self._serving


class _Config(uvicorn.Config):
    def __init__(self, app: ASGIApp, max_connections: int, **others: Any) -> None:  # noqa: ANN401 - uvicorn's
        super().__init__(app, **others)
        self.max_connections = max_connections
        self.tell_at = -math.inf


class _Server(uvicorn.Server):
    """Leaves the signals to the worker."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.ready = asyncio.Event()

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self.ready.set()


class _BoundedProtocol(HttpToolsProtocol):
    """Refuses connections beyond a number, and a request line and headers that do not end: uvicorn takes all."""

    config: _Config
    _surplus = False
    _head_bytes = 0
    _in_head = True
    _deadline: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn's
        super().connection_made(transport)
        if len(self.connections) > self.config.max_connections:
            self._turn_away(transport)
        else:
            self._expect_head()

    def connection_lost(self, exc: Exception | None) -> None:
        self._end_head()
        super().connection_lost(exc)

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._expect_head()

    def on_headers_complete(self) -> None:
        self._end_head()
        super().on_headers_complete()

    def data_received(self, data: bytes) -> None:
        if self._surplus:
            return
        super().data_received(data)
        if self._in_head:
            self._head_bytes += len(data)
            if self._head_bytes > MAX_HEAD_BYTES:
                self._refuse("The request's head is too large.")

    def _turn_away(self, transport: asyncio.Transport) -> None:
        most, now = self.config.max_connections, time.monotonic()
        self._surplus = True
        if now >= self.config.tell_at:
            self.config.tell_at = now + _TELL_SECONDS
            _log.warning("connections_refused", open=most, told_again_after_seconds=_TELL_SECONDS)
        if len(self.connections) > 2 * most:  # a flood of them gets no answer
            transport.abort()
            return
        transport.write(_too_many(most))
        self.loop.call_later(_LINGER_SECONDS, transport.close)

    def _expect_head(self) -> None:
        self._head_bytes, self._in_head = 0, True
        if self._deadline is None:
            late = "The request's head did not arrive in time."
            self._deadline = self.loop.call_later(HEAD_SECONDS, self._refuse, late)

    def _end_head(self) -> None:
        self._in_head = False
        if self._deadline:
            self._deadline.cancel()
            self._deadline = None

    def _refuse(self, why: str) -> None:
        if not self.transport.is_closing():
            self.send_400_response(why)


def _too_many(most: int) -> bytes:
    detail = f"{most} are open; ask again, or raise HEADRACE_HTTP__MAX_CONNECTIONS"
    response = problem_response(
        ProblemError("too-many-connections", detail, {"Retry-After": "1", "Connection": "close"})
    )
    headers = b"".join(b"%b: %b\r\n" % header for header in response.raw_headers)
    return b"HTTP/1.1 503 Service Unavailable\r\n%b\r\n%b" % (headers, bytes(response.body))


def _listen(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
        listener.listen(_BACKLOG)
    except OSError as exc:
        listener.close()
        raise StartError(
            f"HTTP cannot listen on {host}:{port} ({exc.strerror}); stop what does, or set HEADRACE_HTTP__PORT."
        ) from exc
    listener.setblocking(False)
    return listener


def _load(config: uvicorn.Config) -> None:
    try:
        config.load()
    except OSError as exc:
        raise StartError(
            f"The TLS files cannot be used ({exc}); check HEADRACE_HTTP__TLS_CERTFILE and HEADRACE_HTTP__TLS_KEYFILE."
        ) from exc
