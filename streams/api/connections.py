"""a connection -> served within bounds: how many there are, and how long each may let the worker wait.

uvicorn takes every connection, and keeps one for ever that begins a request and does not end it. Here a connection
waits for its client in one of four ways, each with its end: for a request's head, between two requests, for an answer
to be read, and, once it is being closed, for what the client still sends. Nothing else of a client is waited for: an
answer that is given before its request is complete closes the connection.
"""

import asyncio
from typing import Any, Final

import uvicorn
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from streams.api.room import Room

MAX_HEAD_BYTES: Final = 65_536
HEAD_SECONDS: Final = 10.0
"""A request whose line and headers are still not complete by then is refused."""
MAX_AHEAD: Final = 100
"""Requests that a client may send before the first of them is answered; each is held in memory."""
WRITE_SECONDS: Final = 30.0
"""A client that reads so little that an answer waits this long is given up."""
LINGER_SECONDS: Final = 1.0
"""A connection is closed so long after an answer to a request that was not read: at once, the answer would be lost."""
_CLOSE: Final = (b"connection", b"close")


class BoundedConfig(uvicorn.Config):
    """uvicorn's, and the room that all its connections share."""

    def __init__(self, app: ASGIApp, max_connections: int, **others: Any) -> None:  # noqa: ANN401 - uvicorn's
        super().__init__(app, http=BoundedProtocol, **others)
        self.room = Room(max_connections)


class BoundedProtocol(HttpToolsProtocol):
    """A connection of a client."""

    config: BoundedConfig

    def __init__(self, *args: Any, **named: Any) -> None:  # noqa: ANN401 - uvicorn's
        super().__init__(*args, **named)
        self._api, self.app = self.app, self._answer
        self._head_bytes = 0
        self._in_head = False
        self._begun = 0
        self._refused = False
        self._answered = 0
        """Requests given to the API; above those that have begun, below those that arrived whole."""
        self._read = 0
        self._head_timer: asyncio.TimerHandle | None = None
        self._write_timer: asyncio.TimerHandle | None = None

    @property
    def unread(self) -> bool:
        """Whether the client may still be sending a request that nobody will read."""
        return self._refused or self._begun > self._read

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn's
        """Begin, if there is room."""
        super().connection_made(_LateClosing(transport, self))  # type: ignore[arg-type]  # it has what is called
        if self.config.room.take(self):
            self._expect_head()
        elif self.config.room.is_flooded(len(self.connections)):
            transport.abort()
        else:
            self._refused = True
            self.transport.write(self.config.room.refusal())
            self.transport.close()

    def connection_lost(self, exc: Exception | None) -> None:
        """End."""
        self._end_head()
        self._end_write()
        self.config.room.leave(self)
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Read on; what comes after the last answer is dropped."""
        if self.transport.is_closing():
            return
        if not self._in_head and self._is_between():
            self._expect_head()  # line breaks before a request, which begin none
        read = self._read
        super().data_received(data)
        if self._in_head and self._read == read:  # else bytes of the request before are among them
            self._head_bytes += len(data)
            if self._head_bytes > MAX_HEAD_BYTES:
                self._refuse("The request's head is too large.")

    def on_message_begin(self) -> None:
        """A request's first byte is there."""
        super().on_message_begin()
        self._expect_head()
        self._begun += 1

    def on_headers_complete(self) -> None:
        """A request is known, but for its body."""
        self._end_head()
        super().on_headers_complete()
        if len(self.pipeline) > MAX_AHEAD:
            raise _TooManyError  # the parser stops at it, and the connection is refused

    def on_message_complete(self) -> None:
        """A request is there whole."""
        self._read += 1
        super().on_message_complete()

    def on_response_complete(self) -> None:
        """An answer is given."""
        super().on_response_complete()
        if not self.pipeline and not self._in_head:
            self.config.room.idle(self)

    def pause_writing(self) -> None:
        """The client does not read."""
        super().pause_writing()
        self._write_timer = self.loop.call_later(WRITE_SECONDS, self.transport.abort)

    def resume_writing(self) -> None:
        """The client reads again."""
        self._end_write()
        super().resume_writing()

    def send_400_response(self, msg: str) -> None:
        """Refuse what is no request."""
        self._refused = True
        super().send_400_response(msg)

    async def _answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Call the API; an answer to a request that is not complete says that it is the connection's last."""
        self._answered += 1
        number = self._answered

        async def tell(message: Message) -> None:
            if message["type"] == "http.response.start" and self._read < number:
                message = {**message, "headers": [*message["headers"], _CLOSE]}
            await send(message)

        await self._api(scope, receive, tell)

    def _is_between(self) -> bool:
        return self._read == self._answered and (self.cycle is None or self.cycle.response_complete)

    def _expect_head(self) -> None:
        self._head_bytes, self._in_head = 0, True
        self.config.room.in_head(self)
        if self._head_timer is None:
            late = "The request's head did not arrive in time."
            self._head_timer = self.loop.call_later(HEAD_SECONDS, self._refuse, late)

    def _end_head(self) -> None:
        self._in_head = False
        self.config.room.at_work(self)
        if self._head_timer:
            self._head_timer.cancel()
            self._head_timer = None

    def _end_write(self) -> None:
        if self._write_timer:
            self._write_timer.cancel()
            self._write_timer = None

    def _refuse(self, why: str) -> None:
        if not self.transport.is_closing():
            self.send_400_response(why)


class _TooManyError(Exception):
    """A client sends requests and does not wait for answers."""


class _LateClosing:
    """A transport that, once closed, reads on for a moment if its client still sends, and then closes whatever happens.

    A socket that is closed with bytes unread is reset, and a reset takes the answer away that the client has not read.
    """

    def __init__(self, transport: asyncio.Transport, connection: BoundedProtocol) -> None:
        self._transport = transport
        self._connection = connection
        self._closing = False

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401 - what uvicorn calls beside these
        return getattr(self._transport, name)

    def is_closing(self) -> bool:
        return self._closing or self._transport.is_closing()

    def write(self, data: bytes) -> None:
        if not self._closing:
            self._transport.write(data)

    def close(self) -> None:
        if self.is_closing():
            return
        self._closing = True
        if not self._connection.unread:
            self._transport.close()
        elif self._transport.can_write_eof():
            self._transport.write_eof()
        connection = self._connection
        connection.flow.resume_reading()
        connection.config.room.idle(connection)
        connection.loop.call_later(LINGER_SECONDS, self._end, WRITE_SECONDS)

    def _end(self, seconds_left: float) -> None:
        if seconds_left > 0 and self._transport.get_write_buffer_size():
            self._connection.loop.call_later(LINGER_SECONDS, self._end, seconds_left - LINGER_SECONDS)
        else:
            self._transport.abort()
