"""The API answers what its worker knows, and whatever else it is sent gets a problem document that names the field."""

import asyncio
import gzip
import json
import urllib.parse
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from prometheus_client import CollectorRegistry

from streams.api.http import create_api
from streams.api.problems import MEDIA_TYPE, PROBLEMS
from streams.instruments import WorkerInstruments
from streams.records import RecommendedItem
from streams.settings import Settings
from tests.fakes import FakeServing

JSON = {"Content-Type": "application/json"}
PACKED = {**JSON, "Content-Encoding": "gzip"}


def event(**fields: object) -> dict[str, Any]:
    """A valid event, but for the fields given; None leaves a field out."""
    given = {
        "event_id": "e1", "user_id": "u1", "item_id": "i9", "type": "purchase", "timestamp": 1764000000000, **fields
    }  # fmt: skip
    return {name: value for name, value in given.items() if value is not None}


@pytest.fixture
def serving() -> FakeServing:
    return FakeServing()


def api(serving: FakeServing, registry: CollectorRegistry | None = None, **http: Any) -> httpx.AsyncClient:
    registry = registry or CollectorRegistry()
    app = create_api(serving, Settings(http=http), WorkerInstruments(registry), registry)
    transport = httpx.ASGITransport(app, raise_app_exceptions=False)
    return httpx.AsyncClient(transport=transport, base_url="http://localhost")


@pytest.fixture
async def client(serving: FakeServing) -> AsyncIterator[httpx.AsyncClient]:
    async with api(serving) as client:
        yield client


def problem_of(response: httpx.Response) -> tuple[int, str, str | None]:
    assert response.headers["content-type"] == MEDIA_TYPE
    document = response.json()
    name = document["type"].removeprefix("urn:headrace:problem:")
    assert (document["status"], document["title"]) == PROBLEMS[name]
    assert document["status"] == response.status_code
    assert document["detail"]
    return response.status_code, name, document.get("field")


async def test_an_event_is_accepted_and_its_position_returned(client: httpx.AsyncClient, serving: FakeServing) -> None:
    response = await client.post("/v1/events", json=event())
    assert response.json() == {"positions": ["interactions/0/0"]}
    assert serving.events[0].item_id == "i9"


async def test_a_list_is_accepted_in_order(client: httpx.AsyncClient, serving: FakeServing) -> None:
    response = await client.post("/v1/events", json=[event(event_id="a"), event(event_id="b")])
    assert response.json() == {"positions": ["interactions/0/0", "interactions/0/1"]}
    assert [e.event_id for e in serving.events] == ["a", "b"]


async def test_a_list_with_one_bad_event_is_refused_whole(client: httpx.AsyncClient, serving: FakeServing) -> None:
    response = await client.post("/v1/events", json=[event(), event(item_id=None)])
    assert problem_of(response) == (400, "invalid-event", "item_id")
    assert response.json()["index"] == 1
    assert response.json()["reason"] == "missing_field"
    assert serving.events == []


async def test_a_time_as_text_becomes_epoch_milliseconds(client: httpx.AsyncClient, serving: FakeServing) -> None:
    await client.post("/v1/events", json=event(timestamp="2025-11-24T16:00:00Z"))
    assert serving.events[0].timestamp == 1764000000000


@pytest.mark.parametrize(
    ("fields", "field", "reason"),
    [
        ({"event_id": None}, "event_id", "missing_field"),
        ({"user_id": None}, "user_id", "missing_field"),
        ({"item_id": None}, "item_id", "missing_field"),
        ({"type": None}, "type", "missing_field"),
        ({"timestamp": None}, "timestamp", "missing_field"),
        ({"user_id": ""}, "user_id", "wrong_type"),
        ({"user_id": 7.5}, "user_id", "wrong_type"),
        ({"user_id": " "}, "user_id", "wrong_type"),
        ({"timestamp": 1_760_000_000}, "timestamp", "timestamp_out_of_range"),
        ({"item_id": "i" * 256}, "item_id", "wrong_type"),
        ({"item_id": "é" * 200}, "item_id", "wrong_type"),
        ({"type": "teleport"}, "type", "unknown_type"),
        ({"type": 3}, "type", "wrong_type"),
        ({"timestamp": 99999999999999}, "timestamp", "timestamp_out_of_range"),
        ({"timestamp": -1}, "timestamp", "timestamp_out_of_range"),
        ({"timestamp": "yesterday"}, "timestamp", "wrong_type"),
        ({"timestamp": 1.5}, "timestamp", "wrong_type"),
    ],
)
async def test_a_bad_event_is_refused_by_field_and_reason(
    client: httpx.AsyncClient, serving: FakeServing, fields: dict[str, Any], field: str, reason: str
) -> None:
    response = await client.post("/v1/events", json=event(**fields))
    assert problem_of(response) == (400, "invalid-event", field)
    assert response.json()["reason"] == reason
    assert serving.events == []


@pytest.mark.parametrize(
    ("fields", "value", "fate"),
    [({"value": "12.99"}, 12.99, "read"), ({"value": "12,99"}, None, "left_out"), ({"user_id": 7}, None, "read")],
)
async def test_an_event_is_taken_although_an_optional_field_does_not_fit_and_that_is_counted(
    serving: FakeServing, fields: dict[str, Any], value: float | None, fate: str
) -> None:
    # Issue 10, B.6: over HTTP as on the topic; the topic gets the event as it was understood.
    registry, [field] = CollectorRegistry(), fields
    async with api(serving, registry) as client:
        assert (await client.post("/v1/events", json=event(**fields))).status_code == 200
    assert serving.events[0].value == value
    labels = {"topic": "headrace.interactions", "field": field, "fate": fate}
    assert registry.get_sample_value("headrace_lenient_fields_total", labels) == 1


@pytest.mark.parametrize("body", [b"", b"{", b"nonsense", b"\xff\xfe", b'"text"', b"3", b"null", b'{"a":' * 50_000])
async def test_a_body_that_is_no_event_is_refused(client: httpx.AsyncClient, body: bytes) -> None:
    response = await client.post("/v1/events", content=body, headers=JSON)
    assert problem_of(response)[:2] == (400, "invalid-event")


@pytest.mark.parametrize("body", [b"[", b"[]", b"[{]", b"[1,]", b"[" * 100_000])
async def test_a_list_that_is_no_list_is_refused(client: httpx.AsyncClient, body: bytes) -> None:
    response = await client.post("/v1/events", content=body, headers=JSON)
    assert problem_of(response) == (400, "invalid-body", None)


async def test_a_form_is_refused_because_any_web_page_can_send_one(client: httpx.AsyncClient) -> None:
    response = await client.post("/v1/events", content=json.dumps(event()), headers={"Content-Type": "text/plain"})
    assert problem_of(response) == (415, "unsupported-media-type", "Content-Type")


@pytest.mark.parametrize("encoding", ["gzip", "GZIP", "x-gzip"])
async def test_a_packed_body_is_unpacked(client: httpx.AsyncClient, serving: FakeServing, encoding: str) -> None:
    body = gzip.compress(json.dumps([event(event_id=f"e{n}") for n in range(100)]).encode())
    response = await client.post("/v1/events", content=body, headers={**JSON, "Content-Encoding": encoding})
    assert response.status_code == 200
    assert len(serving.events) == 100


@pytest.mark.parametrize("limit", [99_999, 100_000])
async def test_a_packed_body_is_bounded_by_what_it_becomes(serving: FakeServing, limit: int) -> None:
    body = gzip.compress(json.dumps(event()).encode().ljust(100_000))
    assert len(body) < 1000
    async with api(serving, max_body_bytes=limit) as client:
        response = await client.post("/v1/events", content=body, headers=PACKED)
    assert response.status_code == (200 if limit == 100_000 else 413)


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (b"{}", "not gzip"),
        (b"", "no end"),
        (gzip.compress(b"{}")[:-4], "no end"),
        (gzip.compress(b"{}") * 2, "bytes after its end"),
        (gzip.compress(b"{}")[:-8] + bytes(8), "not gzip"),
    ],
)
async def test_a_packed_body_that_is_broken_is_refused(client: httpx.AsyncClient, body: bytes, said: str) -> None:
    response = await client.post("/v1/events", content=body, headers=PACKED)
    assert problem_of(response) == (400, "invalid-body", "Content-Encoding")
    assert said in response.json()["detail"]


@pytest.mark.parametrize("encoding", ["br", "deflate", "gzip, gzip", "zstd"])
async def test_a_body_packed_in_another_way_is_refused_with_the_way(client: httpx.AsyncClient, encoding: str) -> None:
    response = await client.post("/v1/events", content=b"{}", headers={**JSON, "Content-Encoding": encoding})
    assert problem_of(response) == (415, "unsupported-encoding", "Content-Encoding")
    assert response.headers["accept-encoding"] == "gzip"


async def test_a_large_body_is_refused_by_its_announced_length(serving: FakeServing) -> None:
    async with api(serving, max_body_bytes=100) as client:
        response = await client.post("/v1/events", content=b" " * 101, headers=JSON)
    assert problem_of(response) == (413, "body-too-large", None)


async def test_a_large_body_is_refused_while_it_is_read(serving: FakeServing) -> None:
    async def endless() -> AsyncIterator[bytes]:
        for _ in range(1000):
            yield b" " * 64

    async with api(serving, max_body_bytes=100) as client:
        response = await client.post("/v1/events", content=endless(), headers=JSON)
    assert problem_of(response) == (413, "body-too-large", None)


async def test_a_body_at_the_limit_is_taken(serving: FakeServing) -> None:
    body = json.dumps(event()).encode()
    async with api(serving, max_body_bytes=len(body)) as client:
        assert (await client.post("/v1/events", content=body, headers=JSON)).status_code == 200


async def test_a_body_that_does_not_arrive_is_given_up(serving: FakeServing, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("streams.api.bodies.BODY_SECONDS", 0.01)

    async def slow() -> AsyncIterator[bytes]:
        yield b"["
        await asyncio.sleep(30)

    async with api(serving) as client:
        response = await client.post("/v1/events", content=slow(), headers=JSON)
    assert problem_of(response) == (408, "body-too-slow", None)


async def test_too_many_events_are_refused(serving: FakeServing) -> None:
    async with api(serving, max_events=2) as client:
        assert problem_of(await client.post("/v1/events", json=[event()] * 3)) == (413, "too-many-events", None)
        assert (await client.post("/v1/events", json=[event()] * 2)).status_code == 200


async def test_an_event_is_read_back_after_its_position(client: httpx.AsyncClient) -> None:
    [position] = (await client.post("/v1/events", json=event())).json()["positions"]
    response = await client.get("/v1/users/u1/history", params={"after": position})
    assert response.json() == {
        "user_id": "u1",
        "position": position,
        "interactions": [{"item_id": "i9", "type": "purchase", "timestamp": 1764000000000}],
    }


async def test_an_unknown_user_has_an_empty_history(client: httpx.AsyncClient) -> None:
    response = await client.get("/v1/users/nobody/history")
    assert response.json() == {"user_id": "nobody", "position": None, "interactions": []}


@pytest.mark.parametrize("user_id", ["a/b", "ünï", "a b", "100%", "history", "x/history", "?", "#", "a//b", "a\nb"])
async def test_any_id_can_be_asked_for(client: httpx.AsyncClient, user_id: str) -> None:
    quoted = urllib.parse.quote(user_id, safe="")
    assert (await client.get(f"/v1/users/{quoted}/history")).json()["user_id"] == user_id


async def test_a_list_has_k_items_with_titles_and_without_the_excluded(
    client: httpx.AsyncClient, serving: FakeServing
) -> None:
    serving.titles = {"i3": "A kettle"}
    response = await client.get("/v1/users/u1/recommendations?k=2&exclude=i1&exclude=i2")
    assert response.json()["items"] == [
        {"item_id": "i3", "score": pytest.approx(1 / 3), "source": "popular", "title": "A kettle"},
        {"item_id": "i4", "score": 0.25, "source": "popular"},
    ]
    assert response.json()["rung"] == "popular"
    assert serving.asked == [("u1", 2, frozenset({"i1", "i2"}))]


async def test_a_list_has_as_many_items_as_the_setting_when_none_are_named(client: httpx.AsyncClient) -> None:
    assert len((await client.get("/v1/users/u1/recommendations")).json()["items"]) == 10


@pytest.mark.parametrize("k", ["0", "-1", "101", "1000", "ten", "1.5", "", "01", "\uff11", "1e1", " 1"])
async def test_a_bad_k_is_refused(client: httpx.AsyncClient, k: str) -> None:
    for path in ("/v1/users/u1/recommendations", "/v1/items/i1/similar"):
        assert problem_of(await client.get(path, params={"k": k})) == (400, "invalid-parameter", "k")


@pytest.mark.parametrize(
    "after",
    ["", "3/7", "interactions/3", "interactions/-1/7", "interactions/3/x", "items/0/1", "interactions/3/7/9",
     "interactions/03/7", "interactions/3/7\n", "interactions/3/9999999999999999999"],
)  # fmt: skip
async def test_a_malformed_position_is_refused(client: httpx.AsyncClient, after: str) -> None:
    for path in ("history", "recommendations"):
        response = await client.get(f"/v1/users/u1/{path}", params={"after": after})
        assert problem_of(response) == (400, "invalid-parameter", "after")


async def test_a_position_of_another_partition_is_refused(client: httpx.AsyncClient) -> None:
    response = await client.get("/v1/users/u1/history?after=interactions/5/0")
    assert problem_of(response) == (400, "invalid-parameter", "after")


async def test_a_position_not_reached_in_time_is_said_to_be(client: httpx.AsyncClient) -> None:
    response = await client.get("/v1/users/u1/history?after=interactions/0/7")
    assert problem_of(response) == (504, "state-behind", None)
    assert response.headers["retry-after"] == "1"


@pytest.mark.parametrize(
    ("query", "field"),
    [("exlude=i1", "exlude"), ("k=1&k=2", "k"), ("exclude=", "exclude"), ("exclude=" + "i" * 256, "exclude"),
     ("k=%ff", None), ("&".join(["exclude=i"] * 1001), None)],
)  # fmt: skip
async def test_a_wrong_parameter_is_refused(client: httpx.AsyncClient, query: str, field: str | None) -> None:
    response = await client.get(f"/v1/users/u1/recommendations?{query}")
    assert problem_of(response) == (400, "invalid-parameter", field)


@pytest.mark.parametrize("user_id", ["", "u" * 256, urllib.parse.quote("é" * 128)])
async def test_a_bad_user_id_is_refused(client: httpx.AsyncClient, user_id: str) -> None:
    response = await client.get(f"/v1/users/{user_id}/history")
    assert problem_of(response) == (400, "invalid-parameter", "user_id")


@pytest.mark.parametrize(
    "path", ["v1/users/%ff", "v1/users/%fe", "v1/users/a%c3", "v1/users/%ed%a0%80", "v1/items/%ff"]
)
async def test_an_id_that_is_no_utf8_is_refused(client: httpx.AsyncClient, path: str) -> None:
    """Issue 10, C.5: %ff and %fe were one user."""
    kind = path.split("/")[1]
    response = await client.get(f"/{path}/{'history' if kind == 'users' else 'similar'}")
    assert problem_of(response) == (400, "invalid-parameter", f"{kind[:-1]}_id")


async def test_the_replacement_character_is_a_character(client: httpx.AsyncClient) -> None:
    assert (await client.get("/v1/users/%EF%BF%BD/history")).json()["user_id"] == "\N{REPLACEMENT CHARACTER}"


async def test_a_list_in_exclude_is_refused_unless_it_is_an_item(
    client: httpx.AsyncClient, serving: FakeServing
) -> None:
    """Issue 10, D: exclude=1,2,3 was one id that nobody has."""
    response = await client.get("/v1/users/u1/recommendations?exclude=1,2,3")
    assert problem_of(response) == (400, "invalid-parameter", "exclude")
    assert "repeat" in response.json()["detail"]
    serving.titles = {"salt, coarse": "Salt"}
    assert (await client.get("/v1/users/u1/recommendations?exclude=salt,+coarse")).status_code == 200
    assert serving.asked == [("u1", 10, frozenset({"salt, coarse"}))]


async def test_similar_items_are_listed(client: httpx.AsyncClient, serving: FakeServing) -> None:
    serving.neighbours["i1"] = [RecommendedItem("i2", 0.5, "covisit"), RecommendedItem("i3", 0.25, "covisit")]
    response = await client.get("/v1/items/i1/similar?k=1")
    assert response.json() == {"item_id": "i1", "items": [{"item_id": "i2", "score": 0.5, "source": "covisit"}]}


async def test_an_unknown_item_is_not_found(client: httpx.AsyncClient) -> None:
    assert problem_of(await client.get("/v1/items/ghost/similar")) == (404, "unknown-item", "item_id")


async def test_an_unknown_route_and_a_wrong_method_are_problems_too(client: httpx.AsyncClient) -> None:
    assert problem_of(await client.get("/v2/events")) == (404, "not-found", None)
    assert problem_of(await client.post("/v1/events/")) == (404, "not-found", None)
    response = await client.delete("/v1/events")
    assert problem_of(response) == (405, "method-not-allowed", None)
    assert response.headers["allow"] == "POST"
    assert (await client.delete("/healthz")).headers["allow"] == "GET, HEAD"


async def test_a_worker_that_is_not_ready_says_so(client: httpx.AsyncClient, serving: FakeServing) -> None:
    assert (await client.get("/readyz")).json() == {"ready": True}
    serving.unready = "Partitions are moving."
    for path in ("/readyz", "/v1/users/u1/history", "/v1/users/u1/recommendations"):
        response = await client.get(path)
        assert problem_of(response) == (503, "not-ready", None)
        assert response.headers["retry-after"] == "1"
    assert (await client.get("/healthz")).json() == {"partitions": [0]}


async def test_a_defect_is_logged_and_told_without_its_traceback(
    client: httpx.AsyncClient, serving: FakeServing
) -> None:
    serving.failure = ZeroDivisionError("secret-4711")
    response = await client.post("/v1/events", json=event())
    assert problem_of(response) == (500, "internal", None)
    assert "secret-4711" not in response.text


async def test_requests_are_counted_by_route_and_status(serving: FakeServing) -> None:
    registry = CollectorRegistry()
    async with api(serving, registry) as client:
        await client.get("/v1/users/u1/history")
        await client.get("/v1/users/u2/history")
        await client.get("/v1/users/u2/history?after=x")
        text = (await client.get("/metrics")).text
    sample = 'headrace_http_request_seconds_count{route="/v1/users/{user_id}/history",status="%s"} %s'
    assert sample % (200, "2.0") in text
    assert sample % (400, "1.0") in text


async def test_the_document_describes_every_route_and_record(client: httpx.AsyncClient) -> None:
    document = (await client.get("/openapi.json")).json()
    assert set(document["paths"]) == {
        "/v1/events", "/v1/users/{user_id}/recommendations", "/v1/users/{user_id}/history",
        "/v1/items/{item_id}/similar", "/healthz", "/readyz", "/metrics",
    }  # fmt: skip
    references = set(_references(document))
    assert references
    for reference in references:
        assert reference.removeprefix("#/components/schemas/") in document["components"]["schemas"]
    assert "swagger" in (await client.get("/docs")).text


async def test_every_problem_is_documented() -> None:
    page = (Path(__file__).parents[2] / "docs" / "http.md").read_text()
    for name, (status, title) in PROBLEMS.items():
        assert f"| `{name}` | {status} | {title}" in page


def _references(node: object) -> Iterator[str]:
    if isinstance(node, dict):
        if "$ref" in node:
            yield node["$ref"]
        for value in node.values():
            yield from _references(value)
    elif isinstance(node, list):
        for value in node:
            yield from _references(value)
