"""A generation comes whole or not at all, and a reader that comes late reaches the state of one that was there."""

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from engine import generations
from engine.generations import (
    TURNS,
    Generation,
    GenerationAssembler,
    Place,
    TouchedRows,
    encode_generation,
    end_facts,
    withdrawal,
)
from engine.weights import Arrays, Weights, WeightsError

Log = list[tuple[str, bytes]]
TABLES = ("item_vectors", "neighbour_rows")


def weights(rows: int = 320, fill: float = 0.0) -> Weights:
    return Weights(
        {"dim": 2},
        {"item_vectors": np.full((rows, 2), fill, np.float32), "neighbour_rows": np.zeros((rows, 3), np.int32)},
        {"norm": np.full(2, fill, np.float32)},
    )


def touched(*rows: int, tables: tuple[str, ...] = TABLES) -> TouchedRows:
    made = TouchedRows()
    made.add(np.array(rows, np.int64), tables)
    return made


def whole(number: int, slot: str = "champion", rows: int = 320) -> Log:
    """A generation that writes all rows; they hold its number."""
    return encode_generation(weights(rows, number), slot, number, 1)[0]


def part(number: int, *rows: int, turn: int = 0, of: Weights | None = None) -> Log:
    """A generation that writes what has been touched since the one before."""
    before = Place(number - 1, 320, turn)
    return encode_generation(of or weights(fill=number), "champion", number, 1, touched=touched(*rows), before=before)[
        0
    ]


def read(log: Log, assembler: GenerationAssembler | None = None) -> list[Generation]:
    assembler = assembler or GenerationAssembler()
    return [generation for key, value in log if (generation := assembler.feed(key, value))]


def state(read_so_far: list[Generation]) -> NDArray[np.float32]:
    table = np.full((read_so_far[-1].rows, 2), np.nan, np.float32)
    for generation in read_so_far:
        change = generation.tables["item_vectors"]
        table[change.rows_U] = change.values
    return table


def compacted(log: Log) -> Log:
    newest = {key: at for at, (key, _) in enumerate(log)}
    return [record for at, record in enumerate(log) if newest[record[0]] == at]


def test_values_that_are_not_finite_are_not_written() -> None:
    with pytest.raises(WeightsError, match="not finite"):
        whole(np.nan)  # type: ignore[arg-type]


def test_the_end_mark_alone_makes_a_generation() -> None:
    log, place = encode_generation(weights(fill=2.0), "champion", 5, 3)

    assert [key for key, _ in log] == [
        "champion/dense",
        "champion/rows128/0",
        "champion/rows128/1",
        "champion/rows128/2",
        "champion/changes64/0",
        "champion/end",
    ]
    assert place == Place(generation=5, rows=320, turn=0)
    assert read(log[:-1]) == []
    [generation] = read(log)
    assert (generation.generation, generation.version, generation.rows) == (5, 3, 320)
    assert generation.tables["neighbour_rows"].rows_U.tolist() == list(range(320))
    np.testing.assert_array_equal(generation.dense["norm"], [2.0, 2.0])


def test_an_end_mark_is_read_without_its_tensors() -> None:
    header = json.dumps({"__metadata__": {"generation": "7"}}).encode()
    assert end_facts(b"champion/end", len(header).to_bytes(8, "little") + header) == {"generation": "7"}
    assert end_facts(b"champion/dense", whole(1)[0][1]) is None
    assert end_facts(b"champion/end", None) is None


def test_touched_rows_travel_by_table_and_each_block_comes_round() -> None:
    log, place = whole(1), Place(1, 320)
    assembler = GenerationAssembler()
    read(log, assembler)
    for number in range(2, TURNS + 3):
        changed = touched(136, 137, tables=("item_vectors",))
        log, place = encode_generation(weights(fill=number), "champion", number, 1, touched=changed, before=place)
        [generation] = read(log, assembler)
        blocks = [int(key.removeprefix("champion/rows128/")) for key, _ in log if "rows128" in key]
        assert blocks == [block for block in range(3) if block == place.turn % TURNS]
        if not blocks:
            assert generation.tables["item_vectors"].rows_U.tolist() == [136, 137]
            assert generation.tables["neighbour_rows"].rows_U.tolist() == []
            assert sum(len(value) for _, value in log) < 2000


def test_a_new_block_travels_whole_at_once() -> None:
    log, _ = encode_generation(
        weights(400), "champion", 2, 1, touched=touched(*range(320, 400)), before=Place(1, 320, 9)
    )
    assert [key for key, _ in log if "rows128" in key] == ["champion/rows128/3"]


def test_more_changes_than_a_record_should_hold_travel_as_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(generations, "_CHANGED_BYTES", 3 * (8 + 12))
    for rows, blocks in (([1, 2, 200], []), ([1, 2, 3, 200], ["champion/rows128/0", "champion/rows128/1"])):
        assert [key for key, _ in part(2, *rows, turn=9) if "rows128" in key] == blocks


def test_another_slot_is_ignored() -> None:
    assert read(whole(1, "challenger")) == []


def test_a_reader_of_some_tables_gets_no_others() -> None:
    wanted = GenerationAssembler(tables=frozenset({"neighbour_rows"}))
    for generation in read([*whole(1), *part(2, 136)], wanted):
        assert set(generation.tables) == {"neighbour_rows"}
        assert generation.dense == {}
    assert wanted._generation == 2


@pytest.mark.parametrize("at", [0, 1, 3, 4, 5])
def test_a_damaged_record_drops_its_generation_and_the_next_whole_one_is_taken(at: int) -> None:
    assembler = GenerationAssembler()
    read(whole(1), assembler)
    damaged = whole(2)
    key, value = damaged[at]
    value = value[:-1] + bytes([value[-1] ^ 1]) if at < 5 else value[:-3]

    for record in damaged[:at]:
        assert assembler.feed(*record) is None
    with pytest.raises(WeightsError, match=key):
        assembler.feed(key, value)
    assert read(damaged[at + 1 :], assembler) == []

    [third] = read(whole(3), assembler)
    assert third.generation == 3
    assert (third.tables["item_vectors"].values == 3).all()


@pytest.mark.parametrize("at", range(3))
def test_what_builds_on_a_damaged_record_waits_until_its_rows_come_round(at: int) -> None:
    """Whether it was the dense part, a block, or the changed rows: what follows is right or is not there."""
    assembler, table = GenerationAssembler(), np.zeros((320, 2), np.float32)
    log, place = encode_generation(weights(), "champion", 1, 1)
    taken = read(log, assembler)
    for number in range(2, 2 * TURNS + 4):
        table = table.copy()
        table[[7, 136]] = number
        of = Weights({}, {**weights().tables, "item_vectors": table}, {"norm": np.full(2, number, np.float32)})
        log, place = encode_generation(of, "champion", number, 1, touched=touched(7, 136), before=place)
        if place.turn == TURNS:  # where block 0 comes round
            key, value = log[at]
            log[at] = key, value[:-1] + bytes([value[-1] ^ 1])
            with pytest.raises(WeightsError):
                read(log, assembler)
            assert read(log[at + 1 :], assembler) == []
            continue
        if found := read(log, assembler):
            taken += found
            np.testing.assert_array_equal(state(taken), table)
    assert taken[-1].generation == 2 * TURNS + 3


def test_blocks_of_different_shape_are_no_generation_and_all_begins_anew() -> None:
    assembler = GenerationAssembler()
    read(whole(1), assembler)
    log = whole(2)
    wide: Arrays = {"item_vectors": np.zeros((320, 9), np.float32), "neighbour_rows": np.zeros((320, 3), np.int32)}
    other, _ = encode_generation(Weights({}, wide, {}), "champion", 2, 1)
    with pytest.raises(WeightsError):
        read([*log[:2], other[2], *log[3:]], assembler)
    assert read(part(3, 0), assembler) == []
    assert [found.generation for found in read(whole(4), assembler)] == [4]


def test_a_reader_that_has_missed_a_generation_takes_nothing_that_builds_on_it() -> None:
    assembler = GenerationAssembler()
    assert read(part(1, 136), assembler) == []
    read(whole(2), assembler)
    assert read(part(4, 136, turn=9), assembler) == []
    assert read(part(5, 136, turn=10), assembler) == []
    assert [found.generation for found in read(whole(6), assembler)] == [6]


@given(
    touches=st.lists(st.sets(st.integers(1, 539), max_size=5), min_size=1, max_size=20),
    dirty=st.integers(0, 60),
    turns=st.integers(1, 6),
)
def test_a_late_reader_of_a_compacted_log_reaches_the_same_state(
    touches: list[set[int]], dirty: int, turns: int
) -> None:
    table, table_of, log, place = np.zeros((480, 2), np.float32), {}, Log(), None
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(generations, "TURNS", turns)
        for number, rows in enumerate([set[int](), *touches], start=1):
            grown = max(len(table), max(rows, default=0) + 1)  # a row beyond is a new item
            changed = touched(*rows, *range(len(table), grown))
            table = np.concatenate([table, np.zeros((grown - len(table), 2), np.float32)])
            table[sorted(rows)] = number
            table_of[number] = table
            of = Weights({}, {"item_vectors": table}, {"norm": np.full(2, number, np.float32)})
            records, place = encode_generation(of, "champion", number, 1, touched=changed, before=place)
            log += records
    split = max(0, len(log) - dirty)  # the newest part of a log is not compacted yet
    present, late = read(log), read(compacted(log[:split]) + log[split:])

    assert len(present) == len(touches) + 1
    for reader in (present, late):
        for at, generation in enumerate(reader, start=1):
            np.testing.assert_array_equal(state(reader[:at]), table_of[generation.generation])
    assert late[-1].generation == present[-1].generation
    np.testing.assert_array_equal(late[-1].dense["norm"], present[-1].dense["norm"])


def test_a_withdrawn_slot_begins_anew_with_all_of_its_rows() -> None:
    assembler = GenerationAssembler("challenger")
    read(whole(1, "challenger"), assembler)
    [(key, value)] = withdrawal("challenger")
    assert assembler.feed(key, value) is None
    increment, _ = encode_generation(weights(), "challenger", 2, 1, touched=touched(0), before=Place(1, 320))
    assert read(increment, assembler) == []
    [third] = read(whole(3, "challenger"), assembler)
    assert third.tables["item_vectors"].rows_U.tolist() == list(range(320))


def test_a_generation_of_fewer_rows_reaches_a_late_reader_without_the_rows_beyond() -> None:
    [late] = read(compacted([*whole(7, rows=320), *whole(8, rows=100)]))
    assert (late.generation, late.rows) == (8, 100)
    assert late.tables["item_vectors"].rows_U.tolist() == list(range(100))
    assert (late.tables["item_vectors"].values == 8.0).all()
