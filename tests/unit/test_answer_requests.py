"""Requests are answered by the owner of their partition, and one that cannot be answered costs no other."""

import json
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from streams.agents.answer_requests import AnswerRequests
from streams.kafka.dead_letters import DeadLetters
from streams.kafka.lease import Lease, LeaseLapsedError
from streams.lists.ladder import RankedList
from streams.lists.query import Query
from streams.records import RecommendedItem, Request, encode
from streams.settings import Settings
from tests.unit.pipeline_bench import Bench, OneRung

TOPIC = "headrace.recommendations"


class Requests:
    """A stream of one batch, fetched in generation 1."""

    def __init__(self, *values: bytes) -> None:
        records = [SimpleNamespace(offset=at, key=b"u", value=value, headers=()) for at, value in enumerate(values)]
        message = SimpleNamespace(topic="headrace.requests", partition=3, generation_id=1, value=records)
        self._event = SimpleNamespace(message=message)
        self.finished = False

    def noack(self) -> "Requests":
        return self

    async def events(self) -> AsyncIterator[Any]:
        yield self._event

    async def ack(self, _event: Any) -> None:
        self.finished = True


class Ladder(OneRung):
    """Does something while it makes lists; has none for u2."""

    def __init__(self, meanwhile: Any = lambda: None) -> None:
        self._meanwhile = meanwhile

    async def recommend(self, queries: Sequence[Query], _seconds_left: float) -> list[RankedList]:
        self._meanwhile()
        if any(query.user_id == "u2" for query in queries):
            raise ZeroDivisionError("no list for u2")
        return [RankedList([RecommendedItem("i1", 1.0, "sequence")], "triton", 1, 1) for _ in queries]


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path)


async def answer(bench: Bench, *values: bytes, meanwhile: Any = lambda: None) -> bool:
    """Let the agent take a batch of requests; return whether it was finished."""
    outputs: Any = bench.outputs
    outputs.at_once = True
    ladder: Any = Ladder(meanwhile)
    letters = DeadLetters(Settings().topics.dead_letters, outputs, bench.instruments)
    agent = AnswerRequests(Settings(), bench.states, outputs, ladder, letters, bench.ownership, bench.instruments)
    stream = Requests(*values)
    async for _ in agent(stream):
        pass
    return stream.finished


def request(user_id: str) -> bytes:
    return encode(Request("r1", user_id))


async def test_requests_are_answered_under_their_positions(bench: Bench) -> None:
    assert await answer(bench, request("u0"), request("u1"))
    answers = [json.loads(value) for value in bench.outputs.values(TOPIC)]
    positions = [(one["recommendation_id"], one["user_id"]) for one in answers]
    assert positions == [("requests/3/0", "u0"), ("requests/3/1", "u1")]


async def test_what_was_fetched_before_a_rebalance_is_left_to_the_new_owner(bench: Bench) -> None:
    """B.7: it answers under the same id."""
    bench.generation = 2
    assert not await answer(bench, request("u0"))
    assert not bench.outputs.sent


async def test_lists_that_were_made_while_the_partition_moved_are_not_sent(bench: Bench) -> None:
    """B.7: the generation is looked at again right before they are sent."""

    def move() -> None:
        bench.generation = 2

    assert not await answer(bench, request("u0"), meanwhile=move)
    assert not bench.outputs.sent


async def test_a_worker_that_was_frozen_while_it_made_lists_sends_none(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """B.7: its lease has lapsed, and another may own the partition."""
    monkeypatch.setattr(bench.ownership, "_lease", Lease(-1.0))
    with pytest.raises(LeaseLapsedError):
        await answer(bench, request("u0"))
    assert not bench.outputs.sent


async def test_a_request_that_cannot_be_answered_is_a_dead_letter_and_the_others_are_answered(bench: Bench) -> None:
    assert await answer(bench, request("u0"), b"\xff", request("u2"), request("u3"))
    assert [json.loads(value)["user_id"] for value in bench.outputs.values(TOPIC)] == ["u0", "u3"]
    reasons = {
        value: dict(headers)["reason"].decode()
        for topic, _, value, headers in bench.outputs.with_headers
        if topic == "headrace.dead-letters"
    }
    assert reasons == {b"\xff": "undecodable", request("u2"): "unprocessable"}
