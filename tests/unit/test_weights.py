"""A generation comes whole or not at all, and a reader that comes late reaches the state of one that was there."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from engine.weights import (
    Arrays,
    Generation,
    GenerationAssembler,
    Weights,
    WeightsError,
    encode_generation,
    load,
    metadata,
    save,
    withdrawal,
)

Log = list[tuple[str, bytes]]


def weights(rows: int = 320, fill: float = 0.0) -> Weights:
    return Weights(
        {"dim": 2},
        {"item_vectors": np.full((rows, 2), fill, np.float32), "neighbour_rows": np.zeros((rows, 3), np.int32)},
        {"norm": np.full(2, fill, np.float32)},
    )


def read(log: Log, assembler: GenerationAssembler | None = None) -> list[Generation]:
    assembler = assembler or GenerationAssembler()
    return [generation for key, value in log if (generation := assembler.feed(key, value))]


def state(generations: list[Generation], rows: int) -> NDArray[np.float32]:
    table = np.full((rows, 2), np.nan, np.float32)
    for generation in generations:
        if len(generation.rows_U):
            table[generation.rows_U] = generation.tables["item_vectors"]
    return table


def compacted(log: Log) -> Log:
    newest = {key: at for at, (key, _) in enumerate(log)}
    return [record for at, record in enumerate(log) if newest[record[0]] == at]


def test_a_saved_file_holds_what_was_saved(tmp_path: Path) -> None:
    path = tmp_path / "1" / "model.safetensors"
    save(weights(fill=1.5), path, {"generation": "7"})

    again = load(path)

    assert again.config == {"dim": 2}
    np.testing.assert_array_equal(again.tables["item_vectors"], weights(fill=1.5).tables["item_vectors"])
    np.testing.assert_array_equal(again.dense["norm"], [1.5, 1.5])
    assert metadata(path)["generation"] == "7"
    assert path.stat().st_mode & 0o777 == 0o644
    assert [entry.name for entry in path.parent.iterdir()] == [path.name]


@pytest.mark.parametrize("content", [b"", b"garbage", b"\xff" * 100])
def test_a_damaged_file_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "f").write_bytes(content)
    with pytest.raises(WeightsError):
        load(tmp_path / "f")


def test_values_that_are_not_finite_are_neither_written_to_the_log_nor_read_from_a_file(tmp_path: Path) -> None:
    broken = weights(fill=np.nan)
    with pytest.raises(WeightsError, match="not finite"):
        encode_generation(broken, None, "champion", 1, 1)
    save(broken, tmp_path / "f")
    with pytest.raises(WeightsError, match="not finite"):
        load(tmp_path / "f")


def test_the_end_mark_alone_makes_a_generation() -> None:
    log = encode_generation(weights(fill=2.0), None, "champion", 5, 3)

    assert [key for key, _ in log] == [
        "champion/dense",
        "champion/rows128/0",
        "champion/rows128/1",
        "champion/rows128/2",
        "champion/end",
    ]
    assert read(log[:-1]) == []
    [generation] = read(log)
    assert (generation.generation, generation.version, generation.rows) == (5, 3, 320)
    assert generation.rows_U.tolist() == list(range(320))
    np.testing.assert_array_equal(generation.dense["norm"], [2.0, 2.0])


def test_touched_rows_travel_with_their_whole_block() -> None:
    log = encode_generation(weights(), [136, 137, 312], "champion", 1, 1)
    assert [key for key, _ in log] == ["champion/dense", "champion/rows128/1", "champion/rows128/2", "champion/end"]


def test_another_slot_is_ignored() -> None:
    assert read(encode_generation(weights(), None, "challenger", 1, 1)) == []


def test_a_reader_of_some_tables_gets_no_others() -> None:
    wanted = GenerationAssembler(tables=frozenset({"neighbour_rows"}))
    [generation] = read(encode_generation(weights(), None, "champion", 1, 1), wanted)
    assert set(generation.tables) == {"neighbour_rows"}
    assert generation.dense == {}


@pytest.mark.parametrize("at", [0, 1, 3, 4])
def test_a_damaged_record_drops_its_generation_and_the_next_one_is_taken(at: int) -> None:
    assembler = GenerationAssembler()
    read(encode_generation(weights(fill=1.0), None, "champion", 1, 1), assembler)
    damaged = encode_generation(weights(fill=2.0), None, "champion", 2, 1)
    key, value = damaged[at]
    value = value[:-1] + bytes([value[-1] ^ 1]) if at < 4 else value[:-3]

    for record in damaged[:at]:
        assert assembler.feed(*record) is None
    with pytest.raises(WeightsError, match=key):
        assembler.feed(key, value)
    assert read(damaged[at + 1 :], assembler) == []

    [third] = read(encode_generation(weights(fill=3.0), None, "champion", 3, 1), assembler)
    assert third.generation == 3
    assert (third.tables["item_vectors"] == 3).all()


def test_blocks_of_different_shape_are_no_generation_and_do_not_stay() -> None:
    assembler = GenerationAssembler()
    read(encode_generation(weights(), None, "champion", 1, 1), assembler)
    log = encode_generation(weights(), None, "champion", 2, 1)
    wide: Arrays = {"item_vectors": np.zeros((320, 9), np.float32), "neighbour_rows": np.zeros((320, 3), np.int32)}
    other = encode_generation(Weights({}, wide, {}), None, "champion", 2, 1)
    with pytest.raises(WeightsError):
        read([*log[:2], other[2], *log[3:]], assembler)
    assert [found.generation for found in read(encode_generation(weights(), [0], "champion", 3, 1), assembler)] == [3]


def test_a_reader_gets_nothing_before_it_has_seen_every_block() -> None:
    assembler = GenerationAssembler()
    assert read(encode_generation(weights(fill=1.0), [136], "champion", 1, 1), assembler) == []
    [second] = read(encode_generation(weights(fill=2.0), [0, 312], "champion", 2, 1), assembler)
    assert second.rows_U.tolist() == list(range(320))
    assert second.tables["item_vectors"][[0, 136, 312], 0].tolist() == [2, 1, 2]


@given(
    touches=st.lists(st.sets(st.integers(1, 479), max_size=5), min_size=1, max_size=6),
    dirty=st.integers(0, 40),
)
def test_a_late_reader_of_a_compacted_log_reaches_the_same_state(touches: list[set[int]], dirty: int) -> None:
    rows = 480
    table = np.zeros((rows, 2), np.float32)
    log: Log = []
    table_of = {}
    for number, touched in enumerate([None, *touches], start=1):
        table = table.copy()
        table[sorted(touched or ())] = number
        table_of[number] = table
        whole = Weights({}, {"item_vectors": table}, {"norm": np.full(2, number, np.float32)})
        log += encode_generation(whole, touched, "champion", number, 1)
    split = max(0, len(log) - dirty)  # the newest part of a log is not compacted yet
    newest = {key: at for at, (key, _) in enumerate(log[:split])}
    seen_late = [log[at] for at in sorted(newest.values())] + log[split:]

    present, late = read(log), read(seen_late)

    assert len(present) == len(touches) + 1
    for reader in (present, late):
        for at, generation in enumerate(reader, start=1):
            np.testing.assert_array_equal(state(reader[:at], rows), table_of[generation.generation])
    assert late[-1].generation == present[-1].generation
    np.testing.assert_array_equal(late[-1].dense["norm"], present[-1].dense["norm"])


def test_a_withdrawn_slot_begins_anew_with_all_of_its_rows() -> None:
    assembler = GenerationAssembler("challenger")
    read(encode_generation(weights(fill=1.0), None, "challenger", 1, 1), assembler)
    [(key, value)] = withdrawal("challenger")
    assert assembler.feed(key, value) is None
    assert read(encode_generation(weights(fill=2.0), [0], "challenger", 2, 1), assembler) == []
    [third] = read(encode_generation(weights(fill=3.0), None, "challenger", 3, 1), assembler)
    assert third.rows_U.tolist() == list(range(320))


def test_a_generation_of_fewer_rows_reaches_a_late_reader_without_the_rows_beyond() -> None:
    log = [*encode_generation(weights(rows=320), None, "champion", 7, 1)]
    log += encode_generation(weights(rows=100, fill=2.0), None, "champion", 8, 1)
    [late] = read(compacted(log))
    assert (late.generation, late.rows, late.rows_U.tolist()) == (8, 100, list(range(100)))
    assert (late.tables["item_vectors"] == 2.0).all()
