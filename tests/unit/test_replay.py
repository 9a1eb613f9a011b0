"""The replay buffer holds an even sample of everything it was offered, whole and in bounded memory."""

import numpy as np

from engine.batch import HistoryBatch
from engine.online.replay import Reservoir


def offered(count: int) -> HistoryBatch:
    """History n is n, n + 1."""
    rows = np.repeat(np.arange(1, count + 1, dtype=np.int32), 2)
    rows[1::2] += 1
    return HistoryBatch.of_rows(rows, np.full(count, 2, np.int32))


def test_early_and_late_histories_are_kept_alike() -> None:
    reservoir, generator = Reservoir(100, 5), np.random.default_rng(0)
    reservoir.add(offered(10_000), generator)
    kept = reservoir.sample(100, generator)
    starts = kept.rows_T[kept.offsets_B]
    assert len(reservoir) == len(set(starts.tolist())) == 100
    assert 35 <= (starts <= 5000).sum() <= 65


def test_a_history_comes_back_as_it_was_cut_to_its_newest() -> None:
    reservoir, generator = Reservoir(4, 3), np.random.default_rng(0)
    reservoir.add(HistoryBatch.of([([1, 2, 3, 4], [1, 2, 3, 4], [10, 20, 30, 40])]), generator)
    found = reservoir.sample(9, generator)
    assert found.rows_T.tolist() == [2, 3, 4]
    assert found.types_T.tolist() == [2, 3, 4]
    assert found.times_T.tolist() == [20, 30, 40]


def test_a_restored_buffer_goes_on_alike() -> None:
    first, second = Reservoir(8, 4), Reservoir(8, 4)
    first.add(offered(20), np.random.default_rng(1))
    second.restore(first.state())
    for reservoir in (first, second):
        reservoir.add(offered(30), np.random.default_rng(2))
    sampled = [reservoir.sample(8, np.random.default_rng(3)).rows_T.tolist() for reservoir in (first, second)]
    assert sampled[0] == sampled[1]


def test_an_empty_buffer_gives_no_history() -> None:
    assert len(Reservoir(3, 3).sample(2, np.random.default_rng(0))) == 0
