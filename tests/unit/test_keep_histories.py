"""The order of effects in a batch: changelog acknowledged, local store, answers acknowledged, finished."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from streams.agents.completion import HungBatchError
from streams.agents.gaps import SkippedBatchError
from streams.decoding import decode_example
from streams.kafka.outputs import NotAcknowledgedError
from streams.records import Impression, Shown, encode
from streams.state.user_state import UserState, decode_state
from tests.builders import NOON
from tests.unit.pipeline_bench import CHANGELOG, Bench, Stream, event, settle


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path)


async def test_nothing_is_stored_before_the_changelog_has_it_and_nothing_is_answered_before_it_is_stored(
    bench: Bench,
) -> None:
    await bench.take([event(0)])
    assert bench.journal == [f"sent {CHANGELOG}", "sent headrace.rows"]
    bench.outputs.acknowledge("headrace.rows")
    await settle()
    assert "stored" not in bench.journal
    bench.outputs.acknowledge(CHANGELOG)
    await settle()
    assert bench.journal[2:] == ["stored", "sent headrace.recommendations", "sent headrace.examples"]
    assert bench.timed_batches() is None
    bench.outputs.acknowledge("headrace.recommendations")
    await settle()
    assert bench.journal[-1] == "finished 0"
    assert bench.timed_batches() == 1


async def test_a_batch_that_waited_while_its_partition_was_taken_away_is_not_begun(bench: Bench) -> None:
    async with bench.pipeline._in_flight[0].alone():
        taking = asyncio.create_task(bench.take([event(0)]))
        await settle()
        await bench.pipeline.on_revoked([0])
    await taking
    assert not bench.outputs.values(CHANGELOG)
    assert not len(bench.states)


async def test_memory_is_empty_when_partitions_are_assigned(bench: Bench) -> None:
    await bench.take([event(0)])
    assert len(bench.states) == 1
    bench.pipeline.on_assigned()
    assert not len(bench.states)


async def test_a_refused_record_stops_the_worker_and_finishes_nothing(bench: Bench) -> None:
    await bench.take([event(0)])
    bench.outputs.acknowledge("headrace.rows")
    bench.outputs.acknowledge(CHANGELOG, refuse=True)
    with pytest.raises(NotAcknowledgedError):
        await asyncio.wait_for(bench.completion.watch(), 1.0)
    assert bench.table.rows == {}
    assert not [line for line in bench.journal if line.startswith("finished")]


async def test_a_batch_that_hangs_stops_the_worker(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("streams.agents.completion._FINISH_SECONDS", 0.01)
    await bench.take([event(0)])
    with pytest.raises(HungBatchError, match="partition 0"):
        await asyncio.wait_for(bench.completion.watch(), 1.0)
    assert not [line for line in bench.journal if line.startswith("finished")]


async def test_a_batch_of_before_a_rebalance_is_neither_stored_nor_finished(bench: Bench) -> None:
    await bench.take([event(0)])
    bench.generation = 2
    bench.outputs.acknowledge("headrace.rows")
    bench.outputs.acknowledge(CHANGELOG)
    await settle()
    assert bench.table.rows == {}
    assert "finished 0" not in bench.journal


async def test_several_events_of_a_user_in_a_batch_give_one_list_caused_by_the_last(bench: Bench) -> None:
    await bench.take([event(0), event(1), event(2)])
    bench.outputs.acknowledge("headrace.rows")
    bench.outputs.acknowledge(CHANGELOG)
    await settle()
    [answer] = bench.outputs.values("headrace.recommendations")
    assert b'"recommendation_id":"interactions/0/2"' in answer
    [state] = bench.outputs.values(CHANGELOG)
    assert decode_state(state).count == 3


async def test_an_event_read_again_is_answered_again_under_the_same_id_and_folded_once(bench: Bench) -> None:
    first, second = event(0, item_id="a"), event(1, item_id="b")
    for batch in ([first], [first, second]):
        await bench.take(batch)
        for topic in ("headrace.rows", CHANGELOG, "headrace.recommendations"):
            bench.outputs.acknowledge(topic)
        await settle()
    state = decode_state(bench.table.rows[b"u1"] or b"")
    assert [entry.item_id for entry in state.history()] == ["a", "b"]
    example = decode_example(bench.outputs.values("headrace.examples")[-1])
    assert example.history.items == []
    assert [(outcome.item_id, outcome.offset) for outcome in example.outcomes] == [("a", 0), ("b", 1)]


async def test_a_broken_event_is_dead_lettered_and_the_others_of_its_batch_are_folded(bench: Bench) -> None:
    await bench.take([event(0), (1, b"\xff"), event(2)])
    assert [value for topic, _, value in bench.outputs.sent if topic == "headrace.dead-letters"] == [b"\xff"]
    [state] = bench.outputs.values(CHANGELOG)
    assert decode_state(state).count == 2


async def test_a_state_that_cannot_be_read_is_dead_lettered_and_its_user_starts_afresh(bench: Bench) -> None:
    bench.table.rows[b"u1"] = b"poison"
    await bench.take([event(0)])
    assert (b"u1", b"poison") in [(key, value) for topic, key, value in bench.outputs.sent if "dead" in topic]
    [state] = bench.outputs.values(CHANGELOG)
    assert decode_state(state).count == 1


async def test_a_batch_whose_predecessor_was_dropped_is_not_folded_and_stops_the_worker(bench: Bench) -> None:
    """Folded, it would raise the offset in its users' states above the events that were dropped."""

    class Gap(Stream):
        async def events(self) -> AsyncIterator[Any]:
            [first, dropped, last] = [event async for event in super().events()]
            first.message.after, dropped.message.after, last.message.after = None, first.message, dropped.message
            dropped.message.begun = False
            yield first
            yield last

    async def fold_all() -> None:
        async for _ in bench.agent(Gap(bench.journal, [event(0)], [event(1)], [event(2)])):
            await settle()

    with pytest.raises(SkippedBatchError, match="offset 1 of partition 0"):
        await fold_all()
    with pytest.raises(SkippedBatchError):
        await asyncio.wait_for(bench.completion.watch(), 1.0)
    assert [decode_state(value).count for value in bench.outputs.values(CHANGELOG)] == [1]


DAY = 20_000


def idle(bench: Bench, user_id: str, day: int) -> None:
    bench.table.rows[user_id.encode()] = UserState(offset=5, day=day).encode()


async def expire(bench: Bench, user_ids: list[str]) -> int:
    gone = await bench.pipeline.tombstone(0, user_ids, lambda state: 0 < state.day < DAY, [])
    return len(gone)


async def test_an_idle_user_is_tombstoned_in_the_changelog_before_the_store_forgets(bench: Bench) -> None:
    idle(bench, "u1", DAY - 1)
    forgetting = asyncio.create_task(expire(bench, ["u1"]))
    await settle()
    assert bench.outputs.sent == [(CHANGELOG, b"u1", None)]
    assert b"u1" in bench.table.rows
    bench.outputs.acknowledge(CHANGELOG)
    assert await forgetting == 1
    assert bench.table.rows[b"u1"] is None


async def test_a_user_who_came_back_in_the_meantime_is_not_forgotten(bench: Bench) -> None:
    idle(bench, "u1", DAY - 1)
    await bench.take([event(9)])  # of today, and not in the store yet
    assert await expire(bench, ["u1"]) == 0
    assert (CHANGELOG, b"u1", None) not in bench.outputs.sent


async def test_what_comes_while_a_user_is_being_forgotten_is_stored_after_the_tombstone(bench: Bench) -> None:
    idle(bench, "u1", DAY - 1)
    forgetting = asyncio.create_task(expire(bench, ["u1"]))
    await settle()
    await bench.take([event(9)])
    assert [value is None for topic, _, value in bench.outputs.sent if topic == CHANGELOG] == [True, False]
    for topic in ("headrace.rows", CHANGELOG):
        bench.outputs.acknowledge(topic)
    await forgetting
    await settle()
    assert decode_state(bench.table.rows[b"u1"] or b"").offset == 9


async def test_nothing_is_forgotten_across_a_rebalance(bench: Bench) -> None:
    idle(bench, "u1", DAY - 1)
    async with bench.pipeline._in_flight[0].alone():
        forgetting = asyncio.create_task(expire(bench, ["u1"]))
        await settle()
        bench.generation = 2
    assert await forgetting == 0
    assert (CHANGELOG, b"u1", None) not in bench.outputs.sent


async def test_a_late_impression_gives_an_example_and_no_list(bench: Bench) -> None:
    await bench.take([event(0, item_id="a"), event(1, item_id="b")])
    shown = Impression("m1", "u1", [Shown("b", 0), Shown("c", 1)], NOON + 1)
    async for _ in bench.join(Stream(bench.journal, [(0, encode(shown))])):
        await settle()
    for topic in ("headrace.rows", CHANGELOG, "headrace.recommendations", "headrace.examples"):
        bench.outputs.acknowledge(topic)
        await settle()
    assert len(bench.outputs.values("headrace.recommendations")) == 1
    example = decode_example(bench.outputs.values("headrace.examples")[-1])
    assert (example.history.items, example.outcomes) == (["a"], [])
    [exposure] = example.shown
    assert (exposure.impression_id, exposure.taken, exposure.passed) == ("m1", Shown("b", 0), [Shown("c", 1)])


async def test_a_click_on_what_was_shown_gives_its_negatives_with_its_outcome(bench: Bench) -> None:
    shown = Impression("m1", "u1", [Shown("b", 0), Shown("c", 1)], NOON)
    async for _ in bench.join(Stream(bench.journal, [(3, encode(shown))])):
        await settle()
    await bench.take([event(4, item_id="b")])
    for topic in ("headrace.rows", CHANGELOG):
        bench.outputs.acknowledge(topic)
    await settle()
    example = decode_example(bench.outputs.values("headrace.examples")[-1])
    assert [(one.taken.item_id, one.passed[0].item_id, one.offset) for one in example.shown] == [("b", "c", 4)]
    assert [outcome.offset for outcome in example.outcomes] == [4]


async def test_a_producers_clock_does_not_count_as_latency(bench: Bench) -> None:
    """Issue 10, C.2: a record's timestamp is its producer's, and SlowRecommendations went by it."""
    await bench.take([event(0)])  # its timestamp is noon of a day long ago
    for topic in ("headrace.rows", CHANGELOG, "headrace.recommendations"):
        bench.outputs.acknowledge(topic)
        await settle()
    registry = bench.metrics
    assert registry.get_sample_value("headrace_recommendation_latency_seconds_count") == 1
    assert 0 < (registry.get_sample_value("headrace_recommendation_latency_seconds_sum") or 0) < 60
