"""A ledger takes each offset once, in whatever order and however often it comes, and forgets only what is long past."""

import random
from pathlib import Path

import numpy as np

from engine.online.checkpoint import read_checkpoint, write_checkpoint
from streams.learning.ledger import CHUNK, CHUNKS, Ledger


def test_offsets_of_several_users_come_out_of_order_and_each_is_taken() -> None:
    ledger = Ledger()
    assert [ledger.take(offset) for offset in (5, 9, 6, 7)] == [True] * 4
    assert (ledger.newest, ledger.taken) == (9, 4)


def test_an_offset_that_comes_again_is_not_taken_again() -> None:
    ledger = Ledger()
    assert [ledger.take(offset) for offset in (5, 9, 5, 9, 6, 6)] == [True, True, False, False, True, False]


def test_all_outcomes_of_a_compressed_batch_are_taken_however_many_it_holds() -> None:
    """B.7: with a window of 131,072 offsets, those of the users that came last counted as learned."""
    ledger, offsets = Ledger(), list(range(1_000, 401_000))
    random.Random(0).shuffle(offsets)
    assert all(map(ledger.take, offsets))
    assert not any(map(ledger.take, offsets[::100]))
    assert (ledger.newest, ledger.taken) == (400_999, 400_000)


def test_what_is_older_than_all_that_is_remembered_counts_as_learned() -> None:
    ledger = Ledger()
    for number in range(1, CHUNKS + 1):
        assert ledger.take(number * CHUNK)
    assert not ledger.take(7)  # it would be one chunk too many
    assert ledger.take(CHUNK + 1)
    assert ledger.take((CHUNKS + 1) * CHUNK)
    assert not ledger.take(CHUNK + 2)
    assert ledger.take(2 * CHUNK + 1)
    assert len(ledger._chunks) == CHUNKS


def test_an_offset_far_beyond_all_others_silences_none_of_them() -> None:
    ledger = Ledger()
    assert [ledger.take(offset) for offset in (5, 1 << 60, 6, 7)] == [True] * 4


def test_a_restored_ledger_goes_on(tmp_path: Path) -> None:
    ledger = Ledger()
    for offset in (5, 9, 6, 3 * CHUNK):
        ledger.take(offset)
    write_checkpoint(tmp_path / "c", {"learned": {3: ledger.state(), 4: Ledger().state()}})
    states = read_checkpoint(tmp_path / "c")["learned"]
    restored = Ledger.restored(states[3])
    assert [restored.take(offset) for offset in (5, 6, 7, 8, 9, 10)] == [False, False, True, True, False, True]
    assert [restored.take(offset) for offset in (3 * CHUNK, 3 * CHUNK + 1)] == [False, True]
    assert (restored.taken, Ledger.restored(states[4]).newest) == (8, -1)


def test_a_ledger_of_an_older_release_goes_on() -> None:
    """It held the newest 131,072 offsets, by their rest."""
    newest, learned = 200_000, np.zeros(1 << 17, np.bool_)
    learned[[offset % (1 << 17) for offset in (200_000, 199_998, 100_000)]] = True
    restored = Ledger.restored({"newest": newest, "taken": 7, "learned": np.packbits(learned)})
    oldest = newest - (1 << 17) + 1
    offsets = (200_000, 199_999, 199_998, 100_000, 100_001, oldest, oldest - 1, 5)
    assert [restored.take(offset) for offset in offsets] == [False, True, False, False, True, True, False, False]
    assert restored.taken == 7 + 3
