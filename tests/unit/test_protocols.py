"""Each protocol asks what its publication asks, and never lets a model learn what it will be asked."""

from pathlib import Path

import numpy as np
import pytest

from engine.evaluation.interactions import DataError, Interactions
from engine.evaluation.protocols import Cases, folds
from streams.files.data_sets import read


def asked(cases: Cases) -> list[tuple[list[int], int]]:
    parts = np.split(cases.histories.rows_T, np.cumsum(cases.histories.lengths_B)[:-1])
    return [(part.tolist(), int(target)) for part, target in zip(parts, cases.targets_B, strict=True)]


@pytest.fixture
def periods(tmp_path: Path) -> Interactions:
    (tmp_path / "0.txt").write_text("s a\ns b\nt a\n")
    (tmp_path / "1.txt").write_text("u b\nu new\nu a\nu b\nv new\nv a\n")
    (tmp_path / "2.txt").write_text("w new\nw a\n")
    return read(tmp_path)


def test_leave_one_out_asks_the_last_and_validates_on_the_one_before(tmp_path: Path) -> None:
    (tmp_path / "s.txt").write_text("u a b c d\nv a b\n")
    (fold,) = folds("leave-one-out", read(tmp_path / "s.txt"))
    assert asked(fold.test) == [([1, 2, 3], 4), ([1], 2)]
    assert asked(fold.validation) == [([1, 2], 3)]
    assert fold.train.rows_T.tolist() == [1, 2]


def test_continual_drops_unseen_items_then_short_sessions_and_asks_every_prefix(periods: Interactions) -> None:
    first, second = folds("continual", periods)
    assert asked(first.test) == [([2], 1), ([2, 1], 2)]  # `new` is dropped, and then v has only one click
    assert first.rows == 3
    assert asked(second.test) == [([3], 1)]
    assert second.rows == 4


def test_continual_marks_what_is_new_since_the_period_before(periods: Interactions) -> None:
    _, second = folds("continual", periods)
    assert second.train.rows_T[second.new_T].tolist() == [2, 3, 1, 2, 3, 1]
    assert second.train.rows_T[~second.new_T].tolist() == [1, 2, 1]


def test_a_time_split_learns_from_nothing_later_than_what_it_asks(tmp_path: Path) -> None:
    lines = "\n".join(f"{user},{item},{time}" for time, (user, item) in enumerate([("u", "a"), ("v", "b")] * 50))
    (tmp_path / "t.csv").write_text(f"user,item,time\n{lines}\n")
    data = read(tmp_path / "t.csv")
    (fold,) = folds("time-split", data)
    assert fold.train.times_T.max() < 80 <= fold.validation.histories.times_T.max()
    assert len(fold.test) == 10
    assert len(fold.validation) == 10


def test_a_time_split_refuses_data_without_an_order(tmp_path: Path) -> None:
    (tmp_path / "s.txt").write_text("u a b\n")
    with pytest.raises(DataError, match="order across users"):
        list(folds("time-split", read(tmp_path / "s.txt")))
