"""The sampled softmax is corrected for how candidates are drawn: on average its sum is the full one."""

import numpy as np
import pytest

from engine.network.negatives import Negatives, draw

ROWS = 40
COUNTS = np.append(0.0, np.geomspace(1, 100, ROWS - 1))


@pytest.mark.parametrize("config", [Negatives(20, 0, False), Negatives(0, 20, False), Negatives(5, 5, True)])
def test_weighting_by_one_over_q_estimates_the_full_sum(config: Negatives) -> None:
    generator = np.random.default_rng(0)
    values = generator.random(ROWS)
    estimates = []
    for _ in range(4000):
        targets = generator.choice(ROWS, 15, p=COUNTS / COUNTS.sum())
        drawn = draw(config, targets, COUNTS, generator)
        estimates.append((values[drawn.rows_C] * np.exp(-drawn.log_q_C)).sum())
    # A Poisson number of draws stands in for a fixed one in q: a few percent at this size of catalogue.
    assert np.mean(estimates) == pytest.approx(values[1:].sum(), rel=0.1)


def test_uniform_negatives_alone_never_hold_a_popular_item_more_often() -> None:
    generator = np.random.default_rng(0)
    drawn = [draw(Negatives(8, 0, False), np.array([3]), COUNTS, generator).rows_C for _ in range(2000)]
    counts = np.bincount(np.concatenate(drawn), minlength=ROWS)[1:]
    assert counts.max() / counts.min() < 1.4


def test_in_batch_negatives_are_the_batchs_targets() -> None:
    drawn = draw(Negatives(0, 0, True), np.array([7, 3, 7]), COUNTS, np.random.default_rng(0))
    assert drawn.rows_C.tolist() == [3, 7]


def test_popular_negatives_are_drawn_by_popularity() -> None:
    counts = np.zeros(ROWS)
    counts[[5, 6]] = 1
    drawn = draw(Negatives(0, 50, False), np.array([1]), counts, np.random.default_rng(0))
    assert drawn.rows_C.tolist() == [5, 6]
