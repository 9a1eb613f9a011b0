"""What HTTP is told about a user is what the worker's state says, of the user's own partition, by its pseudonym."""

import json
from types import SimpleNamespace
from typing import Any

import pytest
from faust.types import TP
from prometheus_client import CollectorRegistry
from pydantic import SecretStr

from streams.api.worker_serving import WorkerServing
from streams.catalogue.catalogue import Catalogue
from streams.errors import NotReadyError, PositionError
from streams.instruments import WorkerInstruments
from streams.lists.ladder import RankedList
from streams.lists.query import Query
from streams.pseudonyms import pseudonyms
from streams.records import RecommendedItem
from streams.settings import Settings, StateSettings
from streams.state.fold import Fold
from streams.state.progress import Progress
from streams.state.user_state import UserState
from streams.state.user_states import UserStates
from tests.builders import interaction

CHANGELOG = "changelog"
PARTITION = 0
"""Of u1 among four, by Kafka's Java partitioner."""


class Table:
    changelog_topic_name = CHANGELOG

    def __init__(self) -> None:
        self.rows: dict[bytes, bytes] = {}

    def read(self, partition: int, key: bytes) -> bytes | None:
        return self.rows.get(key) if partition == PARTITION else None


class Outputs:
    def __init__(self) -> None:
        self.sent: list[tuple[str, bytes, dict[str, Any], int]] = []

    def delivery(self) -> "Outputs":
        return self

    def send(self, topic: str, key: bytes, value: bytes, _delivery: object, *, partition: int) -> None:
        self.sent.append((topic, key, json.loads(value), partition))

    def seal(self) -> "Outputs":
        return self

    async def acknowledged(self) -> int:
        return 40 + len(self.sent)


class Ladder:
    def __init__(self) -> None:
        self.asked: list[Query] = []

    async def recommend(self, queries: list[Query], _seconds: float) -> list[RankedList]:
        self.asked += queries
        return [RankedList([RecommendedItem("i1", 1.0, "popular")], "popular", 0, 3) for _ in queries]


class Bench:
    def __init__(self, **settings: Any) -> None:
        self.table, self.outputs, self.ladder, self.progress = Table(), Outputs(), Ladder(), Progress("interactions")
        self.active = {TP(CHANGELOG, PARTITION)}
        self.others = {TP(CHANGELOG, PARTITION): "http://10.0.0.1:8080"}
        assignor = SimpleNamespace(
            is_active=self.active.__contains__, _tps_url=self.others, assigned_actives=lambda: self.active
        )
        self.app = SimpleNamespace(assignor=assignor, rebalancing=False, in_recovery=False)
        self.serving = WorkerServing(
            Settings(**settings),
            self.app,
            self.table,  # type: ignore[arg-type]
            UserStates(self.table, 10),  # type: ignore[arg-type]
            self.outputs,  # type: ignore[arg-type]
            Catalogue(),
            self.ladder,  # type: ignore[arg-type]
            self.progress,
            4,
            WorkerInstruments(CollectorRegistry()),
        )

    def remember(self, stored_id: str, *items: str) -> None:
        state, fold = UserState(), Fold(StateSettings())
        for offset, item_id in enumerate(items):
            fold.add(state, interaction(event_id=str(offset), item_id=item_id), offset)
        self.table.rows[stored_id.encode()] = state.encode()


async def test_a_history_comes_with_the_position_that_it_reflects() -> None:
    bench = Bench()
    bench.remember("u1", "a", "b")
    found = await bench.serving.history("u1", None)
    assert (found.position, [entry.item_id for entry in found.interactions]) == ("interactions/0/1", ["a", "b"])
    assert {entry.type for entry in found.interactions} == {"click"}


async def test_nothing_is_known_of_a_stranger_of_one_who_was_only_shown_items_and_of_one_who_cannot_be_read() -> None:
    bench = Bench()
    bench.table.rows[b"u1"] = UserState(sections=b"\x07\x00\x00\x00\x00").encode()
    assert (await bench.serving.history("u1", None)).position is None
    bench.table.rows[b"u1"] = b"poison"
    assert (await bench.serving.history("u1", None)).position is None
    del bench.table.rows[b"u1"]
    found = await bench.serving.history("u1", None)
    assert (found.position, found.interactions) == (None, [])


async def test_a_list_is_computed_from_the_history_as_it_is() -> None:
    bench = Bench()
    bench.remember("u1", "a", "b")
    found = await bench.serving.recommend("u1", 7, frozenset({"x"}), None)
    [query] = bench.ladder.asked
    assert ([entry.item_id for entry in query.history], query.k, query.exclude) == (["a", "b"], 7, frozenset({"x"}))
    assert (found.cause.position, found.rung, found.generation) == ("interactions/0/1", "popular", 3)


async def test_a_read_after_a_position_waits_until_it_is_reached(monkeypatch: pytest.MonkeyPatch) -> None:
    bench = Bench()
    bench.remember("u1", "a")
    monkeypatch.setattr("streams.api.worker_serving._AFTER_SECONDS", 0.01)
    with pytest.raises(TimeoutError):
        await bench.serving.history("u1", "interactions/0/1")
    bench.remember("u1", "a", "b")
    bench.progress.advance(PARTITION, 1)
    assert len((await bench.serving.history("u1", "interactions/0/1")).interactions) == 2


async def test_a_position_of_another_partition_is_refused_at_once() -> None:
    with pytest.raises(PositionError, match="partition, 0"):
        await Bench().serving.history("u1", "interactions/2/0")


async def test_with_a_key_the_id_sent_gives_the_partition_and_its_pseudonym_is_stored() -> None:
    bench = Bench(pseudonym_key="pepper")
    hidden = pseudonyms(SecretStr("pepper"), 4)("u1", PARTITION)
    positions = await bench.serving.add_events([interaction(user_id="u1")])
    [(topic, key, value, partition)] = bench.outputs.sent
    assert (topic, key.decode(), value["user_id"], partition) == ("headrace.interactions", hidden, hidden, PARTITION)
    assert positions == ["interactions/0/41"]
    bench.remember(hidden, "a")
    for asked in ("u1", hidden):  # the second is what others read from `recommendations`
        assert len((await bench.serving.history(asked, None)).interactions) == 1


def test_a_user_is_here_elsewhere_or_nowhere_for_a_moment() -> None:
    bench = Bench()
    assert bench.serving.owner("u1") is None
    bench.active.clear()
    bench.others[TP(CHANGELOG, PARTITION)] = "http://10.0.0.2:8080"
    assert bench.serving.owner("u1") == "10.0.0.2:8080"
    bench.others.clear()
    with pytest.raises(NotReadyError):
        bench.serving.owner("u1")


def test_while_partitions_move_it_is_not_ready_and_no_state_is_its_own_to_change() -> None:
    bench = Bench()
    assert (bench.serving.ready(), bench.serving.settled_partitions()) == (None, {PARTITION})
    bench.others.clear()
    assert bench.serving.ready() is not None
    bench.others[TP(CHANGELOG, PARTITION)] = "http://10.0.0.1:8080"
    for flag in ("rebalancing", "in_recovery"):
        setattr(bench.app, flag, True)
        assert bench.serving.ready() is not None
        assert bench.serving.settled_partitions() == set()
        setattr(bench.app, flag, False)
