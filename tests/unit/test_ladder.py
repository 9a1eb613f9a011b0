"""A list always comes: from the first rung that answers in time, filled by those below, marked with what gave it."""

import asyncio
from collections.abc import Sequence
from typing import Any, Final

import numpy as np
import pytest
from prometheus_client import CollectorRegistry

from engine.batch import HistoryBatch
from engine.weights import CHALLENGER, CHAMPION
from streams.catalogue.catalogue import Catalogue
from streams.followers.neighbours import NeighbourTables
from streams.instruments import WorkerInstruments
from streams.lists.ladder import Ladder, RankedList
from streams.lists.query import Query
from streams.records import TYPE_CODES, Item
from streams.settings import Settings
from streams.state.entries import Entry
from streams.triton.scorer import Proposals
from tests.fakes import FakeScorer

ITEMS = 8
VIEW: Final = TYPE_CODES["view"]
DISLIKE: Final = TYPE_CODES["dislike"]


class Tables:
    """What i1 and i2 are taken with; i5 is what most take, then i4."""

    def __init__(self) -> None:
        rows_IK, weights_IK = np.zeros((ITEMS + 1, 2), np.int32), np.zeros((ITEMS + 1, 2), np.float32)
        rows_IK[1], weights_IK[1] = [6, 7], [0.5, 0.4]
        rows_IK[2], weights_IK[2] = [7, 3], [0.5, 0.1]
        popularity_I = np.array([0, 1, 1, 1, 3, 4, 1, 1, 1], np.float32)
        self.tables: NeighbourTables | None = NeighbourTables(rows_IK, weights_IK, popularity_I, 9)


class Bench:
    def __init__(self, **settings: object) -> None:
        self.scorer = FakeScorer(ITEMS + 1)
        self.neighbours = Tables()
        self.catalogue = Catalogue()
        for number in range(1, ITEMS + 1):
            self.catalogue.add_row(f"i{number}")
        self.instruments = WorkerInstruments(CollectorRegistry())
        self.ladder = Ladder(self.scorer, self.neighbours, self.catalogue, Settings(**settings), self.instruments)  # type: ignore[arg-type]

    def fallbacks(self, reason: str) -> float:
        found = self.instruments.registry.get_sample_value("headrace_fallback_lists_total", {"reason": reason})
        return found or 0.0

    async def ask(self, *history: str, k: int = 3, exclude: Sequence[str] = (), seconds: float = 1.0) -> RankedList:
        entries = [Entry(item_id, 2, 1000 * at) for at, item_id in enumerate(history)]
        [ranking] = await self.ladder.recommend([Query(entries, k, frozenset(exclude))], seconds)
        return ranking


def ids(ranking: RankedList) -> list[str]:
    return [item.item_id for item in ranking.items]


async def test_the_models_list_comes_in_its_order_with_its_version() -> None:
    ranking = await Bench().ask("i2")
    assert (ids(ranking), ranking.rung, ranking.version) == (["i3", "i4", "i5"], "triton", 1)
    assert {item.source for item in ranking.items} == {"sequence"}


@pytest.mark.parametrize("fault", ["dead", "late", "no time left"])
async def test_without_the_model_neighbours_answer_then_popularity_fills_up(fault: str) -> None:
    bench = Bench()
    bench.scorer.failure = ConnectionError() if fault == "dead" else None
    bench.scorer.late = fault == "late"
    ranking = await bench.ask("i1", "i2", k=4, seconds=0.0 if fault == "no time left" else 1.0)
    # i7: 0.5 after i2 and 0.9 * 0.4 after i1; i6: 0.9 * 0.5; i3: 0.1; then the most popular
    assert ids(ranking) == ["i7", "i6", "i3", "i5"]
    assert [item.score for item in ranking.items] == [0.86, 0.45, 0.1, 4.0]
    assert [item.source for item in ranking.items] == ["covisit"] * 3 + ["popular"]
    assert (ranking.rung, ranking.version, ranking.generation) == ("covisit", 0, 9)


async def test_a_stranger_gets_what_is_popular() -> None:
    bench = Bench()
    bench.scorer.failure = ConnectionError()
    ranking = await bench.ask(k=2)
    assert (ids(ranking), ranking.rung) == (["i5", "i4"], "popular")


async def test_before_the_first_generation_the_catalogue_answers_from_its_beginning() -> None:
    bench = Bench()
    bench.scorer.failure, bench.neighbours.tables = ConnectionError(), None
    ranking = await bench.ask("i1", k=2)
    assert (ids(ranking), ranking.rung, ranking.generation) == (["i1", "i2"], "popular", 0)


async def test_a_short_list_of_the_model_is_filled_from_the_next_rung() -> None:
    bench = Bench(triton={"candidates": 10})
    bench.scorer.rows = 3  # it knows i1 and i2 only
    ranking = await bench.ask("i1", k=4)
    assert ids(ranking) == ["i2", "i1", "i6", "i7"]
    assert [item.source for item in ranking.items] == ["sequence", "sequence", "covisit", "covisit"]
    assert ranking.rung == "triton"


async def test_retired_excluded_and_unknown_items_are_left_out_of_every_rung() -> None:
    bench = Bench()
    bench.catalogue.describe("i3", None)
    bench.catalogue.describe("i5", Item("i5", in_stock=False))
    assert ids(await bench.ask("i2", exclude=["i4", "nobody knows"])) == ["i6", "i7", "i8"]
    bench.scorer.failure = ConnectionError()
    assert ids(await bench.ask("i2", k=8, exclude=["i4"])) == ["i7", "i1", "i2", "i6", "i8"]


@pytest.mark.parametrize(("setting", "expected"), [("seen", ["i4", "i5", "i6"]), ("none", ["i3", "i4", "i5"])])
async def test_what_was_seen_is_left_out_when_the_setting_says_so(setting: str, expected: list[str]) -> None:
    assert ids(await Bench(serving={"filter_seen": setting}).ask("i3", "i2")) == expected


async def test_after_a_failure_only_one_list_at_a_time_tries_the_model(monkeypatch: pytest.MonkeyPatch) -> None:
    bench, now = Bench(), [100.0]
    monkeypatch.setattr("streams.lists.admission.time.monotonic", lambda: now[0])
    bench.scorer.failure = ConnectionError()
    await bench.ask("i1")
    await bench.ask("i1")
    assert len(bench.scorer.asked) == 1
    now[0] += 0.21
    await bench.ask("i1")
    await bench.ask("i1")
    assert len(bench.scorer.asked) == 2
    bench.scorer.failure, now[0] = None, now[0] + 0.21
    assert [(await bench.ask("i1")).rung for _ in range(3)] == ["triton"] * 3
    failures = bench.instruments.registry.get_sample_value(
        "headrace_scorer_failures_total", {"reason": "ConnectionError"}
    )
    assert failures == 2


async def test_many_users_are_asked_for_in_batches_and_answered_in_order() -> None:
    bench = Bench(triton={"batch_users": 3})
    queries = [Query([Entry(f"i{number % ITEMS + 1}", 2, 0)], 1) for number in range(8)]
    rankings = await bench.ladder.recommend(queries, 1.0)
    assert [len(batch) for batch in bench.scorer.asked] == [3, 3, 2]
    assert [ids(ranking) for ranking in rankings] == [[f"i{(number + 1) % ITEMS + 1}"] for number in range(8)]


# B.8: with Triton away a disliked item was number 1, by the neighbours of the other and as its own.
@pytest.mark.parametrize("fault", [None, ConnectionError()])
async def test_a_disliked_item_is_on_no_rung_and_no_neighbours_come_from_it(fault: Exception | None) -> None:
    bench = Bench()
    bench.scorer.failure = fault
    history = [Entry("i2", VIEW, 0), Entry("i7", DISLIKE, 1000), Entry("i5", DISLIKE, 2000), Entry("i1", DISLIKE, 3000)]
    [ranking] = await bench.ladder.recommend([Query(history, 8, kept=[Entry("i4", DISLIKE, 0)])], 1.0)
    assert not {"i1", "i4", "i5", "i7"} & set(ids(ranking))
    assert len(ranking.items) == 4
    if fault:  # i7 and i3 are taken with i2, i6 and i7 with i1
        assert [(item.item_id, item.source) for item in ranking.items[:2]] == [("i3", "covisit"), ("i2", "popular")]


async def test_when_all_that_the_model_proposes_is_retired_the_list_is_full_and_says_what_gave_it() -> None:
    bench = Bench(triton={"candidates": 10})
    bench.scorer.rows = 3
    for number in (1, 2):
        bench.catalogue.describe(f"i{number}", None)
    ranking = await bench.ask("i1", k=4)
    assert ids(ranking) == ["i6", "i7", "i5", "i4"]
    assert (ranking.rung, ranking.version, ranking.generation) == ("covisit", 0, 9)


# A.10: one late answer closed Triton for everybody for 200 ms.
async def test_after_a_late_answer_the_next_list_is_the_models() -> None:
    bench = Bench()
    bench.scorer.late = True
    assert (await bench.ask("i1")).rung == "covisit"
    bench.scorer.late = False
    assert [(await bench.ask("i1")).rung for _ in range(3)] == ["triton"] * 3


async def test_a_list_does_not_wait_for_a_late_answer_and_the_server_gets_no_more_meanwhile() -> None:
    bench = Bench(triton={"timeout_ms": 2})
    answer, gate = bench.scorer.top_k, asyncio.Event()

    async def held(*args: Any) -> Proposals:
        await gate.wait()
        return await answer(*args)

    bench.scorer.top_k = held  # type: ignore[method-assign]
    rankings = [await bench.ask("i1") for _ in range(80)]
    assert {ranking.rung for ranking in rankings} == {"covisit"}
    assert bench.fallbacks("late") + bench.fallbacks("busy") == 80
    assert bench.fallbacks("late") < 20
    gate.set()
    await asyncio.gather(*bench.ladder._asking)
    assert (await bench.ask("i1")).rung == "triton"


async def test_a_deadline_of_many_seconds_is_waited_for() -> None:
    bench, given = Bench(triton={"timeout_ms": 30_000}), []
    answer = bench.scorer.top_k

    async def noted(batch: HistoryBatch, k: int, timeout_seconds: float, slot: str) -> Proposals:
        given.append(timeout_seconds)
        return await answer(batch, k, timeout_seconds, slot)

    bench.scorer.top_k = noted  # type: ignore[assignment]
    await bench.ask("i1", seconds=60.0)
    assert given == [30.0]


@pytest.mark.parametrize(("generation", "reason"), [(0, "untrained"), (9, None)])
async def test_a_model_that_was_never_trained_gives_no_list(generation: int, reason: str | None) -> None:
    # C.1: generation 0 won against co-visits of generation 9.
    bench = Bench()
    bench.scorer.generation = generation
    ranking = await bench.ask("i2")
    assert ranking.rung == ("covisit" if reason else "triton")
    assert bench.fallbacks("untrained") == bool(reason)
    assert bench.instruments.triton_generation._value.get() == generation


def test_similar_items_are_the_neighbours_that_can_be_had() -> None:
    bench = Bench()
    bench.catalogue.describe("i6", None)
    assert [item.item_id for item in bench.ladder.similar("i1", 5) or []] == ["i7"]
    assert bench.ladder.similar("i8", 5) == []
    assert bench.ladder.similar("never seen", 5) is None


async def test_users_of_a_canary_are_answered_by_the_challenger_and_each_gets_its_own_list() -> None:
    bench = Bench()
    bench.scorer.slots = {CHAMPION, CHALLENGER}
    bench.ladder._slot_of = lambda user_id: CHALLENGER if user_id == "canary" else CHAMPION
    histories = {"u1": "i1", "canary": "i3", "u2": "i5"}
    queries = [Query([Entry(item_id, 2, 0)], 1, user_id=user_id) for user_id, item_id in histories.items()]
    answers = await bench.ladder.recommend(queries, 1.0)
    assert [answer.slot for answer in answers] == [CHAMPION, CHALLENGER, CHAMPION]
    assert [ids(answer) for answer in answers] == [["i2"], ["i4"], ["i6"]]


async def test_a_canary_without_a_challenger_is_answered_by_the_champion() -> None:
    bench = Bench()
    bench.ladder._slot_of = lambda _: CHALLENGER
    assert (await bench.ask("i1")).slot == CHAMPION


async def test_items_nobody_has_touched_are_counted_apart() -> None:
    bench = Bench()
    assert bench.neighbours.tables
    bench.neighbours.tables.popularity_I[4] = 0
    for number in range(ITEMS + 1, ITEMS + 3):  # rows that the generation does not have yet
        bench.catalogue.add_row(f"i{number}")
    bench.scorer.rows = ITEMS + 3
    assert ids(await bench.ask("i2")) == ["i3", "i4", "i5"]
    assert ids(await bench.ask("i8")) == ["i9", "i10", "i1"]
    counted = {touched: bench.instruments.listed_items.labels(touched)._value.get() for touched in ("yes", "no")}
    assert counted == {"yes": 3, "no": 3}
