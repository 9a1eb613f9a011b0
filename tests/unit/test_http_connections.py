"""No client holds a connection longer than a bound, whatever it sends or leaves out, and probes always find a place."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import httpx
import pytest
import uvloop

from streams.api.api_server import ApiServer
from streams.api.connections import MAX_AHEAD
from streams.records import Interaction
from streams.settings import HttpSettings
from tests.fakes import FakeServing
from tests.unit.test_http import event, problem_of
from tests.unit.test_http_edge import TOKENS, running

CONNECTIONS = "streams.api.connections"
HOST = b"Host: localhost\r\n"
PROBE = b"GET /healthz HTTP/1.1\r\n" + HOST + b"\r\n"
pytestmark = pytest.mark.filterwarnings("ignore:Overriding the .event_loop_policy:DeprecationWarning")
LAST_PROBE = PROBE.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n")
HISTORY = b"GET /v1/users/u1/history HTTP/1.1\r\n" + HOST + b"\r\n"
Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]


@pytest.fixture(params=[asyncio.DefaultEventLoopPolicy, uvloop.EventLoopPolicy], ids=["asyncio", "uvloop"])
def event_loop_policy(request: pytest.FixtureRequest) -> asyncio.AbstractEventLoopPolicy:
    """The worker runs on uvloop, whose transports are others than asyncio's."""
    policy: asyncio.AbstractEventLoopPolicy = request.param()
    return policy


@asynccontextmanager
async def connected(server: ApiServer, sent: bytes = b"") -> AsyncIterator[Streams]:
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
    writer.write(sent)
    try:
        yield reader, writer
    finally:
        writer.close()


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(4):
        while not condition():  # noqa: ASYNC110 - of another end
            await asyncio.sleep(0.01)


async def answer_and_end(server: ApiServer, sent: bytes, within: float = 4) -> bytes:
    """Return all that a connection answers until it is closed by the server."""
    async with connected(server, sent) as (reader, _):
        return await asyncio.wait_for(reader.read(), within)


@pytest.mark.parametrize(
    ("line", "status"),
    [
        (b"POST /v1/events", b"401"),
        (b"POST /v2/events", b"404"),
        (b"DELETE /v1/events", b"405"),
        (b"GET /v1/users/u1/history", b"401"),
        (b"GET /healthz", b"200"),
        (b"GET /docs", b"200"),
    ],
)
@pytest.mark.parametrize("body", [b"Content-Length: 2\r\n\r\n[", b"Transfer-Encoding: chunked\r\n\r\n1\r\n["])
async def test_an_answer_to_a_request_that_is_not_complete_is_the_connections_last(
    line: bytes, status: bytes, body: bytes
) -> None:  # issue 10, D: one byte of body held a connection for ever
    async with running(FakeServing(), tokens=TOKENS) as server:
        answer = await answer_and_end(server, line + b" HTTP/1.1\r\n" + HOST + body)
    assert answer.startswith(b"HTTP/1.1 " + status)
    assert b"\r\nconnection: close\r\n" in answer
    assert answer.count(b"HTTP/1.1") == 1


@pytest.mark.parametrize("path", [b"/healthz", b"/readyz", b"/v1/users/u1/history", b"/docs"])
async def test_head_is_answered_as_get_without_the_body(path: bytes) -> None:  # issue 10, D: it was 405
    async with running(FakeServing()) as server:
        answers = [
            await answer_and_end(server, LAST_PROBE.replace(b"GET /healthz", method + b" " + path))
            for method in (b"HEAD", b"GET")
        ]
    head, got = answers
    assert head.startswith(b"HTTP/1.1 200 ")
    assert head.endswith(b"\r\n\r\n")
    length = next(line for line in got.split(b"\r\n") if line.lower().startswith(b"content-length"))
    assert length in head.split(b"\r\n")


async def test_a_request_that_is_complete_keeps_its_connection() -> None:
    body = json.dumps(event()).encode()
    request = b"POST /v1/events HTTP/1.1\r\n%bContent-Length: %d\r\n\r\n%b" % (HOST, len(body), body)
    async with running(FakeServing(), tokens=TOKENS) as server, connected(server) as (reader, writer):
        for _ in range(3):
            writer.write(request)
            head = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 4)
            assert head.startswith(b"HTTP/1.1 401 ")
            assert b"connection: close" not in head
            await reader.readexactly(int(head.partition(b"content-length: ")[2].partition(b"\r\n")[0]))


async def test_a_large_body_that_is_refused_does_not_cost_its_answer() -> None:
    async with running(FakeServing(), tokens=TOKENS) as server, connected(server) as (reader, writer):
        writer.write(b"POST /v1/events HTTP/1.1\r\n" + HOST + b"Content-Length: 8000000\r\n\r\n")
        answering = asyncio.create_task(reader.read())
        for _ in range(80):
            writer.write(bytes(100_000))
            await asyncio.wait_for(writer.drain(), 4)
        assert (await asyncio.wait_for(answering, 4)).startswith(b"HTTP/1.1 401 ")


@pytest.mark.parametrize("junk", [b"\r\n", b"\r\n\r\n\r\n", b"G", b"GET /healthz HTTP/1.1\r\nx:"])
async def test_what_follows_an_answer_must_become_a_request_in_time(
    junk: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(f"{CONNECTIONS}.HEAD_SECONDS", 0.1)
    async with running(FakeServing()) as server, connected(server, PROBE) as (reader, writer):
        await asyncio.wait_for(reader.readuntil(b"}"), 4)
        writer.write(junk)
        assert (await asyncio.wait_for(reader.read(), 4)).endswith(b"did not arrive in time.")


async def test_a_client_that_does_not_read_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(f"{CONNECTIONS}.WRITE_SECONDS", 0.1)
    serving = FakeServing()
    serving.events = [Interaction(f"e{n}", "u1", "i" * 100_000, "view", 1764000000000) for n in range(200)]
    async with running(serving) as server, connected(server, HISTORY) as (reader, _):
        await until(lambda: server.connections == 1)
        await until(lambda: server.connections == 0)
        with pytest.raises((ConnectionResetError, asyncio.IncompleteReadError)):
            await asyncio.wait_for(reader.readexactly(20_000_000), 4)


async def test_a_client_that_sends_and_sends_is_refused() -> None:
    async with running(FakeServing()) as server:
        answer = await answer_and_end(server, PROBE * (MAX_AHEAD + 10))
    assert b"HTTP/1.1 400 " in answer


async def test_an_idle_connection_is_kept_as_long_as_is_set() -> None:
    assert HttpSettings().keep_alive_seconds > 60  # a load balancer's own
    async with running(FakeServing(), keep_alive_seconds=0.1) as server:
        answer = await answer_and_end(server, PROBE)
    assert answer.endswith(b"}")


async def test_an_idle_connection_gives_way_to_a_new_one() -> None:
    async with running(FakeServing(), max_connections=2) as server, connected(server, PROBE) as (oldest, _):
        await asyncio.wait_for(oldest.readuntil(b"}"), 4)
        async with connected(server, PROBE) as (other, writer):
            await asyncio.wait_for(other.readuntil(b"}"), 4)
            async with connected(server, PROBE) as (newest, _):
                assert (await asyncio.wait_for(newest.readuntil(b"}"), 4)).startswith(b"HTTP/1.1 200 ")
                with pytest.raises((ConnectionResetError, asyncio.IncompleteReadError)):
                    await asyncio.wait_for(oldest.readexactly(1), 4)
                writer.write(PROBE)
                assert (await asyncio.wait_for(other.readuntil(b"}"), 4)).startswith(b"HTTP/1.1 200 ")


@pytest.mark.parametrize(
    "begun", [b"", b"GET /", b"POST /v1/events HTTP/1.1\r\n" + HOST + b"Content-Length: 2\r\n\r\n["]
)
async def test_probes_are_answered_while_others_hold_all_places(begun: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    """Issue 10, D: 500 connections with one byte of body each closed the API and its probes."""
    monkeypatch.setattr("streams.api.room.PATIENCE_SECONDS", 0.2)
    async with running(FakeServing(), tokens=TOKENS, max_connections=20) as server:
        held = [await asyncio.open_connection("127.0.0.1", server.port) for _ in range(20)]
        for _, writer in held:
            writer.write(begun)
        async with httpx.AsyncClient(base_url=server.address, trust_env=False) as client, asyncio.timeout(4):
            while (await client.get("/readyz")).status_code != 200:  # noqa: ASYNC110 - of another end
                await asyncio.sleep(0.02)
        for _, writer in held:
            writer.close()


async def test_a_request_at_work_does_not_give_way(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("streams.api.room.PATIENCE_SECONDS", 0)
    serving = Waiting()
    async with running(serving, max_connections=1) as server, connected(server, HISTORY) as (reader, _):
        await asyncio.wait_for(serving.asked_for.wait(), 4)
        async with httpx.AsyncClient(base_url=server.address, trust_env=False) as client:
            assert problem_of(await client.get("/healthz")) == (503, "too-many-connections", None)
        serving.go_on.set()
        assert (await asyncio.wait_for(reader.readuntil(b"}"), 4)).startswith(b"HTTP/1.1 200 ")


async def test_pipelined_requests_are_no_large_head() -> None:
    asked = PROBE.replace(b"\r\n\r\n", b"\r\nx: " + b"a" * 5000 + b"\r\n\r\n")
    async with running(FakeServing()) as server:
        answer = await answer_and_end(server, asked * 50 + LAST_PROBE)
    assert answer.count(b"HTTP/1.1 200 ") == 51


class Waiting(FakeServing):
    """Answers when it is told to."""

    def __init__(self) -> None:
        super().__init__()
        self.asked_for, self.go_on = asyncio.Event(), asyncio.Event()

    async def history(self, user_id: str, after: str | None) -> Any:
        self.asked_for.set()
        await self.go_on.wait()
        return await super().history(user_id, after)
