"""uvicorn inside the worker's own event loop, on a port that is known once it listens."""

import asyncio
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Final

import uvicorn
from starlette.types import ASGIApp

from streams.api.connections import HEAD_SECONDS, BoundedConfig, BoundedProtocol
from streams.errors import StartError
from streams.settings import HttpSettings

_BACKLOG: Final = 2048
_GRACE_SECONDS: Final = 2
"""Requests under way may finish for so long when the worker stops."""


class ApiServer:
    """Serves an API until it is stopped."""

    def __init__(self, app: ASGIApp, settings: HttpSettings) -> None:
        self._app = app
        self._settings = settings
        self.port = settings.port
        """The port in use once it is bound."""
        self._listener: socket.socket | None = None

    @property
    def address(self) -> str:
        """The URL under which this machine reaches the server."""
        scheme = "https" if self._settings.tls_certfile else "http"
        return f"{scheme}://{self._settings.model_copy(update={'port': self.port}).local_address}"

    @property
    def reachable(self) -> str:
        """host:port under which other workers reach the server."""
        return self._settings.advertised or self._settings.model_copy(update={"port": self.port}).local_address

    @property
    def connections(self) -> int:
        """How many are open."""
        return len(self._server.server_state.connections)

    def bind(self) -> None:
        """Take the port, so that one that is taken is told before anything slow.

        Raises:
            StartError: it is taken.
        """
        self._listener = _bound(self._settings.host, self._settings.port)
        self.port = self._listener.getsockname()[1]

    async def start(self) -> None:
        """Listen, and serve from now on.

        Raises:
            StartError: the port is taken, or the TLS files cannot be read.
        """
        config = BoundedConfig(
            self._app,
            self._settings.max_connections,
            timeout_keep_alive=self._settings.keep_alive_seconds,
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
        if self._listener is None:
            self.bind()
        assert self._listener
        _listen(self._listener)
        self._server = _Server(config)
        self._serving = asyncio.create_task(self._server.serve([self._listener]))
        ready = asyncio.create_task(self._server.ready.wait())
        await asyncio.wait([ready, self._serving], return_when=asyncio.FIRST_COMPLETED)
        ready.cancel()
        if self._serving.done():
            self._serving.result()

    async def stop(self) -> None:
        """Take no more connections, let requests under way finish, and close."""
        self._server.should_exit = True
        await self._serving


class _Server(uvicorn.Server):
    """Leaves the signals to the worker, and gives a TLS handshake no more time than a request's head."""

    def __init__(self, config: BoundedConfig) -> None:
        super().__init__(config)
        self.ready = asyncio.Event()

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await self.lifespan.startup()
        connection = partial(BoundedProtocol, self.config, self.server_state, self.lifespan.state)
        tls = self.config.ssl
        serve = partial(
            asyncio.get_running_loop().create_server,
            connection, ssl=tls, ssl_handshake_timeout=HEAD_SECONDS if tls else None, backlog=_BACKLOG,
        )  # fmt: skip
        self.servers = [await serve(sock=listener) for listener in sockets or ()]
        self.started = True
        self.ready.set()


def _bound(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    with _told(host, port, listener):
        listener.bind((host, port))
    return listener


def _listen(listener: socket.socket) -> None:
    host, port = listener.getsockname()[:2]
    with _told(host, port, listener):  # of two that are bound, one may listen
        listener.listen(_BACKLOG)
    listener.setblocking(False)


@contextmanager
def _told(host: str, port: int, listener: socket.socket) -> Iterator[None]:
    try:
        yield
    except OSError as exc:
        listener.close()
        raise StartError(
            f"HTTP cannot listen on {host}:{port} ({exc.strerror}); stop what does, or set HEADRACE_HTTP__PORT."
        ) from exc


def _load(config: uvicorn.Config) -> None:
    try:
        config.load()
    except OSError as exc:
        raise StartError(
            f"The TLS files cannot be used ({exc}); check HEADRACE_HTTP__TLS_CERTFILE and HEADRACE_HTTP__TLS_KEYFILE."
        ) from exc
