"""A.: a worker that ended three times at one place says where, finds the record, and does not take it a fourth time."""

from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

from streams.agents.under_way import Suspect, UnderWay
from streams.kafka.outputs import NotAcknowledgedError
from streams.state.fold import Fold, Folded
from streams.state.user_state import decode_state
from tests.unit.pipeline_bench import CHANGELOG, Bench, event, settle

TOPIC = "headrace.interactions"


def opened(folder: Path) -> UnderWay:
    """Return what a worker that starts reads."""
    return UnderWay(folder / "under-way", [TOPIC, "headrace.impressions"], 4)


def test_what_was_folded_is_not_suspect(tmp_path: Path) -> None:
    for _ in range(5):
        under_way = opened(tmp_path)
        under_way.begin(TOPIC, 1, 10, 19)
        under_way.end(TOPIC, 1)
    assert opened(tmp_path).suspect(TOPIC, 1, 0, 100) is None


def test_two_ends_at_one_place_make_it_suspect_and_narrow_it(tmp_path: Path) -> None:
    opened(tmp_path).begin(TOPIC, 1, 10, 19)
    assert opened(tmp_path).suspect(TOPIC, 1, 0, 100) is None
    opened(tmp_path).begin(TOPIC, 1, 15, 40)
    under_way = opened(tmp_path)
    assert under_way.suspect(TOPIC, 1, 0, 100) == Suspect(15, 19, 2)
    assert under_way.suspect(TOPIC, 1, 20, 100) is None
    assert under_way.suspect(TOPIC, 2, 0, 100) is None


def test_an_end_somewhere_else_begins_the_count_anew(tmp_path: Path) -> None:
    for first in (10, 20, 10, 20):
        opened(tmp_path).begin(TOPIC, 1, first, first + 9)
    assert opened(tmp_path).suspect(TOPIC, 1, 0, 100) is None


def test_what_was_finished_is_suspect_no_more(tmp_path: Path) -> None:
    for _ in range(2):
        opened(tmp_path).begin(TOPIC, 1, 10, 19)
    opened(tmp_path).finish(TOPIC, 1, 18)
    assert opened(tmp_path).suspect(TOPIC, 1, 0, 100)
    opened(tmp_path).finish(TOPIC, 1, 19)
    assert opened(tmp_path).suspect(TOPIC, 1, 0, 100) is None


def test_a_file_of_other_partitions_or_a_torn_one_is_left(tmp_path: Path) -> None:
    for _ in range(2):
        opened(tmp_path).begin(TOPIC, 1, 10, 19)
    (tmp_path / "under-way").write_bytes(b"torn")
    assert opened(tmp_path).suspect(TOPIC, 1, 0, 100) is None


class KilledError(BaseException):
    """Stands in for kill -9: nothing of the worker runs after it."""


def deadly(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the process end when it folds item `deadly`."""
    add = Fold.add

    def defective(self: Fold, state: Any, interaction: Any, offset: int, day: int) -> Folded:
        if interaction.item_id == "deadly":
            raise KilledError
        return add(self, state, interaction, offset, day)

    monkeypatch.setattr(Fold, "add", defective)


BATCH = [event(number, item_id="deadly" if number == 5 else f"i{number}") for number in range(9)]


async def start(folder: Path) -> Bench:
    """Let a worker take the batch, with a Kafka that acknowledges all there is."""
    bench = Bench(folder)
    bench.outputs.at_once = True
    await bench.take(BATCH)
    await settle()
    return bench


async def test_a_record_at_which_the_process_ends_is_set_aside_by_the_fourth_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    deadly(monkeypatch)
    for number in range(1, 4):
        with capture_logs() as logs, pytest.raises(KilledError):
            await start(tmp_path)
        told = [(log["first"], log["last"]) for log in logs if log["event"] == "worker_ended_here"]
        assert told == ([(0, 8)] if number == 3 else [])
    bench = await start(tmp_path)
    [letter] = [(value, dict(headers)) for topic, _, value, headers in bench.outputs.with_headers if "dead" in topic]
    assert letter[0] == BATCH[5][1]
    assert letter[1]["offset"] == b"5"
    assert b"ended 3 times" in letter[1]["detail"]
    [state] = bench.outputs.values(CHANGELOG)
    assert decode_state(state).count == 8
    assert bench.journal[-1] == "finished 8"


async def test_a_batch_that_cannot_be_finished_is_told_at_the_third_start_and_costs_no_record(tmp_path: Path) -> None:
    for _ in range(2):
        bench = Bench(tmp_path)
        await bench.take(BATCH)
        bench.outputs.acknowledge("headrace.rows")
        bench.outputs.acknowledge(CHANGELOG, refuse=True)
        with pytest.raises(NotAcknowledgedError):
            await bench.completion.watch()
    with capture_logs() as logs:
        bench = await start(tmp_path)
    [told] = [log for log in logs if log["event"] == "worker_ended_here"]
    assert (told["topic"], told["first"], told["last"], told["times"]) == (TOPIC, 0, 8, 2)
    assert not bench.outputs.values("headrace.dead-letters")
    assert bench.journal[-1] == "finished 8"
    assert opened(tmp_path).suspect(TOPIC, 0, 0, 100) is None
