"""Who may ask, how often, and where a request goes that is another worker's."""

import ast
import asyncio
import json
import re
import socket
import ssl
import urllib.parse
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import fields
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import httpx
import pytest
from prometheus_client import CollectorRegistry

from streams.api import api_server
from streams.api.api_server import ApiServer
from streams.api.auth import Authenticator
from streams.api.connections import MAX_HEAD_BYTES
from streams.api.http import create_api
from streams.api.rate_limit import MAX_CLIENTS, RateLimit
from streams.commands.ask import WorkerApi, path_segment
from streams.errors import StartError
from streams.instruments import WorkerInstruments
from streams.records import Interaction
from streams.settings import HttpSettings, Settings
from streams.worker_app import Worker
from tests.certificates import certificate
from tests.fakes import FakeServing
from tests.unit.test_http import api, event, problem_of

ODD_IDS = [
    ".", "..", "...", "a/b", "a%2Fb", "x/../b", "./b", "b/..", "//", "/", " lead", "trail ", "\U0001f600", "e\u0301",
    "\u00e9", "u?x=1", "u#h", "u+v", "a,b", "a;b", "null", "0", "\u2028", "a\tb", "a\r\nb",
    "\0", "\u200b", "A", "a", "history", "é" * 127,
]  # fmt: skip
TOKENS = {"reader": ["read"], "shop": ["events", "read"], "operator": ["admin"]}


def bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


@asynccontextmanager
async def running(serving: FakeServing, **http: Any) -> AsyncIterator[ApiServer]:
    registry = CollectorRegistry()
    settings = Settings(http={"port": 0, **http})
    server = ApiServer(create_api(serving, settings, WorkerInstruments(registry), registry), settings.http)
    await server.start()
    try:
        yield server
    finally:
        await server.stop()


@pytest.mark.parametrize("headers", [{}, bearer("wrong"), bearer(""), {"Authorization": "Basic cmVhZGVy"}, bearer("é")])
async def test_without_a_known_token_nothing_is_told(headers: dict[str, str]) -> None:
    encoded = {name: value.encode() for name, value in headers.items()}
    async with api(FakeServing(), tokens=TOKENS) as client:
        for path in ("/v1/users/u1/history", "/metrics", "/v1/users/u1/recommendations?k=x"):
            response = await client.get(path, headers=encoded)
            assert problem_of(response) == (401, "unauthenticated", None)
            assert response.headers["www-authenticate"].startswith("Bearer ")


async def test_a_token_opens_what_its_scopes_say() -> None:
    async with api(FakeServing(), tokens=TOKENS) as client:
        assert (await client.get("/v1/users/u1/history", headers=bearer("reader"))).status_code == 200
        response = await client.post("/v1/events", json=event(), headers=bearer("reader"))
        assert problem_of(response) == (403, "forbidden", None)
        assert 'scope="events"' in response.headers["www-authenticate"]
        assert (await client.post("/v1/events", json=event(), headers=bearer("shop"))).status_code == 200
        assert problem_of(await client.get("/metrics", headers=bearer("shop"))) == (403, "forbidden", None)
        assert (await client.get("/metrics", headers=bearer("operator"))).status_code == 200
        assert (await client.post("/v1/events", json=event(), headers=bearer("operator"))).status_code == 200


async def test_health_needs_no_token() -> None:
    async with api(FakeServing(), tokens=TOKENS) as client:
        assert (await client.get("/healthz")).status_code == 200
        assert (await client.get("/readyz")).status_code == 200


async def test_every_token_is_compared_whichever_is_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    compared = []
    monkeypatch.setattr("hmac.compare_digest", lambda a, b: compared.append(a) or a == b)
    Authenticator(TOKENS).authenticate(b"Bearer reader")
    assert len(compared) == len(TOKENS)


@pytest.mark.parametrize("host", ["shop.example", "shop.example:8080", "localhost.evil.example", "127.0.0.1.evil"])
async def test_without_tokens_a_rebound_name_is_not_answered(host: str) -> None:
    async with api(FakeServing()) as client:
        response = await client.get("/v1/users/u1/history", headers={"Host": host})
    assert problem_of(response) == (421, "misdirected", "Host")


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1:8080", "[::1]:8080", "LOCALHOST:1", "worker-a:8080"])
async def test_without_tokens_this_machine_is_answered(host: str) -> None:
    async with api(FakeServing(), advertised="worker-a:8080") as client:
        assert (await client.get("/v1/users/u1/history", headers={"Host": host})).status_code == 200


async def test_a_client_above_its_rate_is_told_when_to_come_again() -> None:
    async with api(FakeServing(), tokens=TOKENS, requests_per_second=2.0) as client:
        statuses = [(await client.get("/v1/users/u/history", headers=bearer("reader"))) for _ in range(3)]
        assert [response.status_code for response in statuses] == [200, 200, 429]
        assert problem_of(statuses[2]) == (429, "rate-limited", None)
        assert statuses[2].headers["retry-after"] == "1"
        assert (await client.get("/v1/users/u/history", headers=bearer("shop"))).status_code == 200


async def test_guessing_tokens_is_limited_too() -> None:
    async with api(FakeServing(), tokens=TOKENS, requests_per_second=1.0) as client:
        statuses = [(await client.get("/metrics", headers=bearer(f"guess-{n}"))).status_code for n in range(3)]
    assert statuses == [401, 429, 429]


def test_a_bucket_refills_at_its_rate() -> None:
    limit = RateLimit(2.0)
    assert [limit.take("a", 0.0) for _ in range(3)] == [0.0, 0.0, 0.5]
    assert limit.take("a", 0.25) == 0.25
    assert limit.take("a", 0.5) == 0.0
    assert limit.take("b", 0.5) == 0.0
    assert [limit.take("a", 100.0) for _ in range(3)] == [0.0, 0.0, 0.5]


def test_buckets_are_bounded() -> None:
    limit = RateLimit(1.0)
    for client in range(MAX_CLIENTS + 10):
        limit.take(client, 0.0)
    assert len(limit._buckets) == MAX_CLIENTS
    assert limit.take(MAX_CLIENTS, 0.0) > 0.0


async def test_a_request_for_anothers_user_is_answered_by_that_worker() -> None:
    asked, owner = FakeServing(), FakeServing()
    async with running(owner, tokens=TOKENS) as other, api(asked, tokens=TOKENS) as client:
        asked.elsewhere = {"a/b": f"127.0.0.1:{other.port}"}
        response = await client.get("/v1/users/a%2Fb/recommendations?k=3&exclude=i1", headers=bearer("reader"))
        assert [item["item_id"] for item in response.json()["items"]] == ["i2", "i3", "i4"]
        assert owner.asked == [("a/b", 3, frozenset({"i1"}))]
        behind = await client.get("/v1/users/a%2Fb/history?after=interactions/0/5", headers=bearer("reader"))
        assert problem_of(behind) == (504, "state-behind", None)
        assert behind.headers["retry-after"] == "1"
        denied = await client.get("/v1/users/a%2Fb/history", headers=bearer("wrong"))
        assert problem_of(denied) == (401, "unauthenticated", None)


async def test_an_odd_id_is_the_same_user_on_every_way() -> None:
    """Issue 10, C.5: x/../b read user b at another worker, and `headrace history ..` the route above."""
    asked, owner = FakeServing(), FakeServing()
    owner.events = [Interaction(f"e{n}", user_id, f"i{n}", "view", 1764000000000) for n, user_id in enumerate(ODD_IDS)]
    async with running(owner) as other, running(asked) as server:
        asked.elsewhere = dict.fromkeys(ODD_IDS, f"127.0.0.1:{other.port}")
        for at in (server, other):
            commands = WorkerApi(HttpSettings(port=at.port))
            for number, user_id in enumerate(ODD_IDS):
                got = await asyncio.to_thread(commands.get, f"/v1/users/{path_segment(user_id)}/history")
                assert (got["user_id"], [e["item_id"] for e in got["interactions"]]) == (user_id, [f"i{number}"])


@pytest.mark.parametrize("path", [b"x/../b", b"./b", b"b/..", b"%2e%2e/b", b"a%2F..%2Fb"])
async def test_a_path_reaches_the_owner_as_it_came(path: bytes) -> None:
    asked, owner = FakeServing(), FakeServing()
    user_id = urllib.parse.unquote_to_bytes(path).decode()
    async with running(owner) as other, running(asked) as server:
        asked.elsewhere = {user_id: f"127.0.0.1:{other.port}"}
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
        line = b"GET /v1/users/" + path + b"/recommendations?exclude=%2e HTTP/1.1\r\n"
        writer.write(line + b"Host: localhost\r\nConnection: close\r\n\r\n")
        await asyncio.wait_for(reader.read(), 4)
        writer.close()
    assert owner.asked == [(user_id, 10, frozenset({"."}))]


async def test_a_head_of_anothers_user_is_answered_by_that_worker() -> None:
    asked, owner = FakeServing(), FakeServing()
    async with running(owner) as other, api(asked) as client:
        asked.elsewhere = {"u1": f"127.0.0.1:{other.port}"}
        assert (await client.head("/v1/users/u1/history")).status_code == 200


async def test_a_command_does_not_tell_its_token_to_a_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    """Issue 10, D: the bearer token of `headrace history` went through HTTP_PROXY."""
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, f"http://127.0.0.1:{unused_port()}")
    async with running(FakeServing(), tokens=TOKENS) as server:
        commands = WorkerApi(HttpSettings(port=server.port, tokens={"reader": ["read"]}))
        assert (await asyncio.to_thread(commands.get, "/v1/users/u1/history"))["user_id"] == "u1"


def test_no_client_heeds_the_environments_proxies() -> None:
    for file in sorted(Path(api_server.__file__).parents[1].rglob("*.py")):
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.Call) and re.fullmatch(
                r"httpx\.(Client|AsyncClient|get|post)", ast.unparse(node.func)
            ):
                assert "trust_env=False" in ast.unparse(node), f"{file}:{node.lineno}"


async def test_two_workers_that_each_name_the_other_do_not_loop() -> None:
    asked, owner = FakeServing(), FakeServing()
    async with running(owner) as other, api(asked) as client:
        asked.elsewhere = {"u1": f"127.0.0.1:{other.port}"}
        owner.elsewhere = {"u1": "127.0.0.1:1"}
        response = await client.get("/v1/users/u1/history")
    assert problem_of(response) == (503, "owner-unavailable", None)
    assert "moving" in response.json()["detail"]


async def test_an_owner_that_is_down_is_a_problem() -> None:
    serving = FakeServing()
    serving.elsewhere = {"u1": f"127.0.0.1:{unused_port()}"}
    async with api(serving) as client:
        response = await client.get("/v1/users/u1/history")
    assert problem_of(response) == (503, "owner-unavailable", None)
    assert response.headers["retry-after"] == "1"


async def test_the_server_takes_a_free_port_and_gives_it_back() -> None:
    async with running(FakeServing()) as server:
        assert server.port > 0
        async with httpx.AsyncClient() as client:
            response = await client.post(f"{server.address}/v1/events", json=event())
        assert response.json() == {"positions": ["interactions/0/0"]}
        port = server.port
    with socket.socket() as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(("127.0.0.1", port))


async def test_a_taken_port_stops_the_start_with_one_sentence() -> None:
    async with running(FakeServing()) as server:
        with pytest.raises(StartError, match=rf"127.0.0.1:{server.port} .*HEADRACE_HTTP__PORT"):
            async with running(FakeServing(), port=server.port):
                pass


async def test_a_taken_port_is_told_before_the_catalogue_is_read() -> None:
    """Issue 10, E, a sibling: a worker read the whole catalogue, and then said that its port was taken."""
    done: list[str] = []
    async with running(FakeServing()) as server:
        taken = ApiServer(server._app, Settings(http={"port": server.port}).http)
        parts = {field.name: SimpleNamespace() for field in fields(Worker)}
        parts["catalogue"] = SimpleNamespace(start=lambda: done.append("catalogue read"))
        with pytest.raises(StartError, match="HEADRACE_HTTP__PORT"):
            await Worker(**{**parts, "server": taken}).start()
    assert done == []


async def test_a_request_head_without_end_is_refused() -> None:
    async with running(FakeServing()) as server:
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
        writer.write(b"GET / HTTP/1.1\r\nx: " + b"a" * MAX_HEAD_BYTES)
        answer = await asyncio.wait_for(reader.read(), 10)
        writer.close()
    assert answer.startswith(b"HTTP/1.1 400 ")


async def test_a_connection_too_many_is_told_so_and_the_others_are_served() -> None:
    async with running(FakeServing(), max_connections=2) as server:
        idle = [await asyncio.open_connection("127.0.0.1", server.port) for _ in range(2)]
        async with httpx.AsyncClient(base_url=server.address, trust_env=False) as client:
            for _ in range(2):
                refused = await client.get("/healthz")
                assert problem_of(refused) == (503, "too-many-connections", None)
                assert refused.headers["retry-after"] == "1"
            idle[0][1].write(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n")
            assert (await idle[0][0].readline()).startswith(b"HTTP/1.1 200 ")
            for _, writer in idle:
                writer.close()
            async with asyncio.timeout(5):
                while (await client.get("/healthz")).status_code != 200:  # noqa: ASYNC110 - of another end
                    await asyncio.sleep(0.01)


async def test_a_flood_of_connections_is_bounded() -> None:
    async with running(FakeServing(), max_connections=2) as server:
        opened = [await asyncio.open_connection("127.0.0.1", server.port) for _ in range(6)]
        answers = await asyncio.gather(*(reader.read() for reader, _ in opened[2:]), return_exceptions=True)
        for _, writer in opened:
            writer.close()
    told = [isinstance(answer, bytes) and answer.startswith(b"HTTP/1.1 503 ") for answer in answers]
    assert told == [True, True, False, False]


@pytest.mark.parametrize("sent", [b"", b"GET / HTTP/1.1\r\nx: a", b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\nG"])
async def test_a_request_head_that_does_not_arrive_is_given_up(sent: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("streams.api.connections.HEAD_SECONDS", 0.1)
    async with running(FakeServing()) as server:
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
        writer.write(sent)
        answer = await asyncio.wait_for(reader.read(), 4)  # before uvicorn's own 5 s without a byte
        writer.close()
    assert answer.count(b"HTTP/1.1 200 ") == sent.count(b"healthz")
    assert answer.endswith(b"did not arrive in time.")


async def test_a_body_may_take_longer_than_a_head(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("streams.api.connections.HEAD_SECONDS", 0.1)

    async def slow() -> AsyncIterator[bytes]:
        yield b"["
        await asyncio.sleep(0.3)
        yield json.dumps(event()).encode() + b"]"

    async with running(FakeServing()) as server, httpx.AsyncClient() as client:
        headers = {"Content-Type": "application/json"}
        response = await client.post(f"{server.address}/v1/events", content=slow(), headers=headers)
    assert response.json() == {"positions": ["interactions/0/0"]}


@pytest.mark.parametrize(
    "path", [b"/\xff", b"/%ff", b"//", b"*", b"http://[", b"/v1/users/%00/history", b"/?%ff", b"\x00"]
)
async def test_no_request_line_makes_the_server_fail(path: bytes) -> None:
    async with running(FakeServing()) as server:
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
        writer.write(b"GET " + path + b" HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
        status = (await asyncio.wait_for(reader.read(), 4)).split(b" ")[1]
        writer.close()
    assert status in {b"200", b"400", b"404"}


async def test_a_large_body_is_refused_before_it_is_sent() -> None:
    async with running(FakeServing()) as server:
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
        writer.write(b"POST /v1/events HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n")
        writer.write(b"Content-Length: 5000000\r\n\r\n")
        assert (await asyncio.wait_for(reader.read(), 5)).startswith(b"HTTP/1.1 413 ")
        writer.close()


async def test_what_is_no_http_is_refused() -> None:
    async with running(FakeServing()) as server:
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
        writer.write(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03 not for you\r\n\r\n")
        assert (await asyncio.wait_for(reader.read(), 10)).startswith(b"HTTP/1.1 400 ")
        writer.close()


async def test_tls_serves_and_forwards(tmp_path: Path) -> None:
    authority, certfile, keyfile = certificate(tmp_path)
    tls = {"tls_certfile": certfile, "tls_keyfile": keyfile}
    asked, owner = FakeServing(), FakeServing()
    async with running(owner, **tls) as other, running(asked, **tls) as server:
        asked.elsewhere = {"u1": f"127.0.0.1:{other.port}"}
        async with httpx.AsyncClient(verify=ssl.create_default_context(cafile=authority)) as client:
            assert server.address.startswith("https://")
            response = await client.get(f"{server.address}/v1/users/u1/recommendations?k=1")
    assert response.json()["items"][0]["item_id"] == "i1"
    assert owner.asked == [("u1", 1, frozenset())]


async def test_tls_files_that_cannot_be_read_stop_the_start(tmp_path: Path) -> None:
    (tmp_path / "x.pem").write_text("no certificate")
    with pytest.raises(StartError, match="HEADRACE_HTTP__TLS_CERTFILE"):
        async with running(FakeServing(), tls_certfile=tmp_path / "x.pem", tls_keyfile=tmp_path / "x.pem"):
            pass


def unused_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])
