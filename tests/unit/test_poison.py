"""A.: one record's failure is a dead letter, and the records beside it are folded and answered (issue 10, the rule)."""

import asyncio
import json
from collections.abc import Coroutine, Sequence
from pathlib import Path
from typing import Any

import pytest

from streams.errors import HeadraceError, StartError
from streams.kafka.lease import LeaseLapsedError
from streams.lists.ladder import RankedList
from streams.lists.query import Query
from streams.records import Impression, RecommendedItem, Shown, encode
from streams.state.fold import Fold, Folded
from streams.state.impressions import Impressions
from streams.state.user_state import decode_state
from tests.builders import NOON
from tests.unit.pipeline_bench import CHANGELOG, Bench, OneRung, Stream, event, settle


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path)


def poison(monkeypatch: pytest.MonkeyPatch, failure: Exception | None = None) -> None:
    """Let the fold raise on item `poison`, after it has changed the state."""
    add = Fold.add

    def defective(self: Fold, state: Any, interaction: Any, offset: int, day: int) -> Folded:
        folded = add(self, state, interaction, offset, day)
        if interaction.item_id == "poison":
            raise failure or ZeroDivisionError("a defect")
        return folded

    monkeypatch.setattr(Fold, "add", defective)


async def take(bench: Bench, *batches: list[tuple[int, bytes]]) -> None:
    """Let the agent take batches, with a Kafka that acknowledges all there is."""
    await acknowledging(bench, bench.take(*batches))


async def acknowledging(bench: Bench, takes: Coroutine[Any, Any, None]) -> None:
    taking = asyncio.create_task(takes)
    for _ in range(1000):
        bench.outputs.acknowledge_all()
        await asyncio.sleep(0.001)
        if taking.done() and not bench.completion._tasks:
            break
    await taking


def dead_letters(bench: Bench) -> list[tuple[bytes | None, dict[str, str]]]:
    return [
        (value, {name: text.decode() for name, text in headers})
        for topic, _, value, headers in bench.outputs.with_headers
        if topic == "headrace.dead-letters"
    ]


async def test_a_record_that_the_fold_raises_on_is_a_dead_letter_and_the_others_are_folded_and_answered(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    poison(monkeypatch)
    bad = event(3, item_id="poison")
    await take(bench, [event(0), event(1)], [event(2), bad, event(4)], [event(5)])
    [(value, said)] = dead_letters(bench)
    assert value == bad[1]
    assert (said["reason"], said["offset"], said["partition"]) == ("unprocessable", "3", "0")
    assert "ZeroDivisionError: a defect" in said["detail"]
    state = decode_state(bench.table.rows[b"u1"] or b"")
    assert (state.count, state.offset) == (5, 5)
    assert [line for line in bench.journal if line.startswith("finished")] == ["finished 1", "finished 4", "finished 5"]
    causes = [json.loads(value)["cause"]["offset"] for value in bench.outputs.values("headrace.recommendations")]
    assert causes == [1, 4, 5]


async def test_a_batch_of_nothing_but_poison_is_finished(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    poison(monkeypatch)
    await take(bench, [event(number, item_id="poison") for number in range(9)])
    assert sorted(int(said["offset"]) for _, said in dead_letters(bench)) == list(range(9))
    assert bench.journal[-1] == "finished 8"
    await asyncio.wait_for(bench.progress.reached(0, 8, 1.0), 1.0)


async def test_records_that_raise_only_together_are_found(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    add = Fold.add

    def defective(self: Fold, state: Any, interaction: Any, offset: int, day: int) -> Folded:
        if state.count >= 3:
            raise ZeroDivisionError("more than three")
        return add(self, state, interaction, offset, day)

    monkeypatch.setattr(Fold, "add", defective)
    await take(bench, [event(number) for number in range(6)])
    assert [said["offset"] for _, said in dead_letters(bench)] == ["3", "4", "5"]
    assert decode_state(bench.table.rows[b"u1"] or b"").count == 3


@pytest.mark.parametrize(
    "failure",
    [StartError("the disk is full"), LeaseLapsedError("frozen"), OSError("gone"), Exception("IO error: RocksDB's")],
)
async def test_what_is_no_records_fault_ends_the_worker_and_costs_no_record(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, failure: Exception
) -> None:
    poison(monkeypatch, failure)
    with pytest.raises(type(failure)):
        await take(bench, [event(0), event(1, item_id="poison")])
    with pytest.raises(type(failure)):
        await asyncio.wait_for(bench.completion.watch(), 1.0)
    assert not dead_letters(bench)
    assert "finished 1" not in bench.journal


async def test_a_state_that_the_changelog_does_not_take_costs_the_record_that_made_it_so_large(bench: Bench) -> None:
    """A.1: Kafka would refuse it at each start; the limit is the topic's own."""
    bench.outputs.limit(CHANGELOG, 900)
    large = event(3, item_id="j" * 250)
    await take(bench, [event(0), event(1, item_id="i" * 250), event(2), large, event(4, user_id="u2")])
    [(value, said)] = dead_letters(bench)
    assert value == large[1]
    assert said["reason"] == "too_large"
    assert CHANGELOG in said["detail"]
    assert bench.journal[-1] == "finished 4"
    assert decode_state(bench.table.rows[b"u1"] or b"").count == 3


async def test_an_impression_that_the_join_raises_on_is_a_dead_letter(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    show = Impressions.show

    def defective(self: Impressions, state: Any, impression: Impression, *more: Any) -> Any:
        if impression.event_id == "poison":
            raise OverflowError("can't serialize ints >= 2**64")
        return show(self, state, impression, *more)

    monkeypatch.setattr(Impressions, "show", defective)
    batch = [
        (number, encode(Impression(name, "u1", [Shown("b", 0)], NOON))) for number, name in enumerate(("m1", "poison"))
    ]
    bench.log = dict(enumerate(batch))

    async def join() -> None:
        async for _ in bench.join(Stream(bench.journal, batch)):
            await settle()

    await acknowledging(bench, join())
    [(value, said)] = dead_letters(bench)
    assert value == batch[1][1]
    assert said["reason"] == "unprocessable"


class RefusesOne(OneRung):
    """Raises when u2 is among those who want a list."""

    async def recommend(self, queries: Sequence[Query], seconds_left: float) -> list[RankedList]:
        if any(query.user_id == "u2" for query in queries):
            raise ZeroDivisionError("no list for u2")
        return await super().recommend(queries, seconds_left)


async def test_a_list_that_cannot_be_made_is_left_out_with_a_dead_letter_and_the_others_are_sent(bench: Bench) -> None:
    bench.recommender.ladder = RefusesOne()  # type: ignore[assignment]
    await take(bench, [event(number, user_id=f"u{number}") for number in range(5)])
    answered = [json.loads(value)["user_id"] for value in bench.outputs.values("headrace.recommendations")]
    assert answered == ["u0", "u1", "u3", "u4"]
    [(value, said)] = dead_letters(bench)
    assert (value, said["offset"], said["reason"]) == (None, "2", "unprocessable")
    assert bench.journal[-1] == "finished 4"


async def test_a_list_that_its_topic_does_not_take_is_left_out_with_a_dead_letter(bench: Bench) -> None:
    """A.1: the sentence names the topic, the bytes and the remedy."""
    bench.outputs.limit("headrace.recommendations", 600)
    bench.recommender.ladder = LongList()  # type: ignore[assignment]
    await take(bench, [event(0)])
    [(_, said)] = dead_letters(bench)
    assert said["reason"] == "too_large"
    assert "headrace.recommendations" in said["detail"]
    assert "max.message.bytes" in said["detail"]
    assert bench.journal[-1] == "finished 0"


class LongList(OneRung):
    async def recommend(self, queries: Sequence[Query], _seconds_left: float) -> list[RankedList]:
        return [RankedList([RecommendedItem("x" * 255, 1.0, "popular")] * 10, "popular", 0, 0) for _ in queries]


async def test_answers_that_fail_as_a_whole_are_left_out_and_the_batch_is_finished(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("streams.agents.recommender.Recommendations.send", lambda *_: 1 / 0)
    await take(bench, [event(0)])
    assert bench.journal[-1] == "finished 0"
    assert bench.metrics.get_sample_value("headrace_left_out_batches_total") == 1


def test_every_error_of_ours_but_a_rejection_is_no_records_fault() -> None:
    from streams.agents.faults import rejection

    with pytest.raises(HeadraceError):
        rejection(HeadraceError("any"))
