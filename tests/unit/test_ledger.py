"""A ledger takes each offset once, in whatever order and however often it comes, and forgets only what is long past."""

from pathlib import Path

from engine.online.checkpoint import read_checkpoint, write_checkpoint
from streams.learning.ledger import WINDOW, Ledger


def test_offsets_of_several_users_come_out_of_order_and_each_is_taken() -> None:
    ledger = Ledger()
    assert [ledger.take(offset) for offset in (5, 9, 6, 7)] == [True] * 4
    assert (ledger.newest, ledger.taken) == (9, 4)


def test_an_offset_that_comes_again_is_not_taken_again() -> None:
    ledger = Ledger()
    assert [ledger.take(offset) for offset in (5, 9, 5, 9, 6, 6)] == [True, True, False, False, True, False]


def test_what_lies_further_back_than_the_window_counts_as_learned() -> None:
    ledger = Ledger()
    assert ledger.take(WINDOW + 10)
    assert not ledger.take(10)
    assert ledger.take(11)


def test_a_place_in_the_window_is_free_again_after_a_round() -> None:
    ledger = Ledger()
    assert ledger.take(3)
    assert ledger.take(3 + WINDOW)
    assert ledger.take(4 + WINDOW)
    assert not ledger.take(3)
    assert ledger.take(9 + 5 * WINDOW)
    assert ledger.take(4 + 5 * WINDOW)


def test_a_restored_ledger_goes_on(tmp_path: Path) -> None:
    ledger = Ledger()
    for offset in (5, 9, 6):
        ledger.take(offset)
    write_checkpoint(tmp_path / "c", {"learned": {3: ledger.state()}})
    restored = Ledger.restored(read_checkpoint(tmp_path / "c")["learned"][3])
    assert [restored.take(offset) for offset in (5, 6, 7, 8, 9, 10)] == [False, False, True, True, False, True]
    assert restored.taken == 6
