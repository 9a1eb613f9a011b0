"""Whatever the API is sent, it answers with what was asked or with a problem document of the documented set."""

import asyncio
import json
import random
import urllib.parse
from collections.abc import Sequence
from typing import Any, Final

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry

from streams.api.http import create_api
from streams.api.problems import MEDIA_TYPE, PROBLEMS
from streams.instruments import WorkerInstruments
from streams.settings import Settings
from tests.fakes import FakeServing
from tests.property.events import malformed

Headers = Sequence[tuple[bytes, bytes]]
JSON: Final[Headers] = [(b"content-type", b"application/json")]
REGISTRY: Final = CollectorRegistry()
APP: Final = create_api(FakeServing(), Settings(), WorkerInstruments(REGISTRY), REGISTRY)

text = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
methods = st.sampled_from(["GET", "POST", "PUT", "DELETE", "HEAD", "OPTIONS", "PATCH", "BREW"])
words = text | st.sampled_from(["v1", "users", "items", "history", "recommendations", "similar", "u1", "docs"])
names = text | st.sampled_from(["k", "after", "exclude"])
values = text | st.sampled_from(["1", "100", "interactions/0/0", "i1"])
header_names = st.sampled_from([b"host", b"authorization", b"content-type", b"content-length", b"headrace-forwarded"])
read_paths = st.sampled_from(
    ["/v1/users/u1/history", "/v1/users/u1/recommendations", "/v1/items/i1/similar", "/healthz", "/readyz", "/metrics"]
)


def send(method: str, path: str, query: bytes = b"", headers: Headers = (), body: bytes = b"") -> int:
    """Return the status, after checking what must hold of any answer. No client stands between: any bytes go."""
    sent: list[dict[str, Any]] = []
    scope = {
        "type": "http", "http_version": "1.1", "method": method, "scheme": "http", "path": path, "root_path": "",
        "raw_path": path.encode(), "query_string": query, "headers": list(headers), "client": ("127.0.0.1", 1),
        "server": ("127.0.0.1", 8080), "asgi": {"version": "3.0"},
    }  # fmt: skip

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": body, "more_body": False}

    async def take(message: Any) -> None:
        sent.append(dict(message))

    asyncio.run(APP(scope, receive, take))
    status = int(sent[0]["status"])
    if status != 200:
        document = json.loads(b"".join(message["body"] for message in sent[1:]))
        assert (b"content-type", MEDIA_TYPE.encode()) in sent[0]["headers"]
        name = document["type"].removeprefix("urn:headrace:problem:")
        assert PROBLEMS[name] == (status, document["title"])
        assert name not in {"internal", "not-ready"}
    return status


@given(st.binary(max_size=200))
def test_any_body(body: bytes) -> None:
    assert send("POST", "/v1/events", headers=JSON, body=body) == 400


@given(st.lists(st.integers(0, 2**32), max_size=4))
def test_a_list_of_malformed_events(seeds: list[int]) -> None:
    body = b"[" + b",".join(malformed("interactions", random.Random(seed)) for seed in seeds) + b"]"
    assert send("POST", "/v1/events", headers=JSON, body=body) in {200, 400, 413}


@given(methods, st.lists(words, max_size=5))
def test_any_method_and_path(method: str, path: list[str]) -> None:
    send(method, "/" + "/".join(path), headers=JSON)


@given(read_paths, st.lists(st.tuples(names, values), max_size=4))
def test_any_parameters(path: str, parameters: list[tuple[str, str]]) -> None:
    send("GET", path, urllib.parse.urlencode(parameters).encode())


@given(read_paths, st.binary(max_size=30))
def test_any_query(path: str, query: bytes) -> None:
    send("GET", path, query)


@given(st.lists(st.tuples(header_names, st.binary(max_size=30)), max_size=4))
def test_any_headers(headers: list[tuple[bytes, bytes]]) -> None:
    send("POST", "/v1/events", headers=headers)


@pytest.mark.parametrize("depth", range(600, 1000, 4))
def test_a_context_nested_as_deeply_as_can_be_read(depth: int) -> None:
    event = b'{"event_id":"e","user_id":"u","item_id":"i","type":"view","timestamp":1764000000000,"context":%s}'
    send("POST", "/v1/events", headers=JSON, body=event % (b'{"a":' * depth + b"1" + b"}" * depth))
